//! Kafka's error codes.

macro_rules! error_codes {
    ($($(#[$meta:meta])? $name:ident = $code:literal $(, $retriable:ident)?;)*) => {
        /// What a response says went wrong. Names and codes are Kafka's.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($(#[$meta])? $name = $code,)*
        }

        impl ErrorCode {
            /// The error with this code; [`ErrorCode::UnknownServerError`] if there is none, as
            /// Kafka's clients do.
            pub fn from_code(code: i16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::UnknownServerError,
                }
            }

            /// Whether clients try again, usually after refreshing their metadata.
            pub fn retriable(self) -> bool {
                match self {
                    $(Self::$name => error_codes!(@ $($retriable)?),)*
                }
            }
        }
    };
    (@) => { false };
    (@ retriable) => { true };
}

error_codes! {
    UnknownServerError = -1;
    #[default] None = 0;
    OffsetOutOfRange = 1;
    CorruptMessage = 2, retriable;
    UnknownTopicOrPartition = 3, retriable;
    InvalidFetchSize = 4;
    LeaderNotAvailable = 5, retriable;
    NotLeaderOrFollower = 6, retriable;
    RequestTimedOut = 7, retriable;
    BrokerNotAvailable = 8;
    ReplicaNotAvailable = 9, retriable;
    MessageTooLarge = 10;
    StaleControllerEpoch = 11;
    OffsetMetadataTooLarge = 12;
    NetworkException = 13, retriable;
    CoordinatorLoadInProgress = 14, retriable;
    CoordinatorNotAvailable = 15, retriable;
    NotCoordinator = 16, retriable;
    InvalidTopicException = 17;
    RecordListTooLarge = 18;
    NotEnoughReplicas = 19, retriable;
    NotEnoughReplicasAfterAppend = 20, retriable;
    InvalidRequiredAcks = 21;
    IllegalGeneration = 22;
    InconsistentGroupProtocol = 23;
    InvalidGroupId = 24;
    UnknownMemberId = 25;
    InvalidSessionTimeout = 26;
    RebalanceInProgress = 27;
    InvalidCommitOffsetSize = 28;
    TopicAuthorizationFailed = 29;
    GroupAuthorizationFailed = 30;
    ClusterAuthorizationFailed = 31;
    InvalidTimestamp = 32;
    UnsupportedSaslMechanism = 33;
    IllegalSaslState = 34;
    UnsupportedVersion = 35;
    TopicAlreadyExists = 36;
    InvalidPartitions = 37;
    InvalidReplicationFactor = 38;
    InvalidReplicaAssignment = 39;
    InvalidConfig = 40;
    NotController = 41, retriable;
    InvalidRequest = 42;
    UnsupportedForMessageFormat = 43;
    PolicyViolation = 44;
    OutOfOrderSequenceNumber = 45;
    DuplicateSequenceNumber = 46;
    InvalidProducerEpoch = 47;
    InvalidTxnState = 48;
    InvalidProducerIdMapping = 49;
    InvalidTransactionTimeout = 50;
    ConcurrentTransactions = 51;
    TransactionCoordinatorFenced = 52;
    TransactionalIdAuthorizationFailed = 53;
    SecurityDisabled = 54;
    OperationNotAttempted = 55;
    KafkaStorageError = 56, retriable;
    LogDirNotFound = 57;
    SaslAuthenticationFailed = 58;
    UnknownProducerId = 59;
    ReassignmentInProgress = 60;
    DelegationTokenAuthDisabled = 61;
    DelegationTokenNotFound = 62;
    DelegationTokenOwnerMismatch = 63;
    DelegationTokenRequestNotAllowed = 64;
    DelegationTokenAuthorizationFailed = 65;
    DelegationTokenExpired = 66;
    InvalidPrincipalType = 67;
    NonEmptyGroup = 68;
    GroupIdNotFound = 69;
    FetchSessionIdNotFound = 70, retriable;
    InvalidFetchSessionEpoch = 71, retriable;
    ListenerNotFound = 72, retriable;
    TopicDeletionDisabled = 73;
    FencedLeaderEpoch = 74, retriable;
    UnknownLeaderEpoch = 75, retriable;
    UnsupportedCompressionType = 76;
    StaleBrokerEpoch = 77;
    OffsetNotAvailable = 78, retriable;
    MemberIdRequired = 79;
    PreferredLeaderNotAvailable = 80, retriable;
    GroupMaxSizeReached = 81;
    FencedInstanceId = 82;
    EligibleLeadersNotAvailable = 83, retriable;
    ElectionNotNeeded = 84, retriable;
    NoReassignmentInProgress = 85;
    GroupSubscribedToTopic = 86;
    InvalidRecord = 87;
    UnstableOffsetCommit = 88, retriable;
    ThrottlingQuotaExceeded = 89, retriable;
    ProducerFenced = 90;
    ResourceNotFound = 91;
    DuplicateResource = 92;
    UnacceptableCredential = 93;
    InconsistentVoterSet = 94;
    InvalidUpdateVersion = 95;
    FeatureUpdateFailed = 96;
    PrincipalDeserializationFailure = 97;
    SnapshotNotFound = 98;
    PositionOutOfRange = 99;
    UnknownTopicId = 100, retriable;
    DuplicateBrokerRegistration = 101;
    BrokerIdNotRegistered = 102;
    InconsistentTopicId = 103, retriable;
    InconsistentClusterId = 104;
    TransactionalIdNotFound = 105;
    FetchSessionTopicIdError = 106, retriable;
    IneligibleReplica = 107;
    NewLeaderElected = 108;
    OffsetMovedToTieredStorage = 109;
    FencedMemberEpoch = 110;
    UnreleasedInstanceId = 111;
    UnsupportedAssignor = 112;
    StaleMemberEpoch = 113;
    MismatchedEndpointType = 114;
    UnsupportedEndpointType = 115;
    UnknownControllerId = 116;
    UnknownSubscriptionId = 117;
    TelemetryTooLarge = 118;
    InvalidRegistration = 119;
    TransactionAbortable = 120;
    InvalidRecordState = 121;
    ShareSessionNotFound = 122, retriable;
    InvalidShareSessionEpoch = 123, retriable;
    FencedStateEpoch = 124;
    InvalidVoterKey = 125;
    DuplicateVoter = 126;
    VoterNotFound = 127;
    InvalidRegularExpression = 128;
    RebootstrapRequired = 129;
    StreamsInvalidTopology = 130;
    StreamsInvalidTopologyEpoch = 131;
    StreamsTopologyFenced = 132;
    ShareSessionLimitReached = 133, retriable;
}

impl ErrorCode {
    /// Code on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether this is an error at all.
    pub fn is_error(self) -> bool {
        self != Self::None
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::error::ResponseError;

    use super::*;

    #[test]
    fn codes_and_retriability_are_kafkas() {
        for code in -1..200 {
            let theirs = ResponseError::try_from_code(code);
            let known = !matches!(theirs, Some(ResponseError::Unknown(_)));
            let ours = ErrorCode::from_code(code);
            if known {
                let name = theirs.map_or_else(|| "None".into(), |error| format!("{error:?}"));
                assert_eq!((ours.code(), format!("{ours:?}")), (code, name));
                assert_eq!(
                    ours.retriable(),
                    theirs.is_some_and(|error| error.is_retriable())
                );
            } else {
                assert_eq!(ours, ErrorCode::UnknownServerError);
            }
        }
    }
}
