//! The controller's answers, in protobuf. Results stand in the order of the request.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::Failure;
use crate::metadata::{Partition, Uuid};

/// Answer to a [`super::Command`].
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Response {
    /// The command as a whole is refused.
    #[prost(message, tag = "1")]
    Failed(Failure),
    /// To the commands with nothing to tell.
    #[prost(message, tag = "2")]
    Accepted(Accepted),
    #[prost(message, tag = "3")]
    RegisterBroker(BrokerRegistered),
    #[prost(message, tag = "4")]
    DrainBroker(BrokerDrained),
    #[prost(message, tag = "5")]
    CreateTopics(CreateTopicsResponse),
    #[prost(message, tag = "6")]
    DeleteTopics(DeleteTopicsResponse),
    #[prost(message, tag = "7")]
    CreatePartitions(CreatePartitionsResponse),
    #[prost(message, tag = "8")]
    AlterConfigs(AlterConfigsResponse),
    #[prost(message, tag = "9")]
    AlterPartitions(AlterPartitionsResponse),
    #[prost(message, tag = "10")]
    AllocateProducerIds(ProducerIdBlock),
    #[prost(message, tag = "11")]
    ElectLeaders(ElectLeadersResponse),
    #[prost(message, tag = "20")]
    AlterReassignments(AlterReassignmentsResponse),
    #[prost(message, tag = "40")]
    PrepareRestart(RestartPrepared),
    #[prost(message, tag = "140")]
    AlterClientQuotas(AlterClientQuotasResponse),
}

/// See [`Response::Accepted`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Accepted {}

/// See [`super::Command::RegisterBroker`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BrokerRegistered {
    #[prost(int64, tag = "1")]
    pub broker_epoch: i64,
}

/// See [`super::Command::DrainBroker`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BrokerDrained {
    /// Partitions that the broker goes on leading, because no other replica can.
    #[prost(uint32, tag = "1")]
    pub leaders_left: u32,
}

/// See [`super::Command::PrepareRestart`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RestartPrepared {
    /// Partitions that the broker leads, and that a live replica takes over once it has caught up.
    #[prost(uint32, tag = "1")]
    pub leaders_left: u32,
    /// Partitions that the broker leads, and that have no other live replica.
    #[prost(uint32, tag = "2")]
    pub leaders_kept: u32,
}

/// See [`super::Command::CreateTopics`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateTopicsResponse {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<TopicCreated>,
}

/// A topic that was created, or why not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopicCreated {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Failure>,
    /// Zero after a failure and for `validate_only`.
    #[prost(message, required, tag = "3")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "4")]
    pub num_partitions: i32,
    #[prost(int32, tag = "5")]
    pub replication_factor: i32,
    /// Settings that differ from the brokers' defaults.
    #[prost(btree_map = "string, string", tag = "6")]
    pub configs: BTreeMap<String, String>,
}

/// See [`super::Command::DeleteTopics`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteTopicsResponse {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<TopicDeleted>,
}

/// A topic that was deleted, or why not. After a failure, name and id are those of the request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopicDeleted {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub topic_id: Option<Uuid>,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
}

/// See [`super::Command::CreatePartitions`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreatePartitionsResponse {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<PartitionsCreated>,
}

/// A topic that has its new partitions, or why not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PartitionsCreated {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub failure: Option<Failure>,
}

/// See [`super::Command::AlterConfigs`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterConfigsResponse {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ConfigAltered>,
}

/// A resource whose configuration is changed, or why not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigAltered {
    #[prost(enumeration = "crate::metadata::ResourceType", tag = "1")]
    pub resource_type: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
}

/// See [`super::Command::AlterClientQuotas`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterClientQuotasResponse {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<ClientQuotaAltered>,
}

/// An entity whose quotas are changed, or why not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClientQuotaAltered {
    #[prost(message, optional, tag = "1")]
    pub failure: Option<Failure>,
}

/// See [`super::Command::AlterPartitions`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterPartitionsResponse {
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<PartitionAltered>,
}

/// The new state of a partition, or why there is none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PartitionAltered {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "2")]
    pub partition: i32,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
    /// Set without a failure.
    #[prost(message, optional, tag = "4")]
    pub state: Option<Partition>,
}

/// Producer ids that the broker may give out: `first` and the `count - 1` after it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ProducerIdBlock {
    #[prost(int64, tag = "1")]
    pub first: i64,
    #[prost(int32, tag = "2")]
    pub count: i32,
}

/// See [`super::Command::ElectLeaders`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ElectLeadersResponse {
    /// Without a failure, the partition has a new leader. A command for all partitions names only
    /// those that have.
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<LeaderElected>,
}

/// Outcome of the election of one partition's leader.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LeaderElected {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "2")]
    pub partition: i32,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
}

/// See [`super::Command::AlterReassignments`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterReassignmentsResponse {
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<ReassignmentAltered>,
}

/// A partition whose reassignment is under way, complete or given up, or why not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReassignmentAltered {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "2")]
    pub partition: i32,
    #[prost(message, optional, tag = "3")]
    pub failure: Option<Failure>,
}
