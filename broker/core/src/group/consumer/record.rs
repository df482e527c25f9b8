//! What a consumer group keeps in `__consumer_offsets`, besides offsets: one record each for the group,
//! for its target assignment, and three for each member.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::group::member::{MEMBER_OVERHEAD_BYTES, Protocol};
use crate::{Duration, TopicPartition};

/// Raised when what the members of a group shall have may change. A member's epoch is that of the
/// target assignment which it has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupEpoch(pub i32);

impl GroupEpoch {
    /// Sent by a member that joins, for the first time or again.
    pub const JOIN: Self = Self(0);
    /// Sent by a member that leaves for good.
    pub const LEAVE: Self = Self(-1);
    /// Sent by a static member that leaves and will be back; its epoch until then.
    pub const LEAVE_STATIC: Self = Self(-2);

    pub(super) fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// What a partition that a member has or shall have takes in memory, roughly: in its sets, and in that
/// of all owners.
pub(super) const PARTITION_BYTES: usize = 64;

/// Partitions of any topics.
pub type Partitions = BTreeSet<TopicPartition>;

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMetadata {
    pub epoch: GroupEpoch,
    /// Of the topics that the members subscribe to and their partitions.
    pub metadata_hash: i64,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerMemberMetadata {
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topic_names: Vec<String>,
    pub topic_regex: Option<String>,
    pub rebalance_timeout: Duration,
    /// The assignor that it prefers.
    pub server_assignor: Option<String>,
    /// Set while the member speaks the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
}

impl ConsumerMemberMetadata {
    /// Bytes that it takes in memory; in a record it takes fewer.
    pub(in crate::group) fn bytes(&self) -> usize {
        let optional = [
            &self.instance_id,
            &self.rack_id,
            &self.topic_regex,
            &self.server_assignor,
        ];
        let texts = optional.into_iter().flatten().chain(&self.topic_names);
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols = protocols.map(|protocol| protocol.name.len() + protocol.metadata.len());
        MEMBER_OVERHEAD_BYTES
            + self.client_id.len()
            + self.client_host.len()
            + texts.map(|text| text_bytes(text)).sum::<usize>()
            + protocols.sum::<usize>()
    }
}

pub(super) const fn text_bytes(text: &str) -> usize {
    size_of::<String>() + text.len()
}

/// What a member of a consumer group says in the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    pub session_timeout: Duration,
    /// The assignors that it offers, each with its subscription.
    pub protocols: Vec<Protocol>,
}

/// How far a member is on its way to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has what the epoch that it is in gives it.
    #[default]
    Stable,
    /// It has to give partitions up first.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up yet.
    UnreleasedPartitions,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CurrentAssignment {
    pub epoch: GroupEpoch,
    /// Accepted as well: the answer with the present one may have been lost.
    pub previous_epoch: GroupEpoch,
    pub state: MemberState,
    pub assigned: Partitions,
    pub pending_revocation: Partitions,
}
