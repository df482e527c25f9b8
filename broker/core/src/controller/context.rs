//! What a decision needs from outside: defaults, topic ids, placement, the table of settings.

use alloc::string::String;
use alloc::vec::Vec;

use crate::metadata::ResourceType;
use crate::{BrokerId, TopicId};

/// Everything outside the image that a decision depends on.
pub struct Context<'a> {
    pub defaults: Defaults,
    /// Draws a random topic id; called once for each topic.
    pub new_topic_id: &'a mut dyn FnMut() -> TopicId,
    pub place: &'a Place<'a>,
    pub config_table: &'a dyn ConfigTable,
}

/// Places replicas where a command leaves it to the controller: one list of brokers for each new
/// partition, the preferred leader first. Says in words why it cannot.
pub type Place<'a> = dyn Fn(&PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> + 'a;

/// The broker's static configuration where decisions depend on it. What was set for the topic or
/// for the cluster goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `num.partitions`
    pub num_partitions: u32,
    /// `default.replication.factor`
    pub replication_factor: u32,
    /// `min.insync.replicas`
    pub min_insync_replicas: usize,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election: bool,
}

/// Partitions to place.
#[derive(Clone, Debug)]
pub struct PlacementRequest<'a> {
    /// All registered brokers.
    pub brokers: &'a [PlacementBroker],
    /// Replicas of the topic's partitions so far.
    pub existing: &'a [Vec<BrokerId>],
    /// Number of partitions to add.
    pub partitions: usize,
    pub replication_factor: usize,
}

/// A broker as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementBroker {
    pub id: BrokerId,
    pub rack: Option<String>,
    /// Replicas that the broker has.
    pub replicas: u32,
    /// Partitions that the broker is the preferred leader of.
    pub leaders: u32,
    /// Whether it may get new replicas.
    pub available: bool,
}

/// The settings that topics and brokers have.
pub trait ConfigTable {
    /// Whether `key` exists for this type of resource and takes `value`; says in words why not.
    ///
    /// # Errors
    /// When the key is unknown or not to be changed here, or the value is out of its range.
    fn validate(&self, resource_type: ResourceType, key: &str, value: &str) -> Result<(), String>;

    /// The default of a key whose value is a comma-separated list, `None` for every other key.
    fn list_default(&self, resource_type: ResourceType, key: &str) -> Option<String>;
}
