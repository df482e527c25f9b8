//! What a group sends to the log, what follows once it is there, and what the log's records change.

use alloc::vec::Vec;

use super::effect::{Context, RebalanceReason, Response, Then};
use super::error::{AppendError, GroupError};
use super::groups::Groups;
use super::member::Member;
use super::membership::{Group, State};
use super::offsets::StoredOffset;
use super::record::{CommittedOffset, GroupMetadata, GroupRecord, Opaque};
use crate::{Offset, PartitionIndex};

impl Groups {
    /// Takes over one committed record that is in the log at `at` or, for those of one batch, not far
    /// behind: all of them, in order, while loading; afterwards
    /// [`handle_appended`](Self::handle_appended) does it. Those of transactions go to
    /// [`apply_pending`](Self::apply_pending) instead.
    pub fn apply(&mut self, record: &GroupRecord, at: Offset) {
        match record {
            GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value,
            } => self.apply_offset(group, topic, *partition, value.clone(), at),
            GroupRecord::GroupMetadata { .. }
            | GroupRecord::ConsumerGroupMetadata { .. }
            | GroupRecord::ConsumerMemberMetadata { .. }
            | GroupRecord::ConsumerTargetMetadata { .. }
            | GroupRecord::ConsumerTargetMember { .. }
            | GroupRecord::ConsumerCurrentMember { .. } => self.apply_group(record),
        }
    }

    /// [`apply`](Self::apply) for a committed offset, of which there are many to load: no name is copied
    /// for one that takes the place of another.
    pub fn apply_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
        at: Offset,
    ) {
        let Some(found) = self.groups.get_mut(group) else {
            if value.is_some() {
                self.create_group(&group.into());
                self.apply_offset(group, topic, partition, value, at);
            }
            return;
        };
        if let Some(committed) = value {
            let stored = StoredOffset { at, committed };
            let is_new = found.offsets.insert(topic, partition, stored);
            self.offsets += usize::from(is_new);
            return;
        }
        let removed = found.offsets.remove(topic, partition, at);
        self.offsets -= usize::from(removed);
        self.offsets -= found.pending_offsets.remove(topic, partition, at);
        if found.is_unused() {
            self.groups.remove(group);
        }
    }

    fn apply_group(&mut self, record: &GroupRecord) {
        let id = record.group();
        self.create_group(id);
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        self.member_bytes -= group.memory_bytes();
        if let GroupRecord::GroupMetadata { value, .. } = record {
            if value.is_some() {
                group.consumer = None;
            }
            group.apply_metadata(value.as_ref());
        } else {
            group.apply_consumer(record);
        }
        self.member_bytes += group.memory_bytes();
        if group.is_unused() {
            self.groups.remove(id);
        }
    }
}

impl Group {
    pub(super) fn append(&mut self, cx: &mut Context<'_>, records: Vec<GroupRecord>, then: Then) {
        self.appends_in_flight += 1;
        cx.append(&self.id, records, then);
    }

    /// Stores the group as it is now, with `assignment` for each member.
    pub(super) fn append_metadata(
        &mut self,
        cx: &mut Context<'_>,
        assignment: impl Fn(&str, &Member) -> Opaque,
        then: Then,
    ) {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self
            .members
            .iter()
            .map(|(id, member)| member.metadata(id, protocol, assignment(id, member)))
            .collect();
        let value = GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp,
            members,
        };
        self.is_stored = true;
        let record = GroupRecord::GroupMetadata {
            group: self.id.clone(),
            value: Some(value),
        };
        self.append(cx, [record].into(), then);
    }

    /// The records are committed, and applied if they are offsets or tombstones; or they failed.
    pub(super) fn handle_appended(
        &mut self,
        cx: &mut Context<'_>,
        then: Then,
        result: Result<(), AppendError>,
    ) {
        match then {
            Then::CommitOffsets { token, results } => {
                let result = result.map(|()| results).map_err(GroupError::from);
                cx.reply(token, Response::CommitOffsets(result));
            }
            Then::StoreAssignment {
                generation,
                assignments,
            } => {
                self.assignment_stored(cx, generation, assignments, result);
            }
            Then::ReplaceStaticMember { token, joined } => {
                if result.is_err()
                    && self.state == State::Stable
                    && self.generation == joined.generation
                {
                    // The log still names the old member; the next generation's record will not.
                    self.prepare_rebalance(cx, RebalanceReason::NotStored);
                }
                let result = result.map(|()| joined).map_err(GroupError::from);
                cx.reply(token, Response::Join(result));
            }
            Then::Delete { token } => self.deleted(cx, token, result),
            Then::DeleteOffsets {
                answer: Some((token, results)),
            } => {
                let result = result.map(|()| results).map_err(GroupError::from);
                cx.reply(token, Response::DeleteOffsets(result));
            }
            Then::ConsumerHeartbeat { .. } | Then::ConsumerJoin { .. } => {
                self.consumer_appended(cx, then, result);
            }
            Then::DeleteOffsets { answer: None } | Then::StoreEmpty => {}
        }
    }
}
