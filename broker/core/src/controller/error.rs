//! Why the controller refuses a command. Travels between brokers; the shell maps it to Kafka's
//! error codes.

use alloc::string::String;

/// Kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum CommandError {
    /// A kind that this version does not know, or a request that makes no sense.
    InvalidRequest = 0,
    TopicAlreadyExists = 1,
    /// No topic has this name.
    UnknownTopic = 2,
    /// No topic has this id.
    UnknownTopicId = 3,
    /// The topic of this name has another id than was expected.
    InconsistentTopicId = 4,
    UnknownPartition = 5,
    InvalidTopicName = 6,
    InvalidPartitions = 7,
    InvalidReplicationFactor = 8,
    /// A manual assignment of replicas that cannot be.
    InvalidAssignment = 9,
    InvalidConfig = 10,
    /// The resource of a configuration does not exist.
    UnknownResource = 11,
    /// The sender's registration is replaced, fenced out or gone.
    StaleBrokerEpoch = 12,
    /// A live broker has this id.
    DuplicateBrokerId = 13,
    UnknownBroker = 14,
    /// The broker belongs to another cluster.
    InconsistentClusterId = 15,
    /// The sender does not lead the partition, or not in this epoch.
    FencedLeaderEpoch = 16,
    /// The sender does not know the newest state of the partition (KIP-497).
    InvalidPartitionEpoch = 17,
    /// A replica that may not join the ISR (KIP-841).
    IneligibleReplica = 18,
    /// No replica can be elected.
    EligibleLeadersNotAvailable = 19,
    /// The preferred replica cannot be elected.
    PreferredLeaderNotAvailable = 20,
    /// The elected one leads already.
    ElectionNotNeeded = 21,
    /// Not every precondition of the command holds any more.
    PreconditionFailed = 22,
    /// The broker that was asked is not the active controller, or lags behind the sender.
    NotController = 23,
    /// The broker still has replicas.
    BrokerInUse = 24,
    /// A limit of the cluster is reached.
    LimitExceeded = 25,
    /// Committing took too long; the command may or may not take effect. The shell answers so.
    TimedOut = 26,
    /// There is no reassignment to give up.
    NoReassignmentInProgress = 27,
    /// A feature cannot be finalized at that level.
    FeatureUpdateFailed = 60,
    /// The broker does not support the levels at which features are finalized.
    UnsupportedFeatureLevel = 61,
    /// A later operator has taken over from the sender.
    StaleOperatorEpoch = 110,
}

/// A refusal with its reason, for people.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Failure {
    #[prost(enumeration = "CommandError", tag = "1")]
    pub error: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Failure {
    /// A refusal of kind `error`; `message` says what to do.
    pub fn new(error: CommandError, message: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            message: message.into(),
        }
    }
}
