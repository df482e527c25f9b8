//! The records of the metadata log, in protobuf.
//!
//! Tags are part of the on-disk format: never reuse one, only add. An unknown variant is an error
//! on decoding, because a broker that skips a record no longer has the cluster's state.

use alloc::string::String;
use alloc::vec::Vec;

use prost::Message as _;

use crate::TopicId;
use crate::client_quota::{self, EntityName};
use crate::quorum::DirectoryId;

/// One change of the cluster's state.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Record {
    /// The cluster has this id from now on. First record of every log.
    #[prost(message, tag = "1")]
    Cluster(Cluster),
    /// A feature is finalized at a level.
    #[prost(message, tag = "2")]
    Feature(Feature),
    /// A broker process started and is known, fenced, under a new epoch.
    #[prost(message, tag = "3")]
    RegisterBroker(RegisterBroker),
    /// A broker's availability changes.
    #[prost(message, tag = "4")]
    BrokerChange(BrokerChange),
    /// A broker has left for good.
    #[prost(message, tag = "5")]
    UnregisterBroker(UnregisterBroker),
    /// A topic exists, so far without partitions and configuration.
    #[prost(message, tag = "6")]
    Topic(Topic),
    /// A topic is gone with its partitions and configuration.
    #[prost(message, tag = "7")]
    DeleteTopic(DeleteTopic),
    /// The full state of a partition, new or changed.
    #[prost(message, tag = "8")]
    Partition(Partition),
    /// A configuration key is set or removed.
    #[prost(message, tag = "9")]
    Config(Config),
    /// Producer ids below this one are given out.
    #[prost(message, tag = "10")]
    ProducerIds(ProducerIds),
    /// Broker epochs up to this one are used. Written to snapshots only: elsewhere it follows from
    /// the registrations.
    #[prost(message, tag = "11")]
    BrokerEpochs(BrokerEpochs),
    /// A broker prepares for a restart, or no longer does.
    #[prost(message, tag = "40")]
    RestartLease(RestartLease),
    /// A broker is to lose all its replicas to others, or no longer is.
    #[prost(message, tag = "41")]
    Evacuation(Evacuation),
    /// Every broker is to get its share of the replicas, or that is given up or done.
    #[prost(message, tag = "120")]
    Rebalance(Rebalance),
    /// An operator has taken over from those before it.
    #[prost(message, tag = "110")]
    OperatorEpoch(OperatorEpoch),
    /// A limit of clients is set or removed.
    #[prost(message, tag = "140")]
    ClientQuota(ClientQuota),
}

/// See [`Record::Rebalance`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Rebalance {
    #[prost(bool, tag = "1")]
    pub rebalancing: bool,
}

/// See [`Record::OperatorEpoch`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct OperatorEpoch {
    /// Above every one before.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
}

/// See [`Record::ClientQuota`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClientQuota {
    #[prost(message, required, tag = "1")]
    pub entity: QuotaEntity,
    /// As [`crate::client_quota::QuotaKind::key`].
    #[prost(string, tag = "2")]
    pub key: String,
    /// Per second, as [`crate::client_quota::QuotaKind`] counts; `None` removes the quota.
    #[prost(uint64, optional, tag = "3")]
    pub value: Option<u64>,
}

/// Whom a quota limits.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QuotaEntity {
    #[prost(message, optional, tag = "1")]
    pub user: Option<QuotaEntityName>,
    #[prost(message, optional, tag = "2")]
    pub client_id: Option<QuotaEntityName>,
    #[prost(message, optional, tag = "3")]
    pub ip: Option<QuotaEntityName>,
}

/// A user, a client id or an address.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QuotaEntityName {
    /// `None` for the default of all without a quota by name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
}

impl From<QuotaEntityName> for EntityName {
    fn from(name: QuotaEntityName) -> Self {
        name.name.map_or(Self::Default, Self::Named)
    }
}

impl From<EntityName> for QuotaEntityName {
    fn from(name: EntityName) -> Self {
        let name = match name {
            EntityName::Default => None,
            EntityName::Named(name) => Some(name),
        };
        Self { name }
    }
}

impl From<QuotaEntity> for client_quota::QuotaEntity {
    fn from(entity: QuotaEntity) -> Self {
        Self {
            user: entity.user.map(Into::into),
            client_id: entity.client_id.map(Into::into),
            ip: entity.ip.map(Into::into),
        }
    }
}

impl From<client_quota::QuotaEntity> for QuotaEntity {
    fn from(entity: client_quota::QuotaEntity) -> Self {
        Self {
            user: entity.user.map(Into::into),
            client_id: entity.client_id.map(Into::into),
            ip: entity.ip.map(Into::into),
        }
    }
}

/// See [`Record::Cluster`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Cluster {
    #[prost(string, tag = "1")]
    pub cluster_id: String,
}

/// See [`Record::Feature`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Feature {
    #[prost(string, tag = "1")]
    pub name: String,
    /// 0 removes the feature.
    #[prost(uint32, tag = "2")]
    pub level: u32,
}

/// See [`Record::RegisterBroker`]. Registering again replaces everything but `cordoned` and
/// an evacuation.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterBroker {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Above every epoch given out before, to any broker.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// UUID of the broker process, new at every start.
    #[prost(string, tag = "3")]
    pub incarnation: String,
    /// Version of the broker software.
    #[prost(string, tag = "4")]
    pub version: String,
    #[prost(string, optional, tag = "5")]
    pub rack: Option<String>,
    /// Where clients find the broker, one for each listener.
    #[prost(message, repeated, tag = "6")]
    pub endpoints: Vec<Endpoint>,
    /// Where brokers and the operator find the broker's gRPC server.
    #[prost(string, tag = "7")]
    pub rpc_host: String,
    #[prost(uint32, tag = "8")]
    pub rpc_port: u32,
    /// When the broker process started, in milliseconds since 1970; 0 when it did not say.
    #[prost(int64, tag = "40")]
    pub started_at_ms: i64,
    /// Tells one configuration file and its overrides from another; empty when it did not say.
    #[prost(string, tag = "41")]
    pub config_hash: String,
    /// Id of the directory with the broker's metadata log.
    #[prost(message, optional, tag = "25")]
    pub metadata_directory_id: Option<Uuid>,
    /// Features that the broker supports.
    #[prost(message, repeated, tag = "26")]
    pub features: Vec<FeatureRange>,
    /// The registration that the broker's disks knew of when it asked for this one, if it was the
    /// broker's last.
    #[prost(int64, optional, tag = "100")]
    pub disks_broker_epoch: Option<i64>,
}

/// Levels of a feature that a broker supports.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FeatureRange {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub min_level: u32,
    #[prost(uint32, tag = "3")]
    pub max_level: u32,
}

/// An advertised address of a broker.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Endpoint {
    #[prost(string, tag = "1")]
    pub listener: String,
    #[prost(string, tag = "2")]
    pub host: String,
    #[prost(uint32, tag = "3")]
    pub port: u32,
}

/// See [`Record::BrokerChange`]. What is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BrokerChange {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// The registration that is changed.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// Not alive: neither leads nor is in sync.
    #[prost(bool, optional, tag = "3")]
    pub fenced: Option<bool>,
    /// In controlled shutdown: alive, but gives its leaders away and is not elected.
    #[prost(bool, optional, tag = "4")]
    pub draining: Option<bool>,
    /// Gets no new replicas. Survives a new registration.
    #[prost(bool, optional, tag = "5")]
    pub cordoned: Option<bool>,
}

/// See [`Record::UnregisterBroker`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnregisterBroker {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
}

/// See [`Record::Topic`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Topic {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    #[prost(string, tag = "2")]
    pub name: String,
}

/// See [`Record::DeleteTopic`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteTopic {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
}

/// See [`Record::Partition`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Partition {
    #[prost(message, required, tag = "1")]
    pub topic_id: Uuid,
    /// At most one above the topic's last partition.
    #[prost(int32, tag = "2")]
    pub partition: i32,
    /// The first one is the preferred leader.
    #[prost(int32, repeated, tag = "3")]
    pub replicas: Vec<i32>,
    #[prost(int32, repeated, tag = "4")]
    pub isr: Vec<i32>,
    /// Eligible leader replicas: out of the ISR, yet with all that was acknowledged (KIP-966).
    #[prost(int32, repeated, tag = "5")]
    pub elr: Vec<i32>,
    /// Last members of ISR or ELR that may have lost data by an unclean shutdown (KIP-966).
    #[prost(int32, repeated, tag = "6")]
    pub last_known_elr: Vec<i32>,
    /// -1 for none.
    #[prost(int32, tag = "7")]
    pub leader: i32,
    #[prost(int32, tag = "8")]
    pub leader_epoch: i32,
    #[prost(int32, tag = "9")]
    pub partition_epoch: i32,
    /// Replicas a reassignment is adding.
    #[prost(int32, repeated, tag = "10")]
    pub adding: Vec<i32>,
    /// Replicas a reassignment will remove.
    #[prost(int32, repeated, tag = "11")]
    pub removing: Vec<i32>,
    /// Replicas whose log cannot be used (KIP-112).
    #[prost(int32, repeated, tag = "30")]
    pub offline: Vec<i32>,
    /// Replicas on a slow disk.
    #[prost(int32, repeated, tag = "31")]
    pub slow: Vec<i32>,
    /// Replicas that gave up a damaged log and were not in sync since.
    #[prost(int32, repeated, tag = "58")]
    pub rebuilding: Vec<i32>,
    /// Replicas before the reassignment in progress, empty without one.
    #[prost(int32, repeated, tag = "20")]
    pub original: Vec<i32>,
    /// The reassignment in progress replaces replicas of dead brokers.
    #[prost(bool, tag = "63")]
    pub replaces_dead: bool,
    /// The reassignment in progress is part of a rebalance.
    #[prost(bool, tag = "120")]
    pub rebalances: bool,
}

/// See [`Record::Config`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Config {
    #[prost(enumeration = "ResourceType", tag = "1")]
    pub resource_type: i32,
    /// Topic name or broker id; empty for the cluster's default.
    #[prost(string, tag = "2")]
    pub resource_name: String,
    #[prost(string, tag = "3")]
    pub key: String,
    /// `None` removes the key.
    #[prost(string, optional, tag = "4")]
    pub value: Option<String>,
}

/// What a configuration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ResourceType {
    /// Never stored; stands for a value from a newer version.
    Unknown = 0,
    Topic = 1,
    Broker = 2,
    /// Default of all brokers, Kafka's broker resource with an empty name.
    ClusterDefault = 3,
}

/// See [`Record::ProducerIds`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProducerIds {
    #[prost(int64, tag = "1")]
    pub next_producer_id: i64,
}

/// See [`Record::BrokerEpochs`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BrokerEpochs {
    #[prost(int64, tag = "1")]
    pub last_broker_epoch: i64,
}

/// See [`Record::RestartLease`]. A new registration of the broker ends the lease.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RestartLease {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// The registration that is to be restarted.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// How long the lease holds from when a controller learns of it; 0 ends it.
    #[prost(uint64, tag = "3")]
    pub ttl_ms: u64,
    /// Counts the leases of a registration, so that a renewal is seen.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
}

/// See [`Record::Evacuation`]. Survives a new registration of the broker.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Evacuation {
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    #[prost(bool, tag = "2")]
    pub evacuating: bool,
}

/// A UUID in protobuf.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Uuid {
    #[prost(fixed64, tag = "1")]
    pub high: u64,
    #[prost(fixed64, tag = "2")]
    pub low: u64,
}

impl From<TopicId> for Uuid {
    fn from(id: TopicId) -> Self {
        let bits = u128::from_be_bytes(id.0);
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }
}

impl From<DirectoryId> for Uuid {
    fn from(id: DirectoryId) -> Self {
        TopicId(id.0).into()
    }
}

impl From<Uuid> for DirectoryId {
    fn from(uuid: Uuid) -> Self {
        Self(TopicId::from(uuid).0)
    }
}

impl From<Uuid> for TopicId {
    fn from(uuid: Uuid) -> Self {
        let bits = (u128::from(uuid.high) << 64) | u128::from(uuid.low);
        Self(bits.to_be_bytes())
    }
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeRecordError {
    /// The bytes are no protobuf message of this shape.
    #[error("metadata record is malformed: {0}")]
    Malformed(prost::DecodeError),
    /// Empty, or a variant that a newer version has added.
    #[error("metadata record is empty or of a kind this version does not know; upgrade the broker")]
    UnknownKind,
}

/// The message around the oneof: a oneof on its own is no message.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(
        oneof = "Record",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 40, 41, 110, 120, 140"
    )]
    record: Option<Record>,
}

impl Record {
    /// The record in the format of the metadata log.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed or of a kind that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeRecordError> {
        Envelope::decode(bytes)
            .map_err(DecodeRecordError::Malformed)?
            .record
            .ok_or(DecodeRecordError::UnknownKind)
    }
}
