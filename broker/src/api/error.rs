//! Errors of the domain as Kafka's error codes. The only place where the two meet.

use broker_core::controller::{CommandError, Failure};
use broker_core::fetch_session::SessionError;
use broker_core::partition::{self, EpochError, MarkerError, SequenceError};
use broker_wire::ErrorCode;
use broker_wire::record::BatchError;
use klamm_proto::v1::QuorumRefusedReason;

use crate::controller::{ChangeVotersError, SubmitError};
use crate::log_dirs::DirectoryError;
use crate::partition::{AppendError, DeleteRecordsError, MoveError, ReadError};

/// As older producers hear that another one took over.
pub(super) const fn older_producer_error(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// As older producers hear that their transaction has to be aborted.
pub(super) const fn older_abortable_error(code: ErrorCode, knows_abortable: bool) -> ErrorCode {
    match code {
        ErrorCode::TransactionAbortable if !knows_abortable => ErrorCode::InvalidTxnState,
        code => code,
    }
}

/// An error that Kafka has a code for.
pub(super) trait KafkaError {
    /// The code that clients act on.
    fn error_code(&self) -> ErrorCode;
}

impl KafkaError for AppendError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Refused(partition::AppendError::NotLeader(_)) | Self::Closed => {
                ErrorCode::NotLeaderOrFollower
            }
            Self::Refused(
                partition::AppendError::NotEnoughReplicas { .. }
                | partition::AppendError::BehindAwaited { .. },
            ) => ErrorCode::NotEnoughReplicas,
            Self::Refused(partition::AppendError::TooManyAcks { .. }) => {
                ErrorCode::InvalidRequiredAcks
            }
            Self::Refused(partition::AppendError::Sequence(error)) => error.error_code(),
            // Every client tries this again.
            Self::Refused(partition::AppendError::Unverified) => ErrorCode::NotEnoughReplicas,
            Self::Refused(partition::AppendError::Marker(error)) => error.error_code(),
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::NoKey { .. } | Self::Records(_) => ErrorCode::InvalidRecord,
            Self::Log(error) => error.error_code(),
        }
    }
}

impl KafkaError for SequenceError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::FencedEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::OutsideTransaction => ErrorCode::InvalidTxnState,
            Self::TooManyTransactions => ErrorCode::NotEnoughReplicas,
        }
    }
}

impl KafkaError for MarkerError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::FencedEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::FencedCoordinator { .. } => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

impl KafkaError for broker_log::AppendError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Empty | Self::NotDense { .. } => ErrorCode::InvalidRecord,
            Self::InvalidBatch(error) => error.error_code(),
            Self::TooLarge { .. } => ErrorCode::RecordListTooLarge,
            Self::OutOfOrder { .. } | Self::EpochRegressed { .. } | Self::Storage(_) => {
                ErrorCode::KafkaStorageError
            }
        }
    }
}

impl KafkaError for BatchError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnsupportedMagic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::CrcMismatch { .. } => ErrorCode::CorruptMessage,
            Self::Truncated { .. } | Self::InvalidField { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl KafkaError for ReadError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::Epoch(EpochError::NotLeader(_)) | Self::Closed => ErrorCode::NotLeaderOrFollower,
            Self::Epoch(EpochError::Fenced { .. }) => ErrorCode::FencedLeaderEpoch,
            Self::Epoch(EpochError::Unknown { .. }) => ErrorCode::UnknownLeaderEpoch,
            Self::OutOfRange { .. } | Self::Log(broker_log::ReadError::OutOfRange { .. }) => {
                ErrorCode::OffsetOutOfRange
            }
            Self::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
            Self::Log(_) | Self::Timestamp(_) | Self::Damaged(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl KafkaError for DeleteRecordsError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl KafkaError for MoveError {
    fn error_code(&self) -> ErrorCode {
        use broker_log::LogDirError;
        match self {
            Self::Directory(DirectoryError::Unknown(_)) => ErrorCode::LogDirNotFound,
            Self::NotHere => ErrorCode::ReplicaNotAvailable,
            Self::LogDir(LogDirError::InvalidTopic { .. } | LogDirError::NameTooLong { .. }) => {
                ErrorCode::InvalidTopicException
            }
            Self::Directory(DirectoryError::Offline(_))
            | Self::ReplicaOffline
            | Self::LogDir(_)
            | Self::Open(_)
            | Self::Read(_)
            | Self::Io(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl KafkaError for Failure {
    fn error_code(&self) -> ErrorCode {
        let error = CommandError::try_from(self.error).unwrap_or(CommandError::InvalidRequest);
        match error {
            CommandError::InvalidRequest => ErrorCode::InvalidRequest,
            CommandError::TopicAlreadyExists => ErrorCode::TopicAlreadyExists,
            CommandError::UnknownTopic | CommandError::UnknownPartition => {
                ErrorCode::UnknownTopicOrPartition
            }
            CommandError::UnknownTopicId => ErrorCode::UnknownTopicId,
            CommandError::InconsistentTopicId => ErrorCode::InconsistentTopicId,
            CommandError::InvalidTopicName => ErrorCode::InvalidTopicException,
            CommandError::InvalidPartitions => ErrorCode::InvalidPartitions,
            CommandError::InvalidReplicationFactor => ErrorCode::InvalidReplicationFactor,
            CommandError::InvalidAssignment => ErrorCode::InvalidReplicaAssignment,
            CommandError::InvalidConfig => ErrorCode::InvalidConfig,
            CommandError::UnknownResource => ErrorCode::ResourceNotFound,
            CommandError::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
            CommandError::DuplicateBrokerId => ErrorCode::DuplicateBrokerRegistration,
            CommandError::UnknownBroker => ErrorCode::BrokerIdNotRegistered,
            CommandError::InconsistentClusterId => ErrorCode::InconsistentClusterId,
            CommandError::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
            CommandError::InvalidPartitionEpoch => ErrorCode::InvalidUpdateVersion,
            CommandError::IneligibleReplica => ErrorCode::IneligibleReplica,
            CommandError::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
            CommandError::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            CommandError::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
            CommandError::PreconditionFailed => ErrorCode::InvalidPartitions,
            CommandError::NotController => ErrorCode::NotController,
            CommandError::BrokerInUse | CommandError::LimitExceeded => ErrorCode::PolicyViolation,
            CommandError::TimedOut => ErrorCode::RequestTimedOut,
            CommandError::FeatureUpdateFailed => ErrorCode::InvalidUpdateVersion,
            CommandError::UnsupportedFeatureLevel => ErrorCode::UnsupportedVersion,
            CommandError::StaleOperatorEpoch => ErrorCode::InvalidRequest,
            CommandError::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
        }
    }
}

impl KafkaError for SubmitError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::NoController | Self::OutcomeUnknown => ErrorCode::RequestTimedOut,
            Self::Malformed(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl KafkaError for ChangeVotersError {
    fn error_code(&self) -> ErrorCode {
        let refused = match self {
            Self::Refused(refused) => refused,
            Self::Submit(error) => return error.error_code(),
        };
        match refused.reason() {
            QuorumRefusedReason::UnknownBroker => ErrorCode::BrokerIdNotRegistered,
            QuorumRefusedReason::DirectoryMismatch => ErrorCode::InvalidVoterKey,
            QuorumRefusedReason::DuplicateVoter => ErrorCode::DuplicateVoter,
            QuorumRefusedReason::UnknownVoter => ErrorCode::VoterNotFound,
            QuorumRefusedReason::NotCaughtUp | QuorumRefusedReason::ChangeInProgress => {
                ErrorCode::RequestTimedOut
            }
            QuorumRefusedReason::NoMajority
            | QuorumRefusedReason::LastVoter
            | QuorumRefusedReason::TooMany
            | QuorumRefusedReason::NoSuccessor => ErrorCode::PolicyViolation,
            QuorumRefusedReason::Unspecified | QuorumRefusedReason::Malformed => {
                ErrorCode::InvalidRequest
            }
        }
    }
}

impl KafkaError for SessionError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::FetchSessionIdNotFound,
            Self::InvalidEpoch { .. } => ErrorCode::InvalidFetchSessionEpoch,
            Self::TopicKeyForm => ErrorCode::FetchSessionTopicIdError,
        }
    }
}
