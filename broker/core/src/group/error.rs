//! Refusals of the group coordinator; the shell maps each to one Kafka error code.

use alloc::string::String;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("this broker does not coordinate the group; find its coordinator again")]
    NotCoordinator,
    #[error("the coordinator cannot take the request now; try again")]
    CoordinatorNotAvailable,
    #[error("group ids have 1 to {} bytes", super::ID_BYTES_MAX)]
    InvalidGroupId,
    #[error(
        "the session timeout is outside group.min.session.timeout.ms and group.max.session.timeout.ms"
    )]
    InvalidSessionTimeout,
    #[error(
        "a name in the request is longer than {} bytes, or the subscription is too large",
        super::ID_BYTES_MAX
    )]
    InvalidRequest,
    #[error("the member shares no protocol with the group")]
    InconsistentGroupProtocol,
    #[error("the group has group.max.size members")]
    GroupMaxSizeReached,
    /// The first join of a dynamic member hands out an id to come back with (KIP-394).
    #[error("join again as member {member_id}")]
    MemberIdRequired { member_id: String },
    #[error("the group does not know this member; join again")]
    UnknownMemberId,
    #[error("another process uses this group.instance.id")]
    FencedInstanceId,
    #[error("the generation is not the group's current one; join again")]
    IllegalGeneration,
    #[error("the group rebalances; join again")]
    RebalanceInProgress,
    #[error("the offset's metadata is longer than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    #[error("there is no group of this name")]
    GroupIdNotFound,
    #[error("the group has members; stop them first")]
    NonEmptyGroup,
    #[error("a member of the group consumes this topic")]
    SubscribedToTopic,
    #[error("the member's epoch is not the one that the group knows; join again")]
    FencedMemberEpoch,
    #[error(
        "the member's epoch is not the current one; try again with the one of the next heartbeat"
    )]
    StaleMemberEpoch,
    #[error("another member uses this group.instance.id; stop it first")]
    UnreleasedInstanceId,
    #[error("the server assignors are uniform and range")]
    UnsupportedAssignor,
    #[error(
        "the members of a group have at most {} regular expressions",
        super::REGEXES_MAX
    )]
    TooManyRegexes,
    #[error("the group's record is larger than the log accepts")]
    RecordTooLarge,
}

/// Why records did not become durable in `__consumer_offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("this broker no longer leads the partition")]
    NotLeader,
    /// Too few replicas in sync, or not in time. The records may yet become durable.
    #[error("the records were not replicated in time")]
    NotReplicated,
    #[error("the records are larger than the log accepts")]
    TooLarge,
}

impl From<AppendError> for GroupError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotLeader => Self::NotCoordinator,
            AppendError::NotReplicated => Self::CoordinatorNotAvailable,
            AppendError::TooLarge => Self::RecordTooLarge,
        }
    }
}
