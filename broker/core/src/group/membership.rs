//! One group: who its members are and what they agree on. Rebalancing is in [`super::rebalance`].
//!
//! Members are ahead of the log: the log has the last completed generation.
//!
//! Invariants: `static_members` names exactly the members with an instance id; the leader is a
//! member; `wakeup` is never later than the group's earliest deadline.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::consumer::ConsumerGroup;
use super::effect::{Context, Joined, Synced};
use super::error::GroupError;
use super::member::{MEMBER_OVERHEAD_BYTES, Member, Protocol};
use super::offsets::Offsets;
use super::pending::PendingOffsets;
use super::rebalance::JoinPhase;
use super::record::{Generation, GroupId, GroupMetadata, GroupRecord, Opaque};
use crate::{Time, Timestamp};

/// Protocol type of consumers, the only one whose subscriptions are known.
pub(super) const CONSUMER: &str = "consumer";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Members are joining.
    PreparingRebalance(JoinPhase),
    /// The generation is made; the leader's assignment is awaited or being stored.
    CompletingRebalance {
        storing: bool,
    },
    Stable,
    /// Being deleted: tombstones are on their way.
    Dead,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) state: State,
    pub(super) state_timestamp: Timestamp,
    pub(super) protocol_type: Option<String>,
    pub(super) generation: Generation,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids handed out to members that have not come back with them yet, and until when they may.
    pending_members: BTreeMap<String, Time>,
    /// When members that have not sent SyncGroup are given up.
    pub(super) sync_deadline: Option<Time>,
    /// Set for a group of the consumer protocol; then nothing above holds anything.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
    pub(super) offsets: Offsets,
    /// Committed within transactions that have not ended.
    pub(super) pending_offsets: PendingOffsets,
    pub(super) appends_in_flight: usize,
    /// Whether the log has a record of the group itself.
    pub(super) is_stored: bool,
    pub(super) wakeup: Option<Time>,
    /// Memory that members and pending members of the classic protocol take.
    pub(super) member_bytes: usize,
}

impl Group {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            id,
            state: State::Empty,
            state_timestamp: Timestamp(0),
            protocol_type: None,
            generation: Generation(0),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            sync_deadline: None,
            consumer: None,
            offsets: Offsets::default(),
            pending_offsets: PendingOffsets::default(),
            appends_in_flight: 0,
            is_stored: false,
            wakeup: None,
            member_bytes: 0,
        }
    }

    /// Takes over what the log says of the group; `None` is a tombstone.
    pub(super) fn apply_metadata(&mut self, value: Option<&GroupMetadata>) {
        self.members.clear();
        self.static_members.clear();
        self.member_bytes = 0;
        self.is_stored = value.is_some();
        self.state = State::Empty;
        let Some(value) = value else {
            self.protocol_type = None;
            self.generation = Generation(0);
            self.protocol = None;
            self.leader = None;
            return;
        };
        self.protocol_type.clone_from(&value.protocol_type);
        self.generation = value.generation;
        self.protocol.clone_from(&value.protocol);
        self.leader.clone_from(&value.leader);
        self.state_timestamp = value.state_timestamp;
        let protocol = value.protocol.as_deref().unwrap_or_default();
        for stored in &value.members {
            self.insert(
                stored.member_id.clone(),
                Member::from_metadata(stored, protocol),
            );
            self.state = State::Stable;
        }
    }

    /// Takes over what the log says of a group of the consumer protocol. The tombstone of the group itself
    /// comes last.
    pub(super) fn apply_consumer(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroupMetadata { value: None, .. } => self.consumer = None,
            GroupRecord::ConsumerGroupMetadata { .. } if !self.members.is_empty() => {
                self.apply_metadata(None);
                self.consumer.get_or_insert_default().apply(record);
            }
            _ if self.consumer.is_none() && record.is_tombstone() => {}
            _ => self.consumer.get_or_insert_default().apply(record),
        }
    }

    /// Whether there are members of a consumer group.
    pub(super) fn has_consumers(&self) -> bool {
        let consumer = self.consumer.as_ref();
        consumer.is_some_and(|consumer| !consumer.is_empty())
    }

    /// Nothing is known of the group and nobody waits for it: it may be forgotten.
    pub(super) fn is_unused(&self) -> bool {
        matches!(self.state, State::Empty | State::Dead)
            && !self.is_stored
            && self.consumer.is_none()
            && self.members.is_empty()
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
            && self.pending_offsets.is_empty()
            && self.appends_in_flight == 0
    }

    pub(super) fn insert(&mut self, member_id: String, member: Member) {
        self.member_bytes += member_id.len() + member.bytes();
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member_id.clone());
        }
        let previous = self.members.insert(member_id, member);
        assert!(previous.is_none(), "member ids are unique");
    }

    /// Takes a member out. The caller answers its waiting request.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.member_bytes -= member_id.len() + member.bytes();
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    pub(super) fn has_pending_members(&self) -> bool {
        !self.pending_members.is_empty()
    }

    pub(super) fn pending_member_count(&self) -> usize {
        self.pending_members.len()
    }

    pub(super) fn is_pending(&self, member_id: &str) -> bool {
        self.pending_members.contains_key(member_id)
    }

    pub(super) fn add_pending(&mut self, member_id: String, deadline: Time) {
        self.member_bytes += pending_bytes(&member_id);
        let previous = self.pending_members.insert(member_id, deadline);
        assert!(previous.is_none(), "member ids are unique");
        self.arm(deadline);
    }

    /// Whether the id was pending; it no longer is.
    pub(super) fn take_pending(&mut self, member_id: &str) -> bool {
        let was_pending = self.pending_members.remove(member_id).is_some();
        if was_pending {
            self.member_bytes -= pending_bytes(member_id);
        }
        was_pending
    }

    /// Forgets the ids that nobody used in time; whether there were any.
    pub(super) fn expire_pending(&mut self, now: Time) -> bool {
        let before = self.pending_members.len();
        let mut freed = 0;
        self.pending_members.retain(|member_id, deadline| {
            let is_kept = *deadline > now;
            freed += if is_kept { 0 } else { pending_bytes(member_id) };
            is_kept
        });
        self.member_bytes -= freed;
        self.pending_members.len() < before
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Checks that the sender is a member, and, if static, that no other process has taken over its
    /// instance id since.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMemberId)
        }
    }

    pub(super) fn check_generation(&self, generation: Generation) -> Result<(), GroupError> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// Whether a member that offers `protocols` can work with the present members.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|offered| self.is_common(&offered.name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.offers(protocol))
    }

    /// The protocol that all offer and most prefer; among equals the one the first member names
    /// first. `None` only without members.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let common: Vec<&str> = first
            .protocols
            .iter()
            .map(|offered| offered.name.as_str())
            .filter(|name| self.is_common(name))
            .collect();
        let votes = |candidate: &str| {
            self.members
                .values()
                .filter(|member| {
                    let favourite = member
                        .protocols
                        .iter()
                        .find(|offered| common.contains(&offered.name.as_str()));
                    favourite.is_some_and(|favourite| favourite.name == candidate)
                })
                .count()
        };
        let mut best: Option<(&str, usize)> = None;
        for candidate in &common {
            let count = votes(candidate);
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((candidate, count));
            }
        }
        best.map(|(name, _)| name.to_string())
    }

    /// Answer to a member that is part of the current generation.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = if self.is_leader(member_id) {
            self.members
                .iter()
                .map(|(id, member)| member.joined(id, protocol))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_string(),
            members,
            skip_assignment: false,
        }
    }

    pub(super) fn synced(&self, assignment: Opaque) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    /// Memory that members and pending members take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.member_bytes
            + self
                .consumer
                .as_ref()
                .map_or(0, |consumer| consumer.member_bytes)
    }

    /// Makes sure that the group is woken at `at` or earlier.
    pub(super) fn arm(&mut self, at: Time) {
        self.wakeup = Some(self.wakeup.map_or(at, |wakeup| wakeup.min(at)));
    }

    /// A sign of life: the member's session starts anew.
    pub(super) fn renew_session(&mut self, cx: &Context<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.session_deadline = cx.now.time.plus(member.session_timeout);
        let deadline = member.session_deadline;
        self.arm(deadline);
    }

    pub(super) fn set_state(&mut self, cx: &Context<'_>, state: State) {
        self.state = state;
        self.state_timestamp = cx.now.timestamp;
    }

    /// The earliest moment at which [`Group::handle_tick`] has something to do.
    pub(super) fn earliest_deadline(&self) -> Option<Time> {
        let joining = match &self.state {
            State::PreparingRebalance(phase) => Some(phase.deadline),
            _ => None,
        };
        let sessions = self.members.values().filter_map(Member::deadline);
        let pending = self.pending_members.values().copied();
        let consumer = self.consumer.as_ref();
        let consumer = consumer.and_then(|consumer| consumer.earliest_deadline());
        sessions
            .chain(pending)
            .chain(consumer)
            .chain(joining)
            .chain(self.sync_deadline)
            .min()
    }
}

const fn pending_bytes(member_id: &str) -> usize {
    MEMBER_OVERHEAD_BYTES + member_id.len()
}
