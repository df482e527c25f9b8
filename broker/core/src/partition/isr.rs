//! ISR changes: the leader proposes, the controller decides, metadata brings the result.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::leader::Leader;
use crate::{BrokerEpoch, BrokerId, Duration, LeaderEpoch, Offset, PartitionEpoch, Time};

/// How long a proposal waits for its result before it is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// How long the leader holds back after a refusal.
const BACK_OFF: Duration = Duration::from_millis(500);

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
    sent_at: Time,
}

impl Leader {
    pub(super) fn propose_isr(
        &mut self,
        now: Time,
        lag_time_max: Duration,
        ends: LogEnds,
    ) -> Option<IsrProposal> {
        if now < self.propose_after {
            return None;
        }
        if let Some(pending) = &mut self.pending {
            if now.since(pending.sent_at) < REPEAT_AFTER {
                return None;
            }
            pending.sent_at = now;
            let isr = pending.isr.clone();
            return Some(self.proposal(&isr));
        }
        let isr = self.wanted_isr(now, lag_time_max, ends);
        if isr == self.isr {
            return None;
        }
        let proposal = self.proposal(&isr);
        self.pending = Some(PendingIsr { isr, sent_at: now });
        Some(proposal)
    }

    /// Members stay while they were caught up within the lag window; others enter once they are
    /// caught up with the log's end, not merely with the high watermark, so that a replica that
    /// can't keep up does not flap.
    fn wanted_isr(&self, now: Time, lag_time_max: Duration, ends: LogEnds) -> BTreeSet<BrokerId> {
        let mut wanted = BTreeSet::from([self.me]);
        for (id, follower) in &self.followers {
            let recent = follower.log_end >= ends.log_end
                || now.since(follower.caught_up_at) <= lag_time_max;
            let in_sync = if self.isr.contains(id) {
                recent
            } else {
                recent
                    && follower.caught_up
                    && follower.log_end >= ends.high_watermark
                    && follower.log_end >= self.epoch_start
            };
            if in_sync {
                wanted.insert(*id);
            }
        }
        wanted
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

    pub(super) fn isr_refused(&mut self, now: Time, partition_epoch: PartitionEpoch) {
        if partition_epoch == self.partition_epoch {
            self.pending = None;
            self.propose_after = now.plus(BACK_OFF);
        }
    }
}
