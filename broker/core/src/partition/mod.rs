//! One replica of one partition: who leads, how far the others are, what may be acknowledged.
//!
//! [`Replica`] owns no log and reads no clock. The shell calls one `handle_*` method for each event
//! and does what the returned value says, all under the partition's lock:
//!
//! * metadata changed: [`Replica::handle_assignment`];
//! * a producer appends: [`Replica::admit`] before the write, [`Replica::handle_append`] after it;
//! * a follower pulls: [`Replica::handle_pull`]; an answer to our own pull: [`Replica::handle_pulled`];
//! * time passes: [`Replica::handle_tick`]; the controller refuses an ISR change:
//!   [`Replica::handle_isr_refused`].
//!
//! Invariants: the high watermark never falls while a replica keeps its role; it never passes the
//! log end of any member of the maximal ISR (committed ISR plus proposed additions, KIP-497); it
//! stands still while the ISR is below the effective `min.insync.replicas`, or the partition has
//! eligible leader replicas outside of it (KIP-966).

mod admission;
mod awaited;
mod follower;
mod isr;
mod leader;
mod producer;
mod producers;
mod transactions;
mod verification;
mod waiting;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use thiserror::Error;

pub use follower::{Divergence, Pulled, truncation_offset};
pub use isr::{IsrMember, IsrProposal};
pub use leader::{Acks, AppendError, LeaderEnds, PullProgress, Puller};
pub use producers::{
    BatchSnapshot, NO_SEQUENCE, PRODUCERS_MAX, ProducerSnapshot, Producers, SequenceError,
    SequenceVerdict, SequencedBatch,
};
pub use transactions::{
    EndMarker, EndedTransaction, MarkerEpoch, MarkerError, MarkerVerdict, ProducerState,
    TRANSACTIONS_MAX, TransactionOutcome,
};
pub use verification::{VERIFICATIONS_MAX, VerificationGuard};
pub use waiting::WaitQueue;

use crate::mutation::{Mutation, mutated};
use crate::{BrokerId, Duration, LeaderEpoch, Offset, PartitionEpoch, Time, Timestamp};
use awaited::AwaitedBatches;
use follower::Follower;
use isr::LogEnds;
use leader::Leader;
use verification::Verifications;

/// What the metadata says about the partition, as this broker needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    /// Preferred leader first.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas. While there are any, the ISR is below `min.insync.replicas` for the
    /// controller, and they must not miss what is acknowledged.
    pub elr: Vec<BrokerId>,
}

/// Settings that decisions depend on; they may change while the replica is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// `klamm.isr.dwell.ms`: how long a follower that lagged out of the ISR has to be caught up
    /// before it enters again. Doubles each time it lags out again.
    pub isr_dwell: Duration,
}

/// What a new assignment made of this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// Same role and leader epoch as before.
    Unchanged,
    /// Leads as before, and there are new replicas. They may have pulled already, which counted for
    /// nothing: the shell looks at the positions of all followers' streams again.
    ReplicasAdded,
    /// Leads from now on: the shell records the epoch's start in the log and answers nobody of the
    /// earlier epoch.
    BecameLeader {
        /// Committed records that an earlier leader told of and that this log does not have: more
        /// than 0 after an unclean election only.
        missing: u64,
    },
    /// Follows from now on, or follows another leader or epoch: the shell pulls from it.
    BecameFollower,
}

/// The replica does not lead the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this broker does not lead the partition; ask for fresh metadata")]
pub struct NotLeader;

/// A request's leader epoch does not fit the replica's (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EpochError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error("leader epoch {requested} is older than {current}")]
    Fenced {
        requested: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("leader epoch {requested} is newer than {current}; retry")]
    Unknown {
        requested: LeaderEpoch,
        current: LeaderEpoch,
    },
}

#[derive(Debug)]
enum Role {
    /// No assignment seen yet.
    Idle,
    Leader(Leader),
    Follower(Follower),
}

/// One replica of one partition. See the module's documentation for the order of calls.
#[derive(Debug)]
pub struct Replica {
    me: BrokerId,
    settings: Settings,
    role: Role,
    high_watermark: Offset,
    /// The highest that a leader told of; the own log may end below it.
    leader_high_watermark: Offset,
    producers: Producers,
    awaited: AwaitedBatches,
    verifications: Verifications,
}

impl Replica {
    /// The broker that it is on.
    #[must_use]
    pub const fn me(&self) -> BrokerId {
        self.me
    }

    /// A replica whose log was opened, with the high watermark of its last checkpoint.
    #[must_use]
    pub fn new(
        me: BrokerId,
        settings: Settings,
        high_watermark: Offset,
        mut producers: Producers,
    ) -> Self {
        producers.replicated(high_watermark);
        Self {
            me,
            settings,
            role: Role::Idle,
            high_watermark,
            leader_high_watermark: high_watermark,
            producers,
            awaited: AwaitedBatches::new(),
            verifications: Verifications::new(),
        }
    }

    /// Takes over leader, epochs and ISR from the metadata. `ends` is how far the log goes now.
    ///
    /// Assignments of an older leader or partition epoch are ignored.
    pub fn handle_assignment(
        &mut self,
        now: Time,
        assignment: &Assignment,
        ends: LeaderEnds,
    ) -> RoleChange {
        if assignment.leader_epoch < self.leader_epoch() {
            return RoleChange::Unchanged;
        }
        if assignment.leader == Some(self.me) {
            return self.lead(now, assignment, ends);
        }
        let changed = match &self.role {
            Role::Follower(follower) => {
                follower.epoch != assignment.leader_epoch || follower.leader != assignment.leader
            }
            Role::Idle | Role::Leader(_) => true,
        };
        if !changed {
            return RoleChange::Unchanged;
        }
        self.verifications.clear();
        self.role = Role::Follower(Follower {
            epoch: assignment.leader_epoch,
            leader: assignment.leader,
        });
        RoleChange::BecameFollower
    }

    fn lead(&mut self, now: Time, assignment: &Assignment, ends: LeaderEnds) -> RoleChange {
        if let Role::Leader(leader) = &mut self.role
            && leader.epoch == assignment.leader_epoch
        {
            let added = leader.update_isr(now, assignment);
            self.advance_high_watermark(ends.own);
            return if added {
                RoleChange::ReplicasAdded
            } else {
                RoleChange::Unchanged
            };
        }
        let log_end = ends.written;
        self.role = Role::Leader(Leader::new(self.me, now, assignment, log_end));
        let missing = if mutated(Mutation::HideMissingRecords) {
            0
        } else {
            log_end.records_until(self.leader_high_watermark)
        };
        self.leader_high_watermark = self.leader_high_watermark.min(log_end);
        self.advance_high_watermark(ends.own);
        RoleChange::BecameLeader { missing }
    }

    /// Changed topic or broker settings.
    pub const fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Offsets below it are on every in-sync replica.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Offsets below it are replicated and belong to no transaction that may still be aborted: what a
    /// reader of committed records sees. Not below `log_start`, should retention have taken the
    /// beginning of a transaction.
    #[must_use]
    pub fn last_stable_offset(&self, log_start: Offset) -> Offset {
        match self.producers.first_unstable_offset() {
            Some(first) => first.max(log_start).min(self.high_watermark),
            None => self.high_watermark,
        }
    }

    /// Epoch of the role, [`LeaderEpoch::NONE`] before the first assignment.
    #[must_use]
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Idle => LeaderEpoch::NONE,
            Role::Leader(leader) => leader.epoch,
            Role::Follower(follower) => follower.epoch,
        }
    }

    /// The leader that this replica follows, if any.
    #[must_use]
    pub const fn followed_leader(&self) -> Option<BrokerId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Idle | Role::Leader(_) => None,
        }
    }

    /// Whether this replica leads.
    #[must_use]
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Checks a reader's leader epoch; `None` or -1 stands for a client that knows none (KIP-320).
    ///
    /// # Errors
    /// [`EpochError`] when this replica does not lead or the epochs differ.
    pub fn check_leader_epoch(&self, requested: Option<LeaderEpoch>) -> Result<(), EpochError> {
        let current = self.leader()?.epoch;
        match requested {
            Some(requested) if requested == LeaderEpoch::NONE => Ok(()),
            Some(requested) if requested < current => {
                Err(EpochError::Fenced { requested, current })
            }
            Some(requested) if requested > current => {
                Err(EpochError::Unknown { requested, current })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Who must have a record before it is committed: the committed ISR and whom the leader has
    /// proposed to add. `None` while nothing can be committed here, on a replica that does not lead
    /// or whose ISR is below `min.insync.replicas`.
    #[must_use]
    pub fn maximal_isr(&self) -> Option<BTreeSet<BrokerId>> {
        let leader = self.leader().ok()?;
        leader
            .can_commit(self.settings.min_insync_replicas)
            .then(|| leader.maximal_isr().collect())
    }

    /// Whether the high watermark has reached the start of the leader's epoch: before that,
    /// `ListOffsets` must not answer with it (KIP-207).
    ///
    /// # Errors
    /// [`NotLeader`].
    pub fn high_watermark_is_current(&self) -> Result<bool, NotLeader> {
        Ok(self.high_watermark >= self.leader()?.epoch_start)
    }

    /// Proposes ISR changes that time has brought: members that lag leave, replicas that caught up
    /// enter if they are `active` by the metadata known here, a proposal without an answer is repeated.
    pub fn handle_tick(
        &mut self,
        now: Time,
        log_end: Offset,
        active: impl Fn(BrokerId) -> bool,
    ) -> Option<IsrProposal> {
        let ends = LogEnds {
            log_end,
            high_watermark: self.high_watermark,
        };
        match &mut self.role {
            Role::Leader(leader) => {
                if !leader.followers.keys().copied().all(&active) {
                    self.awaited.extend_missing(now);
                }
                leader.propose_isr(now, &self.settings, ends, active)
            }
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// The controller refused the proposal made at `partition_epoch`; another may follow later. The
    /// next [`Replica::handle_tick`], which is due at once, ends what copies of it may bring about: its
    /// members count until then. Not to be called for a refusal that the metadata will explain.
    pub fn handle_isr_refused(&mut self, now: Time, partition_epoch: PartitionEpoch) {
        if let Role::Leader(leader) = &mut self.role {
            leader.isr_refused(now, partition_epoch);
        }
    }

    /// Sequence state of idempotent producers.
    #[must_use]
    pub const fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets producers that were silent since `before`, and batches that are awaited no more.
    pub fn expire_producers(&mut self, now: Time, before: Timestamp) {
        self.producers.expire(before);
        self.awaited.expire(now);
    }

    /// Replaces the sequence state after the log was truncated or re-read.
    pub fn set_producers(&mut self, producers: Producers) {
        self.producers = producers;
        self.producers.replicated(self.high_watermark);
    }

    /// A marker was appended at `marker_offset`, by this leader or by a pull.
    pub fn record_marker(
        &mut self,
        marker: &EndMarker,
        marker_offset: Offset,
        timestamp: Timestamp,
    ) -> Option<EndedTransaction> {
        self.verifications.forget(marker.producer_id);
        self.producers
            .end_transaction(marker, marker_offset, timestamp)
    }

    const fn leader(&self) -> Result<&Leader, NotLeader> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Idle | Role::Follower(_) => Err(NotLeader),
        }
    }

    fn advance_high_watermark(&mut self, log_end: Offset) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        let Some(candidate) = leader.replicated_to(log_end, self.settings.min_insync_replicas)
        else {
            return false;
        };
        self.raise_high_watermark(candidate)
    }

    fn raise_high_watermark(&mut self, to: Offset) -> bool {
        let advanced = to > self.high_watermark;
        if advanced {
            self.high_watermark = to;
            self.producers.replicated(to);
        }
        advanced
    }
}

#[cfg(test)]
mod tests;
