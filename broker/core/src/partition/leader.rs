//! The leader's side: what is appended, follower positions, the high watermark.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use thiserror::Error;

use super::isr::PendingIsr;
use super::{
    Assignment, EpochError, MarkerError, NotLeader, Replica, Role, SequenceError, SequencedBatch,
};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, Time, Timestamp};

/// When a produce request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never (`acks=0`).
    None,
    /// After the leader's append (`acks=1`).
    Leader,
    /// After all in-sync replicas have it (`acks=-1`, "all").
    All,
    /// After this many in-sync replicas have it, the leader included (`acks=2` and above). Weaker
    /// than [`Acks::All`]: a replica that does not have it may be elected.
    Counted(usize),
}

/// Why a batch is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error(
        "{in_sync} replicas are in sync, min.insync.replicas is {required}; retry once a follower is back"
    )]
    NotEnoughReplicas { in_sync: usize, required: usize },
    #[error("acks={acks} asks for more replicas than the {replicas} that the partition has")]
    TooManyAcks { acks: usize, replicas: usize },
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    #[error("the batch with sequence {awaited} has to come before this one; retry them in order")]
    BehindAwaited { awaited: i32 },
    #[error("the transaction is not known to include the partition; retry")]
    Unverified,
    #[error(transparent)]
    Marker(#[from] MarkerError),
}

/// How far the leader's log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderEnds {
    /// What is written; a follower there is caught up.
    pub written: Offset,
    /// The leader's own position for the high watermark: what is written, or what is durable where
    /// every message must be.
    pub own: Offset,
}

/// Outcome of a follower's pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// The high watermark moved: release waiting producers, wake consumers and followers.
    pub advanced: bool,
    /// The follower may be ready to enter the ISR: call [`Replica::handle_tick`] soon.
    pub may_enter_isr: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FollowerProgress {
    pub(super) log_end: Offset,
    /// Last time at which the follower had everything the leader had one pull earlier.
    pub(super) caught_up_at: Time,
    /// Start of the time during which every pull was caught up.
    pub(super) caught_up_since: Option<Time>,
    /// How often it lagged out of the ISR lately.
    pub(super) lapses: u32,
    pub(super) in_sync_since: Time,
    /// It has registered anew since it entered the ISR, which ended its membership: the metadata that
    /// says so is on its way. It is waited for, and does not count for `min.insync.replicas`.
    pub(super) has_restarted: bool,
    pulled_at: Time,
    leader_log_end_at_pull: Offset,
    broker_epoch: Option<BrokerEpoch>,
    /// The follower's stream that its last pull came by.
    stream: u64,
}

/// Who pulls, and by which stream: a follower opens a new one when the old one fails, which the leader
/// may notice much later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puller {
    pub broker: BrokerId,
    /// The follower's registration.
    pub broker_epoch: BrokerEpoch,
    /// Grows with every stream that the follower opens to this leader under one registration.
    pub stream: u64,
}

#[derive(Debug)]
pub(super) struct Leader {
    pub(super) me: BrokerId,
    pub(super) epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) epoch_start: Offset,
    pub(super) isr: BTreeSet<BrokerId>,
    /// The controller counts on replicas outside of the ISR to have all that is acknowledged,
    /// whatever `min.insync.replicas` is set to on this broker.
    has_elr: bool,
    pub(super) pending: Option<PendingIsr>,
    /// No proposal before this time, after the controller refused one.
    pub(super) propose_after: Time,
    pub(super) followers: BTreeMap<BrokerId, FollowerProgress>,
}

impl Leader {
    pub(super) fn new(me: BrokerId, now: Time, assignment: &Assignment, log_end: Offset) -> Self {
        let mut leader = Self {
            me,
            epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            epoch_start: log_end,
            isr: assignment.isr.iter().copied().collect(),
            has_elr: !assignment.elr.is_empty(),
            pending: None,
            propose_after: now,
            followers: BTreeMap::new(),
        };
        leader.track(now, assignment);
        leader
    }

    /// Followers are taken as fresh when they appear: a new leader must not shrink the ISR before
    /// it has given everybody a full lag window. Returns whether there are new ones.
    fn track(&mut self, now: Time, assignment: &Assignment) -> bool {
        self.followers
            .retain(|id, _| assignment.replicas.contains(id));
        let known = self.followers.len();
        for replica in &assignment.replicas {
            if *replica != self.me {
                self.followers.entry(*replica).or_insert(FollowerProgress {
                    log_end: Offset(-1),
                    caught_up_at: now,
                    caught_up_since: None,
                    lapses: 0,
                    in_sync_since: now,
                    has_restarted: false,
                    pulled_at: now,
                    leader_log_end_at_pull: Offset(i64::MAX),
                    broker_epoch: None,
                    stream: 0,
                });
            }
        }
        self.followers.len() > known
    }

    /// Returns whether there are new replicas.
    pub(super) fn update_isr(&mut self, now: Time, assignment: &Assignment) -> bool {
        if assignment.partition_epoch <= self.partition_epoch {
            return false;
        }
        self.partition_epoch = assignment.partition_epoch;
        let isr = assignment.isr.iter().copied().collect();
        let before = core::mem::replace(&mut self.isr, isr);
        self.has_elr = !assignment.elr.is_empty();
        let proposed = self.pending.take();
        for (id, follower) in &mut self.followers {
            let lags = proposed.as_ref().is_some_and(|p| !p.isr.contains(id));
            match (before.contains(id), self.isr.contains(id)) {
                (true, false) if lags => follower.lagged_out(now),
                (false, true) => follower.entered_isr(now),
                _ => {}
            }
        }
        self.track(now, assignment)
    }

    /// Followers that have everything up to `log_end` fall behind no earlier than now: a pull names
    /// only partitions with news, so an idle one is not heard of.
    fn note_caught_up(&mut self, now: Time, log_end: Offset) {
        for follower in self.followers.values_mut() {
            if follower.log_end >= log_end {
                follower.caught_up_at = now;
            }
        }
    }

    pub(super) fn broker_epoch(&self, replica: BrokerId) -> Option<BrokerEpoch> {
        self.followers.get(&replica)?.broker_epoch
    }

    /// The ISR that must hold a record before it counts as committed: what the controller has
    /// committed plus what it may commit yet.
    pub(super) fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> {
        let added = self
            .pending
            .iter()
            .flat_map(|pending| pending.possible.iter());
        let added = added.filter(|_| !mutated(Mutation::CountCommittedIsrOnly));
        self.isr.iter().chain(added).copied()
    }

    /// Members of the ISR that count for `min.insync.replicas`.
    pub(super) fn in_sync(&self) -> usize {
        let restarted = self
            .followers
            .iter()
            .filter(|(id, follower)| follower.has_restarted && self.isr.contains(id));
        self.isr.len() - restarted.count()
    }

    /// Members that the ISR must have for acks=all.
    pub(super) fn required_in_sync(&self, min_insync_replicas: usize) -> usize {
        if mutated(Mutation::IgnoreMinInsync) {
            return 1;
        }
        let by_controller = if self.has_elr { self.isr.len() + 1 } else { 1 };
        min_insync_replicas
            .min(self.followers.len() + 1)
            .max(by_controller)
    }

    pub(super) fn counted(&self, acks: usize) -> Result<usize, AppendError> {
        let replicas = self.followers.len() + 1;
        if acks > replicas {
            return Err(AppendError::TooManyAcks { acks, replicas });
        }
        Ok(acks)
    }

    pub(super) fn can_commit(&self, min_insync_replicas: usize) -> bool {
        self.in_sync() >= self.required_in_sync(min_insync_replicas)
    }

    /// Offset up to which the maximal ISR has the log, `None` while the ISR is too small.
    pub(super) fn replicated_to(
        &self,
        log_end: Offset,
        min_insync_replicas: usize,
    ) -> Option<Offset> {
        if !self.can_commit(min_insync_replicas) {
            return None;
        }
        let ends = self.maximal_isr().map(|id| match self.followers.get(&id) {
            Some(follower) => follower.log_end,
            None => log_end,
        });
        if mutated(Mutation::ForgetSlowestMember) {
            return ends.max();
        }
        ends.min()
    }
}

impl Replica {
    /// A batch was appended to the log. Returns whether the high watermark moved, as it does when
    /// the leader is alone in the ISR.
    pub fn handle_append(
        &mut self,
        now: Time,
        batch: Option<(&SequencedBatch, Timestamp)>,
        base_offset: Offset,
        log_end: Offset,
    ) -> bool {
        if let Role::Leader(leader) = &mut self.role {
            leader.note_caught_up(now, base_offset);
        }
        if let Some((batch, timestamp)) = batch {
            self.producers.record(batch, base_offset, timestamp);
            self.awaited.forget(batch.producer_id);
            if batch.transactional {
                self.verifications.forget(batch.producer_id);
            }
        }
        self.advance_high_watermark(log_end)
    }

    /// Offset up to which `count` in-sync replicas have the log, the leader with `own_end` among
    /// them; `None` when fewer are in sync, or this replica does not lead.
    #[must_use]
    pub fn replicated_on(&self, count: usize, own_end: Offset) -> Option<Offset> {
        let leader = self.leader().ok()?;
        let in_sync = leader.isr.iter();
        let mut ends: Vec<Offset> = in_sync
            .filter_map(|id| leader.followers.get(id))
            .map(|follower| follower.log_end)
            .collect();
        ends.sort_unstable();
        let Some(followers) = count.checked_sub(1).filter(|followers| *followers > 0) else {
            return Some(own_end);
        };
        let slowest = ends.len().checked_sub(followers)?;
        Some(own_end.min(ends[slowest]))
    }

    /// The leader's own log is durable up to `own_end`, where the high watermark waits for that.
    /// Returns whether it moved.
    pub fn handle_durable(&mut self, own_end: Offset) -> bool {
        self.advance_high_watermark(own_end)
    }

    /// A follower pulls from `fetch_offset`, which tells that it has everything below.
    ///
    /// # Errors
    /// [`EpochError`] when this replica does not lead in `epoch`. A replica that is not assigned is
    /// served, and counts for nothing; so does a pull of a registration before the newest known.
    pub fn handle_pull(
        &mut self,
        now: Time,
        puller: Puller,
        epoch: LeaderEpoch,
        fetch_offset: Offset,
        ends: LeaderEnds,
    ) -> Result<PullProgress, EpochError> {
        if !mutated(Mutation::IgnorePullEpoch) {
            self.check_leader_epoch(Some(epoch))?;
        }
        let high_watermark = self.high_watermark;
        let Role::Leader(leader) = &mut self.role else {
            return Err(NotLeader.into());
        };
        let mut may_enter_isr = false;
        if let Some(progress) = leader.followers.get_mut(&puller.broker) {
            if !progress.update(now, puller, fetch_offset, ends.written) {
                return Ok(PullProgress::default());
            }
            let progress = *progress;
            may_enter_isr = !leader.isr.contains(&puller.broker)
                && leader.may_enter(now, &progress, self.settings.isr_dwell, high_watermark);
        }
        Ok(PullProgress {
            advanced: self.advance_high_watermark(ends.own),
            may_enter_isr,
        })
    }
}

impl FollowerProgress {
    /// Takes note of a pull; false when it belongs to a registration that is over, for that process
    /// may have had what its successor has lost, or to a stream that the follower has replaced.
    fn update(
        &mut self,
        now: Time,
        puller: Puller,
        fetch_offset: Offset,
        leader_log_end: Offset,
    ) -> bool {
        let Puller {
            broker_epoch,
            stream,
            ..
        } = puller;
        let known = self.broker_epoch.unwrap_or(broker_epoch);
        let is_over = (known, self.stream) > (broker_epoch, stream);
        if is_over && !mutated(Mutation::CountEarlierRegistration) {
            return false;
        }
        if known < broker_epoch {
            self.lapses = 0;
            self.caught_up_since = None;
            self.leader_log_end_at_pull = Offset(i64::MAX);
            self.has_restarted = true;
        }
        self.broker_epoch = Some(known.max(broker_epoch));
        self.stream = stream;
        if fetch_offset >= leader_log_end {
            self.caught_up_at = now;
            self.caught_up_since.get_or_insert(now);
        } else if fetch_offset >= self.leader_log_end_at_pull {
            self.caught_up_at = self.caught_up_at.max(self.pulled_at);
            self.caught_up_since.get_or_insert(now);
        } else {
            self.caught_up_since = None;
        }
        self.log_end = fetch_offset;
        self.pulled_at = now;
        self.leader_log_end_at_pull = leader_log_end;
        true
    }
}
