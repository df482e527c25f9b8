//! Who shall have what, how far members are, and what becomes of those that are not heard from.

use alloc::string::String;
use alloc::vec::Vec;

use super::assignor::{Assignor, Subscriber, assign};
use super::reconcile::{Target, reconcile};
use super::record::{GroupEpoch, MemberState, Partitions};
use super::{Changes, ConsumerGroup, Member, Topics};
use crate::group::config::GroupConfig;
use crate::group::effect::{Context, Effect, RebalanceReason, Then};
use crate::group::membership::Group;
use crate::group::record::Generation;
use crate::{Duration, Time, TopicPartition};

/// How long after new targets heartbeats make no others, for each hundred members. Making targets takes
/// time that grows with the members: when thousands join at once, each doing so would stop the broker.
const TARGETS_REST_PER_HUNDRED: Duration = Duration::from_millis(5);

impl Changes<'_> {
    /// As [`update_target`](Self::update_target), unless the last targets of a large group are too recent;
    /// a later heartbeat of any member makes new ones then.
    pub(super) fn update_rested_target(&mut self, now: Time, topics: &dyn Topics) {
        if self.consumer.targets_rest_until > now {
            return;
        }
        let target_epoch = self.consumer.target_epoch;
        self.update_target(topics);
        if self.consumer.target_epoch != target_epoch {
            let hundreds = self.consumer.members.len() / 100;
            let rest = TARGETS_REST_PER_HUNDRED * u32::try_from(hundreds).unwrap_or(u32::MAX);
            self.consumer.targets_rest_until = now.plus(rest);
        }
    }

    /// Makes a new target if members or topics have changed.
    pub(super) fn update_target(&mut self, topics: &dyn Topics) {
        let hash = self.consumer.look_up(topics).hash();
        if hash != self.consumer.metadata_hash {
            let epoch = self.consumer.epoch.next();
            self.put_group(epoch, hash);
            self.reasons.push(RebalanceReason::TopicsChanged);
        }
        if self.consumer.target_epoch == self.consumer.epoch {
            return;
        }
        for (member_id, target) in self.consumer.changed_targets() {
            self.put_target(&member_id, Some(target));
        }
        self.put_target_epoch(self.consumer.epoch);
    }

    /// Brings a member as far towards its target as it can get now.
    pub(super) fn advance(&mut self, member_id: &str, owned: Option<&Partitions>) {
        let group = &*self.consumer;
        let member = &group.members[member_id];
        let target = Target {
            epoch: group.target_epoch,
            partitions: &member.target,
        };
        let is_free = |partition: &TopicPartition| {
            let owner = group.owners.get(partition);
            owner.is_none_or(|owner| owner == member_id)
        };
        let next = reconcile(&member.current, &target, owned, is_free);
        if next != member.current {
            self.put_current(member_id, Some(next));
        }
    }
}

impl ConsumerGroup {
    /// New targets of the members whose target changes.
    fn changed_targets(&self) -> Vec<(String, Partitions)> {
        let Some(subscribed) = &self.subscribed else {
            return Vec::new();
        };
        let subscribers = self.members.iter().map(|(member_id, member)| Subscriber {
            instance_id: member.metadata().instance_id.as_deref(),
            member_id,
            topics: subscribed.of(member.metadata()),
            target: &member.target,
        });
        let subscribers: Vec<_> = subscribers.collect();
        let targets = assign(self.assignor(), &subscribers, &subscribed.partition_counts);
        let members = self.members.iter().zip(targets);
        let changed = members.filter(|((_, member), target)| member.target != *target);
        changed
            .map(|((id, _), target)| (id.clone(), target))
            .collect()
    }

    /// The one that most members prefer; among equals, and without any, the first.
    pub(super) fn assignor(&self) -> Assignor {
        let votes = |assignor: Assignor| {
            let preferred = self.members.values().filter_map(|member| {
                Assignor::from_name(member.metadata().server_assignor.as_deref()?)
            });
            preferred.filter(|preferred| *preferred == assignor).count()
        };
        match votes(Assignor::Range) > votes(Assignor::Uniform) {
            true => Assignor::Range,
            false => Assignor::Uniform,
        }
    }

    /// Whether the member waits for partitions that nobody has any more.
    pub(super) fn can_advance(&self, member_id: &str) -> bool {
        let member = &self.members[member_id];
        let mut missing = member.target.difference(&member.current.assigned);
        member.current.state == MemberState::UnreleasedPartitions
            && missing.any(|partition| !self.owners.contains_key(partition))
    }

    /// When somebody's time is up next.
    pub(in crate::group) fn earliest_deadline(&self) -> Option<Time> {
        self.members.values().map(Member::deadline).min()
    }
}

impl Member {
    fn deadline(&self) -> Time {
        let reconcile = self.reconcile_deadline.unwrap_or(self.session_deadline);
        self.session_deadline.min(reconcile)
    }

    /// A classic member does nothing until it joins again, however long it sends heartbeats.
    fn renew(&mut self, now: Time, config: &GroupConfig, group_epoch: GroupEpoch) {
        let metadata = self.metadata();
        let (session_timeout, joins) = match &metadata.classic {
            Some(classic) => (classic.session_timeout, self.current.epoch < group_epoch),
            None => (config.consumer_session_timeout, false),
        };
        let reconcile_deadline = now.plus(metadata.rebalance_timeout);
        self.session_deadline = now.plus(session_timeout);
        if joins || self.current.state == MemberState::UnrevokedPartitions {
            self.reconcile_deadline.get_or_insert(reconcile_deadline);
        }
    }
}

impl Group {
    /// A sign of life of a member of a consumer group.
    pub(super) fn renew_consumer_session(&mut self, cx: &Context<'_>, member_id: &str) {
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return;
        };
        if let Some(member) = consumer.members.get_mut(member_id) {
            member.renew(cx.now.time, cx.config, consumer.epoch);
            let deadline = member.deadline();
            self.arm(deadline);
        }
    }

    /// The group was loaded: sessions start now.
    pub(in crate::group) fn start_consumer_sessions(&mut self, cx: &Context<'_>) {
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return;
        };
        consumer.drop_unknown_members();
        let member_ids: Vec<String> = consumer.members.keys().cloned().collect();
        for member_id in member_ids {
            self.renew_consumer_session(cx, &member_id);
        }
    }

    /// Takes out members that were not heard from, or that did not do in time what they were asked to.
    pub(in crate::group) fn expire_consumer_members(&mut self, cx: &mut Context<'_>) {
        let group = self.id.clone();
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return;
        };
        let late = |member: &&Member| member.deadline() <= cx.now.time;
        let late = consumer.members.iter().filter(|(_, member)| late(member));
        let late: Vec<(String, bool)> = late
            .map(|(id, member)| (id.clone(), member.session_deadline <= cx.now.time))
            .collect();
        if late.is_empty() {
            return;
        }
        let mut changes = Changes::new(&group, consumer);
        for (member_id, is_silent) in late {
            changes.remove_member(&member_id);
            changes.bump_epoch(match is_silent {
                true => RebalanceReason::SessionExpired { member_id },
                false => RebalanceReason::ReconcileTimedOut { member_id },
            });
        }
        let (records, reasons) = (changes.records, changes.reasons);
        self.note_reasons(cx, reasons);
        self.append(cx, records, Then::ConsumerHeartbeat { answer: None });
        self.settle(cx);
    }

    pub(super) fn note_reasons(&self, cx: &mut Context<'_>, reasons: Vec<RebalanceReason>) {
        let epoch = self
            .consumer
            .as_ref()
            .map_or(GroupEpoch(0), |consumer| consumer.epoch);
        for reason in reasons {
            cx.out.push(Effect::Rebalance {
                group: self.id.clone(),
                generation: Generation(epoch.0),
                reason,
            });
        }
    }

    /// What follows when members are gone: an empty group's offsets begin to age, and one whose members
    /// all speak the classic protocol is a classic group again.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(consumer) = self.consumer.as_deref() else {
            return;
        };
        if consumer.is_empty() {
            self.state_timestamp = cx.now.timestamp;
        } else if consumer
            .members
            .values()
            .all(|m| m.metadata().classic.is_some())
        {
            self.downgrade(cx);
        }
    }
}
