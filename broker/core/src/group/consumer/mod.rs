//! Groups of the consumer protocol (KIP-848): the coordinator decides who has which partition, and
//! brings each member there by its heartbeats.
//!
//! [`ConsumerGroup`] is replicated state: records change it, nothing else does. A change is applied at
//! once and answered when its records are durable; should they fail to become so, the next change
//! writes all of the group again.
//!
//! Invariants (tests in `properties.rs`): a partition is assigned to one member at a time, one that is
//! pending revocation counts; epochs never fall; once nothing changes any more, every member comes to
//! have its target.

mod admin;
mod assignor;
mod classic;
mod heartbeat;
mod membership;
mod migration;
#[cfg(test)]
mod properties;
mod reconcile;
pub(super) mod record;
mod storage;
#[cfg(test)]
mod tests;
mod topics;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

pub use admin::{ConsumerGroupDescription, ConsumerGroupState, ConsumerMemberDescription};
pub use heartbeat::{ConsumerHeartbeat, ConsumerHeartbeatRequest};
pub use topics::Topics;

use super::effect::RebalanceReason;
use super::record::{GroupId, GroupRecord};
use crate::{Time, TopicId, TopicPartition};
use record::{
    ConsumerGroupMetadata, ConsumerMemberMetadata, CurrentAssignment, GroupEpoch, PARTITION_BYTES,
    Partitions,
};
use storage::Unstored;

/// A group of the consumer protocol, without its offsets.
#[derive(Debug, Default)]
pub(super) struct ConsumerGroup {
    pub(super) epoch: GroupEpoch,
    metadata_hash: i64,
    /// The epoch that targets were made for.
    target_epoch: GroupEpoch,
    /// Until when heartbeats make no new ones.
    targets_rest_until: Time,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    /// Who has a partition, or has not given it up yet.
    owners: BTreeMap<TopicPartition, String>,
    /// The topics that members subscribe to as of [`Topics::version`], not from the log.
    subscribed: Option<Subscribed>,
    /// Memory that members take.
    pub(super) member_bytes: usize,
    unstored: Unstored,
}

/// What members subscribe to, looked up.
#[derive(Debug)]
struct Subscribed {
    version: u64,
    partition_counts: BTreeMap<TopicId, u32>,
    names: BTreeMap<String, TopicId>,
    /// Of each regular expression.
    matching: BTreeMap<String, BTreeSet<TopicId>>,
}

#[derive(Debug, Default)]
struct Member {
    /// `None` while the group is loaded and only other records of the member were seen.
    metadata: Option<ConsumerMemberMetadata>,
    target: Partitions,
    current: CurrentAssignment,
    session_deadline: Time,
    /// Until when it has to do what it is asked to: give partitions up, or join again.
    reconcile_deadline: Option<Time>,
}

impl Member {
    fn metadata(&self) -> &ConsumerMemberMetadata {
        self.metadata
            .as_ref()
            .expect("members without metadata are dropped when the group is loaded")
    }

    /// Memory that it takes.
    fn bytes(&self) -> usize {
        let current = &self.current;
        let partitions =
            self.target.len() + current.assigned.len() + current.pending_revocation.len();
        self.metadata
            .as_ref()
            .map_or(0, ConsumerMemberMetadata::bytes)
            + partitions * PARTITION_BYTES
    }
}

/// Records of one decision, applied as they are made.
struct Changes<'a> {
    group: &'a GroupId,
    consumer: &'a mut ConsumerGroup,
    records: Vec<GroupRecord>,
    /// Why the group's epoch was raised.
    reasons: Vec<RebalanceReason>,
}

impl<'a> Changes<'a> {
    fn new(group: &'a GroupId, consumer: &'a mut ConsumerGroup) -> Self {
        Self {
            group,
            consumer,
            records: Vec::new(),
            reasons: Vec::new(),
        }
    }

    fn record(&mut self, record: GroupRecord) {
        self.consumer.apply(&record);
        self.records.push(record);
    }

    fn put_group(&mut self, epoch: GroupEpoch, metadata_hash: i64) {
        self.record(GroupRecord::ConsumerGroupMetadata {
            group: self.group.clone(),
            value: Some(ConsumerGroupMetadata {
                epoch,
                metadata_hash,
            }),
        });
    }

    fn put_member(&mut self, member_id: &str, value: Option<ConsumerMemberMetadata>) {
        self.record(GroupRecord::ConsumerMemberMetadata {
            group: self.group.clone(),
            member_id: member_id.into(),
            value,
        });
    }

    fn put_target_epoch(&mut self, epoch: GroupEpoch) {
        self.record(GroupRecord::ConsumerTargetMetadata {
            group: self.group.clone(),
            value: Some(epoch),
        });
    }

    fn put_target(&mut self, member_id: &str, value: Option<Partitions>) {
        self.record(GroupRecord::ConsumerTargetMember {
            group: self.group.clone(),
            member_id: member_id.into(),
            value,
        });
    }

    fn put_current(&mut self, member_id: &str, value: Option<CurrentAssignment>) {
        self.record(GroupRecord::ConsumerCurrentMember {
            group: self.group.clone(),
            member_id: member_id.into(),
            value,
        });
    }

    fn bump_epoch(&mut self, reason: RebalanceReason) {
        let (epoch, hash) = (self.consumer.epoch.next(), self.consumer.metadata_hash);
        self.put_group(epoch, hash);
        self.reasons.push(reason);
    }

    fn remove_member(&mut self, member_id: &str) {
        self.put_current(member_id, None);
        self.put_target(member_id, None);
        self.put_member(member_id, None);
    }
}

impl ConsumerGroup {
    /// Takes over a record of this group that is not about offsets.
    pub(super) fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroupMetadata { value, .. } => {
                let value = value.unwrap_or(ConsumerGroupMetadata {
                    epoch: GroupEpoch(0),
                    metadata_hash: 0,
                });
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            GroupRecord::ConsumerTargetMetadata { value, .. } => {
                self.target_epoch = value.unwrap_or_default();
            }
            GroupRecord::ConsumerMemberMetadata {
                member_id, value, ..
            } => self.apply_metadata(member_id, value.as_ref()),
            GroupRecord::ConsumerTargetMember {
                member_id, value, ..
            } => {
                let target = value.clone().unwrap_or_default();
                self.change(member_id, |member| member.target = target);
            }
            GroupRecord::ConsumerCurrentMember {
                member_id, value, ..
            } => self.apply_current(member_id, value.as_ref()),
            GroupRecord::GroupMetadata { .. } | GroupRecord::OffsetCommit { .. } => {}
        }
    }

    fn apply_metadata(&mut self, member_id: &str, value: Option<&ConsumerMemberMetadata>) {
        self.subscribed = None;
        let before = self
            .members
            .get(member_id)
            .and_then(|m| m.metadata.as_ref());
        if let Some(instance_id) = before.and_then(|metadata| metadata.instance_id.as_ref())
            && self.static_members.get(instance_id).map(String::as_str) == Some(member_id)
        {
            self.static_members.remove(instance_id);
        }
        if let Some(instance_id) = value.and_then(|metadata| metadata.instance_id.as_ref()) {
            self.static_members
                .insert(instance_id.clone(), member_id.into());
        }
        self.change(member_id, |member| member.metadata = value.cloned());
    }

    fn apply_current(&mut self, member_id: &str, value: Option<&CurrentAssignment>) {
        if let Some(member) = self.members.get(member_id) {
            for partition in member
                .current
                .assigned
                .union(&member.current.pending_revocation)
            {
                if self.owners.get(partition).map(String::as_str) == Some(member_id) {
                    self.owners.remove(partition);
                }
            }
        }
        let current = value.cloned().unwrap_or_default();
        for partition in current.assigned.union(&current.pending_revocation) {
            self.owners.insert(*partition, member_id.into());
        }
        self.change(member_id, |member| {
            member.current = current;
            member.reconcile_deadline = None;
        });
    }

    /// Records of a member come and go one by one.
    fn change(&mut self, member_id: &str, f: impl FnOnce(&mut Member)) {
        let member = self.members.entry(member_id.into()).or_default();
        self.member_bytes -= member.bytes();
        f(member);
        self.member_bytes += member.bytes();
        let is_gone = member.metadata.is_none()
            && member.target.is_empty()
            && member.current == CurrentAssignment::default();
        if is_gone {
            self.members.remove(member_id);
        }
    }

    /// Forgets what the log has of members whose own record it does not have.
    pub(super) fn drop_unknown_members(&mut self) {
        self.members.retain(|_, member| {
            let is_known = member.metadata.is_some();
            self.member_bytes -= if is_known { 0 } else { member.bytes() };
            is_known
        });
        let members = &self.members;
        self.owners.retain(|_, owner| members.contains_key(owner));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn has_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }
}
