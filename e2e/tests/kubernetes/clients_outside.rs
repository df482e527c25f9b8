//! Clients on this machine reach the cluster by the node port listener.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use klamm_crds::DeletionPolicy;
use klamm_e2e::client::{Java, KafkaClient, Kcat};
use klamm_e2e::kubernetes::Example;
use klamm_e2e::tool::Tool;
use klamm_e2e::{messages, suite};
use tempfile::TempDir;

pub(crate) const MESSAGES: Range<u64> = 0..100_000;
/// What kcat left in it is there until the end.
pub(crate) const KCAT_TOPIC: &str = "kcat-outside";

const PARTITIONS: i32 = 6;
const PRODUCE_LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn kcat(example: &Example) -> Result<()> {
    let kcat = example.kcat().await?;
    example
        .create_topic(KCAT_TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    produce(kcat.producer(KCAT_TOPIC, "none"))?;
    everything_is_there(&kcat)
}

/// Reads the whole topic of kcat.
pub(crate) fn everything_is_there(kcat: &Kcat) -> Result<()> {
    let output = kcat.reader(KCAT_TOPIC).run()?;
    messages::verify(&[messages::parse(&output.stdout)?], MESSAGES)
}

/// In a group, so that the coordinator is reached from outside too.
pub(crate) async fn java(example: &Example) -> Result<()> {
    let topic = "java-outside";
    let java = Java::new(&example.external_bootstrap().await?)?;
    example
        .create_topic(topic, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    produce(reading_messages(java.tool("ConsoleProducer"), topic))?;
    let mut members = [java.member(topic, topic).spawn()?];
    messages::verify(&suite::consume(&mut members, MESSAGES.end)?, MESSAGES)
}

/// Kafka's console producer, with many messages in flight, unlike [`KafkaClient::producer`].
pub(crate) fn reading_messages(console_producer: Tool, topic: &str) -> Tool {
    console_producer
        .args(["--topic", topic, "--request-required-acks", "all"])
        .args(["--property", "parse.key=true"])
        .args(["--property", "key.separator=\t"])
}

/// Gives the messages to a producer.
pub(crate) fn produce(producer: Tool) -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("messages");
    messages::write(&file, MESSAGES)?;
    producer.stdin(&file).time_limit(PRODUCE_LIMIT).run()?;
    Ok(())
}
