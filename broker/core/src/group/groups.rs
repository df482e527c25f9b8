//! All groups of a partition: time, the outcome of appends, and reading. What records change is in
//! [`super::storage`], what requests change in [`super::requests`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::admin::{GroupDescription, GroupListing};
use super::config::GroupConfig;
use super::consumer::ConsumerGroupDescription;
use super::consumer::record::GroupEpoch;
use super::effect::{AppendId, Appends, Context, Effect, PendingAppend, Response, Then};
use super::error::{AppendError, GroupError};
use super::membership::Group;
use super::pending::TransactionalGroups;
use super::record::{CommittedOffset, GroupId};
use crate::{Offset, PartitionIndex, Time, Timestamp};

/// The present moment by both clocks: time-outs by the monotonic one, records by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub time: Time,
    pub timestamp: Timestamp,
}

/// All groups of one partition of `__consumer_offsets`.
///
/// To load, [`apply`](Self::apply) each record of the partition, then call
/// [`handle_loaded`](Self::handle_loaded). Afterwards the `handle_*` methods take requests and
/// events and push [`Effect`]s, to be carried out in order; call [`handle_tick`](Self::handle_tick)
/// at [`next_deadline`](Self::next_deadline). When the broker loses the partition,
/// [`resign`](Self::resign) answers everybody who waits.
#[derive(Debug)]
pub struct Groups {
    pub(super) config: GroupConfig,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// When each group wants to be woken, earliest first; perhaps too early, never too late.
    wakeups: BTreeSet<(Time, GroupId)>,
    pub(super) appends: Appends,
    pub(super) member_bytes: usize,
    /// Committed offsets, pending ones among them.
    pub(super) offsets: usize,
    pub(super) transactional: TransactionalGroups,
}

impl Groups {
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            wakeups: BTreeSet::new(),
            appends: Appends::default(),
            member_bytes: 0,
            offsets: 0,
            transactional: TransactionalGroups::default(),
        }
    }

    /// The partition is loaded: sessions of the members in it start now.
    pub fn handle_loaded(&mut self, now: Now) {
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, &mut Vec::new(), |group, cx| {
                let member_ids: Vec<_> = group.members.keys().cloned().collect();
                for member_id in member_ids {
                    group.renew_session(cx, &member_id);
                }
                group.start_consumer_sessions(cx);
            });
        }
    }

    /// A topic is gone: forgets what was committed for it.
    pub fn handle_topic_deleted(&mut self, now: Now, topic: &str, out: &mut Vec<Effect>) {
        self.with_each_group(now, out, |group, cx| group.delete_topic(cx, topic));
    }

    /// Gives up old offsets and groups without any; to be called every
    /// `offsets.retention.check.interval.ms`.
    pub fn expire_offsets(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.with_each_group(now, out, Group::expire_offsets);
    }

    /// The records of an [`Effect::Append`] are committed, the last ones in a batch at that offset, or
    /// will not be.
    ///
    /// # Panics
    /// If the appends are not reported in the order of their effects.
    pub fn handle_appended(
        &mut self,
        now: Now,
        id: AppendId,
        result: Result<Offset, AppendError>,
        out: &mut Vec<Effect>,
    ) {
        let pending = self
            .appends
            .pending
            .pop_front()
            .filter(|pending| pending.id == id);
        let PendingAppend {
            group,
            records,
            then,
            ..
        } = pending.expect("appends complete in order");
        let is_applied_late = matches!(
            then,
            Then::CommitOffsets { .. } | Then::Delete { .. } | Then::DeleteOffsets { .. }
        );
        if let Ok(at) = result
            && is_applied_late
        {
            records.iter().for_each(|record| self.apply(record, at));
        }
        self.with_group(now, &group, out, |group, cx| {
            group.appends_in_flight -= 1;
            let result = result.map(|_| ());
            let result = match group.consumer.as_deref_mut() {
                Some(consumer) if !then.is_about_offsets() => {
                    consumer.note_appended(id, cx.appends.next_id(), &records, result)
                }
                _ => result,
            };
            group.handle_appended(cx, then, result);
        })
        .expect("a group with appends in flight is kept");
    }

    /// When [`handle_tick`](Self::handle_tick) is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.wakeups.first().map(|(at, _)| *at)
    }

    /// Ends what has timed out: sessions, join phases, members that do not sync.
    pub fn handle_tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due: Vec<GroupId> = self
            .wakeups
            .iter()
            .take_while(|(at, _)| *at <= now.time)
            .map(|(_, id)| id.clone())
            .collect();
        for id in due {
            self.with_group(now, &id, out, Group::handle_tick);
        }
    }

    /// The broker no longer leads the partition: everybody who waits is sent to the new coordinator.
    pub fn resign(mut self, out: &mut Vec<Effect>) {
        let now = Now {
            time: Time(0),
            timestamp: Timestamp(0),
        };
        let mut cx = Context {
            now,
            config: &self.config,
            out,
            appends: &mut Appends::default(),
        };
        for member in self
            .groups
            .values_mut()
            .flat_map(|group| group.members.values_mut())
        {
            member.refuse(&mut cx, GroupError::NotCoordinator);
        }
        for pending in self.appends.pending {
            let error = GroupError::NotCoordinator;
            match pending.then {
                Then::CommitOffsets { token, .. } => {
                    cx.reply(token, Response::CommitOffsets(Err(error)))
                }
                Then::DeleteOffsets {
                    answer: Some((token, _)),
                } => cx.reply(token, Response::DeleteOffsets(Err(error))),
                Then::ReplaceStaticMember { token, .. } | Then::ConsumerJoin { token, .. } => {
                    cx.reply(token, Response::Join(Err(error)))
                }
                Then::ConsumerHeartbeat {
                    answer: Some((token, _)),
                } => cx.reply(token, Response::ConsumerHeartbeat(Err(error))),
                Then::Delete { token: Some(token) } => {
                    cx.reply(token, Response::Delete(Err(error)))
                }
                _ => {}
            }
        }
    }

    /// What the group has committed for a partition.
    #[must_use]
    pub fn committed_offset(
        &self,
        group: &str,
        topic: &str,
        partition: PartitionIndex,
    ) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(topic, partition)
    }

    /// All that the group has committed, by topic and partition.
    pub fn committed_offsets(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, PartitionIndex, &CommittedOffset)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|group| group.offsets.iter())
    }

    /// All groups in the partition.
    pub fn list(&self) -> impl Iterator<Item = GroupListing> {
        self.groups.values().map(Group::listing)
    }

    /// A group of the classic protocol with its members, if it exists.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let group = self.groups.get(group);
        let classic = group.filter(|group| group.consumer.is_none());
        classic.map(Group::description)
    }

    /// A group of the consumer protocol with its members, if it exists.
    #[must_use]
    pub fn describe_consumer_group(&self, group: &str) -> Option<ConsumerGroupDescription> {
        let consumer = self.groups.get(group)?.consumer.as_ref()?;
        Some(consumer.description())
    }

    /// Checks who reads committed offsets as a member of a consumer group.
    ///
    /// # Errors
    /// When the group does not know the member, or in another epoch.
    pub fn check_reader(
        &self,
        group: &str,
        member_id: &str,
        epoch: GroupEpoch,
    ) -> Result<(), GroupError> {
        let consumer = self
            .groups
            .get(group)
            .and_then(|group| group.consumer.as_ref());
        consumer.map_or(Ok(()), |consumer| consumer.check_epoch(member_id, epoch))
    }

    fn with_each_group(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        mut f: impl FnMut(&mut Group, &mut Context<'_>),
    ) {
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(now, &id, out, &mut f);
        }
    }

    /// Lets `f` change a group, then books what that changed: wakeup, memory, the group's end.
    pub(super) fn with_group<R>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Vec<Effect>,
        f: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let (wakeup, member_bytes) = (group.wakeup, group.memory_bytes());
        let mut cx = Context {
            now,
            config: &self.config,
            out,
            appends: &mut self.appends,
        };
        let result = f(group, &mut cx);
        self.member_bytes = self.member_bytes - member_bytes + group.memory_bytes();
        let is_unused = group.is_unused();
        let wakeup_after = group.wakeup.filter(|_| !is_unused);
        if wakeup != wakeup_after {
            if let Some(at) = wakeup {
                self.wakeups.remove(&(at, group.id.clone()));
            }
            if let Some(at) = wakeup_after {
                self.wakeups.insert((at, group.id.clone()));
            }
        }
        if is_unused {
            self.groups.remove(id);
        }
        Some(result)
    }
}
