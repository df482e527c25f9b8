//! Describing consumer groups.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use super::ConsumerGroup;
use super::record::{ConsumerMemberMetadata, GroupEpoch, MemberState, Partitions};

/// A consumer group's state by its Kafka name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerGroupState {
    Empty,
    /// A new target is due.
    Assigning,
    /// Members are on their way to their target.
    Reconciling,
    Stable,
}

impl fmt::Display for ConsumerGroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A consumer group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    pub state: ConsumerGroupState,
    pub epoch: GroupEpoch,
    pub target_epoch: GroupEpoch,
    pub assignor: String,
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    pub member_id: String,
    pub epoch: GroupEpoch,
    pub metadata: ConsumerMemberMetadata,
    pub assigned: Partitions,
    pub target: Partitions,
}

impl ConsumerGroup {
    pub(in crate::group) fn state(&self) -> ConsumerGroupState {
        let is_there = |member: &super::Member| {
            member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
        };
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch > self.target_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(is_there) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    pub(in crate::group) fn description(&self) -> ConsumerGroupDescription {
        let members = self.members.iter();
        let members = members.map(|(member_id, member)| ConsumerMemberDescription {
            member_id: member_id.clone(),
            epoch: member.current.epoch,
            metadata: member.metadata().clone(),
            assigned: member.current.assigned.clone(),
            target: member.target.clone(),
        });
        ConsumerGroupDescription {
            state: self.state(),
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: self.assignor().to_string(),
            members: members.collect(),
        }
    }
}
