//! The group coordinator: the groups of one partition of `__consumer_offsets`, of the classic protocol
//! and of the consumer protocol ([`consumer`]).
//!
//! [`Groups`] is a machine over replicated state. What the log holds (committed offsets, and each
//! classic group as of its last completed generation) is changed by [`Groups::apply`], live and while
//! loading. Membership during a rebalance of a classic group lives in memory only: after a change of
//! the coordinator clients join again.
//!
//! Subscriptions and assignments of classic groups are opaque here, so every protocol type and every
//! assignor, eager or cooperative, works.
//!
//! Invariants (tests in `properties.rs`): a group's generation never falls; within one generation a
//! member's assignment never changes; each [`ReplyToken`] is answered once; applying the appended
//! records to a new `Groups` gives the same offsets and the same stable groups.

mod admin;
mod config;
mod consumer;
mod consumer_protocol;
mod effect;
mod error;
mod groups;
mod heartbeat;
mod join;
mod leave;
mod member;
mod membership;
mod offsets;
mod pending;
#[cfg(test)]
mod properties;
mod rebalance;
mod record;
mod requests;
mod storage;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

pub use admin::{GroupDescription, GroupListing, GroupState, MemberDescription};
pub use config::{
    APPENDS_MAX, CONSUMER_MEMBER_BYTES_MAX, GROUPS_MAX, GroupConfig, ID_BYTES_MAX,
    MEMBER_BYTES_MAX, MEMBERS_BYTES_MAX, OFFSETS_MAX, PROTOCOLS_MAX, REGEXES_MAX,
    UNKNOWN_MEMBER_ID,
};
pub use consumer::record::{
    ClassicMemberMetadata, ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment,
    GroupEpoch, MemberState, Partitions,
};
pub use consumer::{
    ConsumerGroupDescription, ConsumerGroupState, ConsumerHeartbeat, ConsumerHeartbeatRequest,
    ConsumerMemberDescription, Topics,
};
pub use effect::{
    AppendId, Effect, Joined, JoinedMember, RebalanceReason, ReplyToken, Response, Synced,
};
pub use error::{AppendError, GroupError};
pub use groups::{Groups, Now};
pub use heartbeat::HeartbeatRequest;
pub use join::{JoinFeatures, JoinRequest};
pub use leave::{LeaveRequest, LeavingMember};
pub use member::Protocol;
pub use offsets::{CommitRequest, DeleteOffsetsRequest, OffsetToCommit};
pub use pending::{Ending, TransactionalCommit};
pub use record::{
    CommittedOffset, Generation, GroupId, GroupMetadata, GroupRecord, MemberMetadata, Opaque,
};
pub use sync::SyncRequest;
