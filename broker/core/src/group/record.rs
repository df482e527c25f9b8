//! What a group keeps in `__consumer_offsets`: the last completed generation and the committed
//! offsets. A record without a value is a tombstone.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::consumer::record::{
    ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment, GroupEpoch, Partitions,
};
use crate::{Duration, LeaderEpoch, Offset, PartitionIndex, Timestamp};

/// A group's name, shared by everything that refers to the group.
pub type GroupId = Arc<str>;

/// Bytes whose meaning only the members know: subscriptions and assignments.
pub type Opaque = Arc<[u8]>;

/// Raised each time a group completes a rebalance; 0 before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub i32);

impl Generation {
    /// Sent by those who commit offsets without being members of the group.
    pub const NONE: Self = Self(-1);

    pub(super) fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// One record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    GroupMetadata {
        group: GroupId,
        value: Option<GroupMetadata>,
    },
    OffsetCommit {
        group: GroupId,
        topic: String,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    },
    ConsumerGroupMetadata {
        group: GroupId,
        value: Option<ConsumerGroupMetadata>,
    },
    ConsumerMemberMetadata {
        group: GroupId,
        member_id: String,
        value: Option<ConsumerMemberMetadata>,
    },
    /// The epoch that target assignments were made for.
    ConsumerTargetMetadata {
        group: GroupId,
        value: Option<GroupEpoch>,
    },
    ConsumerTargetMember {
        group: GroupId,
        member_id: String,
        value: Option<Partitions>,
    },
    ConsumerCurrentMember {
        group: GroupId,
        member_id: String,
        value: Option<CurrentAssignment>,
    },
}

impl GroupRecord {
    /// Whether it only says that something is gone.
    pub(super) const fn is_tombstone(&self) -> bool {
        match self {
            Self::GroupMetadata { value, .. } => value.is_none(),
            Self::OffsetCommit { value, .. } => value.is_none(),
            Self::ConsumerGroupMetadata { value, .. } => value.is_none(),
            Self::ConsumerMemberMetadata { value, .. } => value.is_none(),
            Self::ConsumerTargetMetadata { value, .. } => value.is_none(),
            Self::ConsumerTargetMember { value, .. } => value.is_none(),
            Self::ConsumerCurrentMember { value, .. } => value.is_none(),
        }
    }

    /// Whose record it is.
    #[must_use]
    pub const fn group(&self) -> &GroupId {
        match self {
            Self::GroupMetadata { group, .. }
            | Self::OffsetCommit { group, .. }
            | Self::ConsumerGroupMetadata { group, .. }
            | Self::ConsumerMemberMetadata { group, .. }
            | Self::ConsumerTargetMetadata { group, .. }
            | Self::ConsumerTargetMember { group, .. }
            | Self::ConsumerCurrentMember { group, .. } => group,
        }
    }
}

/// A group as of its last completed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `consumer`, `connect`, …; `None` for a group that only holds offsets.
    pub protocol_type: Option<String>,
    pub generation: Generation,
    /// The assignor that the members agreed on; `None` when the group is empty.
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group entered its present state.
    pub state_timestamp: Timestamp,
    pub members: Vec<MemberMetadata>,
}

/// A member as of its group's last completed generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    /// What the member said for the agreed protocol.
    pub subscription: Opaque,
    pub assignment: Opaque,
}

/// Where a group will go on in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// Epoch of the last consumed record, [`LeaderEpoch::NONE`] if the client did not say (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// The client's own text, returned as it came.
    pub metadata: String,
    pub commit_timestamp: Timestamp,
    /// Set by clients of OffsetCommit v2-4 that ask for a retention of their own.
    pub expire_timestamp: Option<Timestamp>,
}
