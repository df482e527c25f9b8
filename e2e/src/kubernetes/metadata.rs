//! What a broker tells clients about the cluster, read by kcat.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::client::Kcat;

/// Kafka's Metadata.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    pub brokers: Vec<BrokerAddress>,
    pub topics: Vec<TopicMetadata>,
}

/// Where clients find a broker.
#[derive(Debug, Deserialize)]
pub struct BrokerAddress {
    pub id: i32,
    /// Host and port.
    pub name: String,
}

/// A topic.
#[derive(Debug, Deserialize)]
pub struct TopicMetadata {
    pub topic: String,
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition.
#[derive(Debug, Deserialize)]
pub struct PartitionMetadata {
    pub partition: i32,
    /// -1 without one.
    pub leader: i32,
    replicas: Vec<ReplicaMetadata>,
    isrs: Vec<ReplicaMetadata>,
}

#[derive(Debug, Deserialize)]
struct ReplicaMetadata {
    id: i32,
}

impl Metadata {
    /// Asks whichever broker the address leads to.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn read(kcat: &Kcat) -> Result<Self> {
        let output = kcat.tool(&["-L", "-J"]).run()?;
        serde_json::from_str(&output.stdout).context("kcat printed strange metadata")
    }

    /// The partitions of a topic.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn topic(&self, name: &str) -> Result<&[PartitionMetadata]> {
        let topic = self.topics.iter().find(|topic| topic.topic == name);
        let topic = topic.with_context(|| format!("the brokers know no topic {name}"))?;
        Ok(&topic.partitions)
    }

    /// Leaders of all partitions, by topic and partition.
    #[must_use]
    pub fn leaders(&self) -> BTreeMap<(&str, i32), i32> {
        let partitions = self
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.as_str(), p)));
        partitions
            .map(|(topic, p)| ((topic, p.partition), p.leader))
            .collect()
    }

    /// Whether every partition has a leader and all its replicas in sync.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .all(PartitionMetadata::is_in_sync)
    }
}

impl PartitionMetadata {
    /// Ids of the brokers with a replica.
    #[must_use]
    pub fn replicas(&self) -> Vec<i32> {
        self.replicas.iter().map(|replica| replica.id).collect()
    }

    /// Whether there is a leader and every replica is in the ISR.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.leader >= 0 && self.isrs.len() == self.replicas.len()
    }
}
