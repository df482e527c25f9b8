//! What brokers and the operator ask of the controller, in protobuf: commands are forwarded to the
//! active controller.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::metadata::{self, Evacuation, QuotaEntity, Rebalance, ResourceType, RestartLease, Uuid};

/// A request to change the cluster's state.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Command {
    /// Gives a new cluster its id. Refused for a cluster of another id.
    #[prost(message, tag = "1")]
    InitializeCluster(InitializeCluster),
    /// A broker process has started. It stays fenced until [`Command::UnfenceBroker`].
    #[prost(message, boxed, tag = "2")]
    RegisterBroker(Box<RegisterBroker>),
    /// A broker is not heard of any more.
    #[prost(message, tag = "3")]
    FenceBroker(BrokerRef),
    /// A broker has caught up with the metadata log and its heartbeats arrive.
    #[prost(message, tag = "4")]
    UnfenceBroker(BrokerRef),
    /// A broker shuts down: it leaves the ISR wherever others remain, and gives its leaders away.
    #[prost(message, tag = "5")]
    DrainBroker(BrokerRef),
    /// A broker gets no new replicas from now on, or does again.
    #[prost(message, tag = "6")]
    CordonBroker(CordonBroker),
    /// A fenced broker without replicas is forgotten.
    #[prost(message, tag = "7")]
    UnregisterBroker(UnregisterBroker),
    #[prost(message, tag = "8")]
    CreateTopics(CreateTopics),
    #[prost(message, tag = "9")]
    DeleteTopics(DeleteTopics),
    #[prost(message, tag = "10")]
    CreatePartitions(CreatePartitions),
    #[prost(message, tag = "11")]
    AlterConfigs(AlterConfigs),
    /// A leader changes the ISR of its partitions (KIP-497).
    #[prost(message, tag = "12")]
    AlterPartitions(AlterPartitions),
    /// A broker wants a block of producer ids.
    #[prost(message, tag = "13")]
    AllocateProducerIds(BrokerRef),
    #[prost(message, tag = "14")]
    ElectLeaders(ElectLeaders),
    /// The disks below some of a broker's replicas have failed, become slow, or are well again.
    #[prost(message, tag = "30")]
    AlterReplicaHealth(AlterReplicaHealth),
    /// Moves replicas of partitions, or gives it up (KIP-455).
    #[prost(message, tag = "20")]
    AlterReassignments(AlterReassignments),
    /// A broker is about to be restarted: others lead its partitions, for a limited time.
    #[prost(message, tag = "40")]
    PrepareRestart(PrepareRestart),
    /// The time that was given to a restart has passed.
    #[prost(message, tag = "41")]
    ExpireRestartLease(RestartLease),
    /// All replicas of a broker are to be moved to others, or no longer.
    #[prost(message, tag = "42")]
    EvacuateBroker(Evacuation),
    /// Replicas are to be moved until every broker has its share, or no longer.
    #[prost(message, tag = "120")]
    Rebalance(Rebalance),
    /// Finalizes features at other levels, all or none.
    #[prost(message, tag = "25")]
    UpdateFeatures(UpdateFeatures),
    /// Sets and removes limits of clients (KIP-546).
    #[prost(message, tag = "140")]
    AlterClientQuotas(AlterClientQuotas),
    /// Another command, unless a later operator has taken over from the one that sends it.
    #[prost(message, tag = "110")]
    FromOperator(FromOperator),
}

/// See [`Command::FromOperator`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FromOperator {
    /// Above those of all operators before.
    #[prost(uint64, tag = "1")]
    pub operator_epoch: u64,
    /// [`Command::to_bytes`]; empty to take over and do nothing.
    #[prost(bytes = "vec", tag = "2")]
    pub command: Vec<u8>,
}

/// See [`Command::InitializeCluster`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InitializeCluster {
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Features to finalize, by name.
    #[prost(btree_map = "string, uint32", tag = "2")]
    pub features: BTreeMap<String, u32>,
}

/// See [`Command::UpdateFeatures`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateFeatures {
    #[prost(message, repeated, tag = "1")]
    pub updates: Vec<FeatureUpdate>,
    /// Answer only; change nothing.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
}

/// A feature and the level wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FeatureUpdate {
    #[prost(string, tag = "1")]
    pub name: String,
    /// 0: no longer finalized.
    #[prost(uint32, tag = "2")]
    pub level: u32,
    #[prost(enumeration = "UpgradeType", tag = "3")]
    pub upgrade_type: i32,
}

/// In which direction a feature may go (KIP-778).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UpgradeType {
    Upgrade = 0,
    SafeDowngrade = 1,
    /// May lose metadata that the lower level has no place for.
    UnsafeDowngrade = 2,
}

/// See [`Command::RegisterBroker`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterBroker {
    /// The cluster that the broker's disks belong to.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// `broker_epoch` is ignored: the controller gives one.
    #[prost(message, required, tag = "2")]
    pub registration: metadata::RegisterBroker,
    /// Epoch of the registration under which the broker last stopped cleanly, so that nothing it
    /// acknowledged can be lost; -1 for an unclean stop or empty disks (KIP-966).
    #[prost(int64, tag = "3")]
    pub previous_broker_epoch: i64,
    /// Epoch of the last registration that the broker's disks know of, however it ended; -1 for
    /// empty disks.
    #[prost(int64, tag = "35")]
    pub disks_broker_epoch: i64,
}

/// A broker in one of its registrations.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BrokerRef {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
}

/// See [`Command::CordonBroker`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CordonBroker {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    #[prost(bool, tag = "2")]
    pub cordoned: bool,
}

/// See [`Command::PrepareRestart`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PrepareRestart {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Refuse when another process has registered under the id since.
    #[prost(string, tag = "2")]
    pub incarnation: String,
    /// How long the lease holds; 0 ends it at once.
    #[prost(uint64, tag = "3")]
    pub ttl_ms: u64,
}

/// See [`Command::UnregisterBroker`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnregisterBroker {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Refuse when another process has registered under the id since.
    #[prost(string, optional, tag = "40")]
    pub expected_incarnation: Option<String>,
}

/// See [`Command::CreateTopics`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateTopics {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<NewTopic>,
    /// Answer only; create nothing.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewTopic {
    #[prost(string, tag = "1")]
    pub name: String,
    /// -1 for `num.partitions`, or when `assignments` are given.
    #[prost(int32, tag = "2")]
    pub num_partitions: i32,
    /// -1 for `default.replication.factor`, or when `assignments` are given.
    #[prost(int32, tag = "3")]
    pub replication_factor: i32,
    /// Replicas of every partition; empty to let the controller place them.
    #[prost(message, repeated, tag = "4")]
    pub assignments: Vec<Assignment>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub configs: BTreeMap<String, String>,
}

/// Where the replicas of a partition go, the preferred leader first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Assignment {
    #[prost(int32, tag = "1")]
    pub partition: i32,
    #[prost(int32, repeated, tag = "2")]
    pub replicas: Vec<i32>,
}

/// See [`Command::DeleteTopics`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteTopics {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<TopicRef>,
}

/// A topic by name, by id, or by both: then they must belong together.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopicRef {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub topic_id: Option<Uuid>,
}

/// See [`Command::CreatePartitions`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreatePartitions {
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<NewPartitions>,
    /// Answer only; create nothing.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
}

/// Partitions to add to a topic.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewPartitions {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Number of partitions that the topic shall have in all.
    #[prost(int32, tag = "2")]
    pub count: i32,
    /// Replicas of the added partitions; empty to let the controller place them.
    #[prost(message, repeated, tag = "3")]
    pub assignments: Vec<Assignment>,
    /// Refuse when the topic has been made anew since.
    #[prost(message, optional, tag = "4")]
    pub expected_topic_id: Option<Uuid>,
    /// Refuse when the topic does not have this many partitions.
    #[prost(int32, optional, tag = "5")]
    pub expected_count: Option<i32>,
}

/// See [`Command::AlterConfigs`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterConfigs {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<ConfigResource>,
    /// Answer only; change nothing.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
}

/// Changes of one resource's configuration, all or none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigResource {
    #[prost(enumeration = "ResourceType", tag = "1")]
    pub resource_type: i32,
    /// Topic name or broker id; empty for the cluster's default.
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(enumeration = "AlterMode", tag = "3")]
    pub mode: i32,
    #[prost(message, repeated, tag = "4")]
    pub ops: Vec<ConfigOp>,
}

/// What happens to keys that a [`ConfigResource`] does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AlterMode {
    /// They stay (IncrementalAlterConfigs, KIP-339).
    Incremental = 0,
    /// They are removed (AlterConfigs).
    Replace = 1,
}

/// Change of one key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigOp {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(enumeration = "ConfigOpType", tag = "2")]
    pub op: i32,
    #[prost(string, optional, tag = "3")]
    pub value: Option<String>,
}

/// How a [`ConfigOp`] changes its key (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ConfigOpType {
    Set = 0,
    Delete = 1,
    /// Adds elements to a comma-separated list.
    Append = 2,
    /// Removes elements from a comma-separated list.
    Subtract = 3,
}

/// See [`Command::AlterClientQuotas`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterClientQuotas {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<AlterClientQuota>,
    /// Answer only; change nothing.
    #[prost(bool, tag = "2")]
    pub validate_only: bool,
}

/// Changes of one entity's quotas, all or none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterClientQuota {
    #[prost(message, required, tag = "1")]
    pub entity: QuotaEntity,
    #[prost(message, repeated, tag = "2")]
    pub ops: Vec<QuotaOp>,
}

/// Change of one quota.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QuotaOp {
    /// As [`crate::client_quota::QuotaKind::key`].
    #[prost(string, tag = "1")]
    pub key: String,
    /// `None` removes the quota.
    #[prost(uint64, optional, tag = "2")]
    pub value: Option<u64>,
}

/// See [`Command::AlterPartitions`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterPartitions {
    /// The leader that asks.
    #[prost(message, required, tag = "1")]
    pub leader: BrokerRef,
    #[prost(message, repeated, tag = "2")]
    pub partitions: Vec<AlterPartition>,
}

/// A new ISR for one partition.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterPartition {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "2")]
    pub partition: i32,
    #[prost(int32, tag = "3")]
    pub leader_epoch: i32,
    #[prost(int32, tag = "4")]
    pub partition_epoch: i32,
    /// The members with the registrations under which the leader saw them catch up (KIP-903).
    #[prost(message, repeated, tag = "5")]
    pub new_isr: Vec<BrokerRef>,
}

/// See [`Command::ElectLeaders`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ElectLeaders {
    #[prost(enumeration = "ElectionType", tag = "1")]
    pub election_type: i32,
    /// Empty for all partitions that need it, bounded for one command.
    #[prost(message, repeated, tag = "2")]
    pub partitions: Vec<PartitionRef>,
}

/// Who shall be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ElectionType {
    /// The first replica, when in sync.
    Preferred = 0,
    /// Any live replica of a partition without leader, at the price of acknowledged records.
    Unclean = 1,
}

/// See [`Command::AlterReassignments`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterReassignments {
    #[prost(message, repeated, tag = "1")]
    pub partitions: Vec<Reassignment>,
    /// Refuse targets with more or fewer replicas than the partition has or will have (KIP-860).
    #[prost(bool, tag = "2")]
    pub keep_replication_factor: bool,
    /// The targets have other brokers in the places of dead ones.
    #[prost(bool, tag = "63")]
    pub replaces_dead: bool,
    /// The targets give every broker its share.
    #[prost(bool, tag = "120")]
    pub rebalances: bool,
}

/// Where the replicas of one partition shall go.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Reassignment {
    #[prost(message, required, tag = "1")]
    pub partition: PartitionRef,
    /// `None` gives up the reassignment in progress.
    #[prost(message, optional, tag = "2")]
    pub target: Option<TargetReplicas>,
}

/// See [`Reassignment::target`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TargetReplicas {
    /// The preferred leader first.
    #[prost(int32, repeated, tag = "1")]
    pub replicas: Vec<i32>,
}

/// A partition by its identity.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PartitionRef {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(int32, tag = "2")]
    pub partition: i32,
}

/// See [`Command::AlterReplicaHealth`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AlterReplicaHealth {
    /// The broker that has the replicas.
    #[prost(message, required, tag = "1")]
    pub broker: BrokerRef,
    /// Those that are not among the broker's replicas any more are passed over.
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaHealthChange>,
}

/// The health of one replica from now on.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicaHealthChange {
    #[prost(message, required, tag = "1")]
    pub partition: PartitionRef,
    #[prost(enumeration = "metadata::ReplicaHealth", tag = "2")]
    pub health: i32,
}
