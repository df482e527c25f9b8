//! Kafka clients of other languages behind one face, so that all of them pass the same cases.

mod connect;
mod go;
mod java;
mod java_history;
mod jvm;
mod kcat;
mod klamm;
mod node;
mod program;
mod python;
mod streams;

use anyhow::{Context as _, Result};

pub use connect::{Connect, Worker, file_connector};
pub use go::{franz_go, go_tool, kafka_go, sarama};
pub use java::Java;
pub use java_history::{java_history, java_transactions};
pub use kcat::Kcat;
pub use klamm::Klamm;
pub use node::kafkajs;
pub use program::Program;
pub use python::{
    aiokafka, confluent_kafka, confluent_kafka_history, confluent_kafka_transactions, kafka_python,
};
pub use streams::{Instance, WordCount};

use crate::messages::Delivery;
use crate::process::wait_until;
use crate::suite::TIME_LIMIT;
use crate::tool::{Running, Tool, last_lines};

/// Every codec of the Kafka protocol.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The partitions of topics that [`KafkaClient::ensure_topic`] creates.
pub const PARTITIONS: usize = 6;
const REPLICAS_MAX: usize = 3;

/// What every client can do.
pub trait KafkaClient {
    /// The name, of letters that topics and groups may have.
    fn name(&self) -> &'static str;

    /// The codecs that it has.
    fn codecs(&self) -> &'static [&'static str] {
        &CODECS
    }

    /// Makes sure that the topic is there, with [`PARTITIONS`] partitions; clients that
    /// leave the number to the cluster rely on its configuration for it.
    ///
    /// # Errors
    /// When the cluster refuses it.
    fn ensure_topic(&self, topic: &str) -> Result<()>;

    /// A program that sends the messages of its stdin with acks=all and ends well when all are
    /// acknowledged.
    fn producer(&self, topic: &str, codec: &str) -> Tool;

    /// A program that consumes from the start of the topic, or from where the group is, and prints
    /// each message; when it is told to stop by SIGTERM it commits offsets and leaves the group.
    fn member(&self, topic: &str, group: &str) -> Tool;

    /// Waits until every member has partitions.
    ///
    /// # Errors
    /// When one of them ends, or has none in time.
    fn wait_until_assigned(&self, members: &mut [Running], group: &str) -> Result<()>;
}

/// What the clients of the matrix can do, each with its gaps.
pub trait MatrixClient: KafkaClient {
    /// The version, and that of the library below it.
    ///
    /// # Errors
    /// When the client does not tell.
    fn version(&self) -> Result<String>;

    /// Why it may lose messages when a broker dies, if it may.
    fn loses_messages(&self) -> Option<&'static str> {
        None
    }

    /// Whether it sends again what was not acknowledged without appending it twice.
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    /// As [`KafkaClient::producer`], with `acks` (`all`, `1` or `0`) and without idempotence and
    /// compression.
    fn producer_with_acks(&self, topic: &str, acks: &str) -> Tool;

    /// A program that prints so many messages of a partition from an offset on, or from the start
    /// of the partition if that does not have the offset.
    fn reader_from(&self, topic: &str, partition: i32, offset: i64, count: usize) -> Tool;
}

/// What clients with an admin API can do.
pub trait Admin: KafkaClient {
    /// # Errors
    /// When the cluster refuses it.
    fn create_topic(&self, topic: &str, partitions: usize, replicas: usize) -> Result<()>;

    /// # Errors
    /// When the topic is not there.
    fn describe_topic(&self, topic: &str) -> Result<Vec<PartitionState>>;

    /// # Errors
    /// When the cluster refuses it.
    fn delete_topic(&self, topic: &str) -> Result<()>;

    /// # Errors
    /// When the cluster does not answer.
    fn list_topics(&self) -> Result<Vec<String>>;

    /// The sum of a group's committed offsets in a topic, which is the number of messages that it
    /// has consumed of one that begins at 0.
    ///
    /// # Errors
    /// When the cluster does not answer.
    fn committed(&self, topic: &str, group: &str) -> Result<i64>;
}

/// A partition as an admin client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    pub partition: i32,
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// Waits until the members together have all partitions, and each of them some. `assigned` reads
/// from what a member printed to stderr how many it has.
fn wait_for_partitions(members: &mut [Running], assigned: fn(&str) -> usize) -> Result<()> {
    wait_until("every member has partitions", TIME_LIMIT, || {
        let counts = members.iter().map(|member| assigned(&member.stderr()));
        let counts: Vec<_> = counts.collect();
        counts.iter().all(|&count| count > 0) && counts.iter().sum::<usize>() == PARTITIONS
    })
    .with_context(|| {
        let reports = members
            .iter()
            .map(|member| last_lines(&member.stderr(), 20));
        format!("{:#?}", reports.collect::<Vec<_>>())
    })
}

/// Replicas of topics that clients create: one on each broker that they are told of.
fn replicas(bootstrap: &str) -> usize {
    bootstrap.split(',').count().min(REPLICAS_MAX)
}
