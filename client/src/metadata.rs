//! Who leads what, as a broker told it.

use std::collections::BTreeMap;

use broker_wire::ErrorCode;
use broker_wire::message::MetadataResponse;
use broker_wire::message::metadata::MetadataResponseTopic;

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `node.id`
    pub id: i32,
    /// Host and port for clients.
    pub address: String,
    /// Its zone.
    pub rack: Option<String>,
}

/// A partition and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Leader of the partition, `None` when nobody can lead.
    pub leader: Option<i32>,
    /// Counts elections.
    pub leader_epoch: i32,
    /// The preferred leader first.
    pub replicas: Vec<i32>,
    /// Replicas that have everything.
    pub isr: Vec<i32>,
    /// Replicas that are dead or without disk.
    pub offline: Vec<i32>,
}

/// A topic with its partitions by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Made by the brokers for themselves.
    pub internal: bool,
    /// Sorted by index.
    pub partitions: Vec<Partition>,
}

/// A view of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Generated with the cluster.
    pub cluster_id: Option<String>,
    /// A broker that takes requests which change the cluster.
    pub controller: Option<i32>,
    /// The brokers that are alive.
    pub brokers: BTreeMap<i32, Node>,
    /// What was asked for, and exists.
    pub topics: BTreeMap<String, Topic>,
    /// Topics that were asked for and not found, or could not be told.
    pub failures: BTreeMap<String, ErrorCode>,
}

impl Metadata {
    pub(crate) fn new(response: MetadataResponse) -> Self {
        let mut metadata = Self {
            cluster_id: response.cluster_id.map(|id| id.to_string()),
            controller: known(response.controller_id),
            ..Self::default()
        };
        for broker in response.brokers {
            let node = Node {
                id: broker.node_id,
                address: format!("{}:{}", broker.host, broker.port),
                rack: broker.rack.map(|rack| rack.to_string()),
            };
            metadata.brokers.insert(node.id, node);
        }
        for topic in response.topics {
            let name = topic.name.as_ref().map(ToString::to_string);
            let name = name.unwrap_or_default();
            match topic.error_code {
                ErrorCode::None => {
                    metadata.topics.insert(name.clone(), to_topic(name, topic));
                }
                code => {
                    metadata.failures.insert(name, code);
                }
            }
        }
        metadata
    }

    /// The leader of a partition with its address.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&Node> {
        let topic = self.topics.get(topic)?;
        let found = topic.partitions.iter().find(|p| p.index == partition)?;
        self.brokers.get(&found.leader?)
    }
}

fn to_topic(name: String, topic: MetadataResponseTopic) -> Topic {
    let partitions = topic.partitions.into_iter().map(|partition| Partition {
        index: partition.partition_index,
        leader: known(partition.leader_id),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes,
        isr: partition.isr_nodes,
        offline: partition.offline_replicas,
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.index);
    Topic {
        name,
        internal: topic.is_internal,
        partitions,
    }
}

fn known(id: i32) -> Option<i32> {
    (id >= 0).then_some(id)
}
