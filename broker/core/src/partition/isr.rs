//! ISR changes: the leader proposes, the controller decides, metadata brings the result.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Settings;
use super::leader::{FollowerProgress, Leader};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerEpoch, BrokerId, Duration, LeaderEpoch, Offset, PartitionEpoch, Time};

/// How long a proposal waits for its result before it is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// How long the leader holds back after a refusal.
const BACK_OFF: Duration = Duration::from_millis(500);
/// A member that lags out after so long in the ISR is not taken as flapping.
const STEADY_AFTER: Duration = Duration::from_secs(300);
/// The dwell time grows by at most this power of two.
const DWELL_DOUBLINGS_MAX: u32 = 6;

/// A member of a proposed ISR with the registration epoch it pulled with; the controller refuses a
/// member that has restarted since (KIP-966). The leader itself carries none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    pub broker: BrokerId,
    pub epoch: Option<BrokerEpoch>,
}

/// An ISR for the controller to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<IsrMember>,
}

/// How far the leader's log goes, and how far of it is committed.
#[derive(Clone, Copy)]
pub(super) struct LogEnds {
    pub(super) log_end: Offset,
    pub(super) high_watermark: Offset,
}

#[derive(Debug)]
pub(super) struct PendingIsr {
    pub(super) isr: BTreeSet<BrokerId>,
    /// Everybody whom a proposal at this partition epoch may bring in. Copies of it may be on their
    /// way, whatever the answer to one of them is.
    pub(super) possible: BTreeSet<BrokerId>,
    /// `None`: to be sent at the next look.
    sent_at: Option<Time>,
}

impl Leader {
    pub(super) fn propose_isr(
        &mut self,
        now: Time,
        settings: &Settings,
        ends: LogEnds,
        active: impl Fn(BrokerId) -> bool,
    ) -> Option<IsrProposal> {
        if let Some(pending) = &mut self.pending {
            let waits = |sent_at| now.since(sent_at) < REPEAT_AFTER;
            if pending.sent_at.is_some_and(waits) {
                return None;
            }
            pending.sent_at = Some(now);
            let isr = pending.isr.clone();
            return Some(self.proposal(&isr));
        }
        if now < self.propose_after {
            return None;
        }
        self.note_idle_followers(now, ends.log_end);
        let isr = self.wanted_isr(now, settings, ends, active);
        if isr == self.isr {
            return None;
        }
        let proposal = self.proposal(&isr);
        self.pending = Some(PendingIsr {
            possible: isr.clone(),
            isr,
            sent_at: Some(now),
        });
        Some(proposal)
    }

    /// A follower at the log's end is caught up although it does not pull: it has nothing to ask for.
    fn note_idle_followers(&mut self, now: Time, log_end: Offset) {
        for follower in self.followers.values_mut() {
            if follower.log_end >= log_end {
                follower.caught_up_since.get_or_insert(now);
            }
        }
    }

    /// Members stay while they were caught up within the lag window; others enter by
    /// [`Leader::may_enter`], if the controller does not count them out: it would refuse the change.
    fn wanted_isr(
        &self,
        now: Time,
        settings: &Settings,
        ends: LogEnds,
        active: impl Fn(BrokerId) -> bool,
    ) -> BTreeSet<BrokerId> {
        let mut wanted = BTreeSet::from([self.me]);
        for (id, follower) in &self.followers {
            let recent = follower.log_end >= ends.log_end
                || now.since(follower.caught_up_at) <= settings.lag_time_max;
            let in_sync = recent
                && (self.isr.contains(id)
                    || active(*id)
                        && self.may_enter(now, follower, settings.isr_dwell, ends.high_watermark));
            if in_sync {
                wanted.insert(*id);
            }
        }
        wanted
    }

    /// A follower enters once it is caught up with the log's end, not merely with the high
    /// watermark. One that has lagged out of the ISR must stay caught up for a while first: a
    /// replica that can't keep up does not flap.
    pub(super) fn may_enter(
        &self,
        now: Time,
        follower: &FollowerProgress,
        isr_dwell: Duration,
        high_watermark: Offset,
    ) -> bool {
        let dwelt = follower
            .caught_up_since
            .is_some_and(|since| now.since(since) >= follower.dwell(isr_dwell));
        if mutated(Mutation::EnterWithoutCatchingUp) {
            return true;
        }
        dwelt && follower.log_end >= high_watermark && follower.log_end >= self.epoch_start
    }

    fn proposal(&self, isr: &BTreeSet<BrokerId>) -> IsrProposal {
        IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: isr
                .iter()
                .map(|id| IsrMember {
                    broker: *id,
                    epoch: self.broker_epoch(*id),
                })
                .collect(),
        }
    }

    /// Whoever was proposed counts until the partition epoch rises. To bring that about, the leader
    /// asks for the ISR as it is: what is still on its way comes too late from then on.
    pub(super) fn isr_refused(&mut self, now: Time, partition_epoch: PartitionEpoch) {
        if partition_epoch != self.partition_epoch {
            return;
        }
        self.propose_after = now.plus(BACK_OFF);
        let adds = |pending: &PendingIsr| !pending.possible.is_subset(&self.isr);
        match &mut self.pending {
            Some(pending) if adds(pending) && !mutated(Mutation::ForgetRefusedProposal) => {
                pending.sent_at = (pending.isr == self.isr).then_some(now);
                pending.isr.clone_from(&self.isr);
            }
            _ => self.pending = None,
        }
    }
}

impl FollowerProgress {
    fn dwell(&self, isr_dwell: Duration) -> Duration {
        match self.lapses.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => isr_dwell * (1 << doublings.min(DWELL_DOUBLINGS_MAX)),
        }
    }

    pub(super) fn entered_isr(&mut self, now: Time) {
        self.in_sync_since = now;
        self.has_restarted = false;
    }

    /// The follower has left the ISR because it lagged.
    pub(super) fn lagged_out(&mut self, now: Time) {
        if now.since(self.in_sync_since) >= STEADY_AFTER {
            self.lapses = 0;
        }
        self.lapses = self.lapses.saturating_add(1);
        self.caught_up_since = None;
    }
}
