//! A Kafka client: what the `klamm` command is made of.
//!
//! * [`Cluster`] finds brokers, leaders and coordinators, and sends requests to them;
//! * [`Producer`] appends records: to the partition that a record names, else by the hash of its
//!   key, else to one after the other ([`Partitioner`]);
//! * [`Consumer`] reads records: as a member of a group, [`DEFAULT_GROUP`] when none is named, or
//!   the partitions that it is given;
//! * [`admin`] has topics and configurations, [`groups`] the consumer groups.
//!
//! It works with any broker that speaks Kafka's protocol as of 2.8 or later. Nothing goes on in the
//! background: a member of a group has to call [`Consumer::poll`] within its session time-out.
//! Answers are bounded by [`RESPONSE_BYTES_MAX`], decompressed batches by [`BATCH_BYTES_MAX`].

pub mod admin;
mod assignment;
mod cluster;
mod connection;
mod consumer;
mod error;
mod fetched;
mod group;
pub mod groups;
mod metadata;
mod offsets;
mod partitioner;
mod producer;
mod tls;

pub use broker_wire::ErrorCode;
pub use broker_wire::record::Compression;
pub use bytes::Bytes;
pub use cluster::Cluster;
pub use connection::RESPONSE_BYTES_MAX;
pub use consumer::{Consumer, ConsumerOptions, Start};
pub use error::ClientError;
pub use fetched::{BATCH_BYTES_MAX, Consumed};
pub use group::DEFAULT_GROUP;
pub use metadata::{Metadata, Node, Partition, Topic};
pub use partitioner::{Partitioner, murmur2};
pub use producer::{Acks, Appended, Producer, ProducerOptions, Record};
pub use tls::Tls;
