//! The coordinator's refusals as Kafka's error codes.

use broker_core::group::GroupError;
use broker_core::partition::{self, SequenceError};
use broker_wire::ErrorCode;

use crate::partition::AppendError;

/// Why a group's coordinator cannot be asked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("another broker coordinates the group")]
    NotCoordinator,
    #[error("the groups are being loaded")]
    Loading,
}

impl Unavailable {
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
        }
    }
}

pub(super) const fn code(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::InvalidRequest => ErrorCode::InvalidRequest,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::MemberIdRequired { .. } => ErrorCode::MemberIdRequired,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        GroupError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        GroupError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
        GroupError::UnsupportedAssignor => ErrorCode::UnsupportedAssignor,
        GroupError::TooManyRegexes => ErrorCode::InvalidRegularExpression,
        GroupError::RecordTooLarge => ErrorCode::UnknownServerError,
    }
}

pub(super) fn result_code<T>(result: &Result<T, GroupError>) -> ErrorCode {
    result.as_ref().err().map_or(ErrorCode::None, code)
}

/// Of offsets within a transaction. Producers try again whatever is not their own fault.
pub(super) const fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Refused(partition::AppendError::NotLeader(_)) | AppendError::Closed => {
            ErrorCode::NotCoordinator
        }
        AppendError::Refused(partition::AppendError::Sequence(
            SequenceError::FencedEpoch { .. } | SequenceError::OutOfOrder { .. },
        )) => ErrorCode::InvalidProducerEpoch,
        // Until the transaction is verified anew.
        AppendError::Refused(partition::AppendError::Unverified) => {
            ErrorCode::CoordinatorLoadInProgress
        }
        AppendError::TooLarge { .. }
        | AppendError::Log(broker_log::AppendError::TooLarge { .. }) => {
            ErrorCode::InvalidCommitOffsetSize
        }
        AppendError::Refused(_)
        | AppendError::NoKey { .. }
        | AppendError::Records(_)
        | AppendError::Log(_) => ErrorCode::CoordinatorNotAvailable,
    }
}
