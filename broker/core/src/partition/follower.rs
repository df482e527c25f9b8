//! The follower's side: the high watermark it may believe, and where a diverging log is cut.

use super::{Replica, Role, SequencedBatch};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerId, LeaderEpoch, Offset, Timestamp};

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) epoch: LeaderEpoch,
    pub(super) leader: Option<BrokerId>,
}

/// The leader's log has no such (epoch, offset) as the follower's log ends with: the largest epoch
/// at or below the follower's, and where it ends in the leader's log (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// What to do with the answer to a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Of another epoch or after a change of role: drop it.
    Stale,
    /// Append the records, then call [`Replica::handle_follower_append`].
    Current,
}

impl Replica {
    /// Checks that an answer belongs to the epoch that this replica follows in.
    #[must_use]
    pub fn handle_pulled(&self, epoch: LeaderEpoch) -> Pulled {
        match &self.role {
            Role::Follower(follower)
                if follower.epoch == epoch || mutated(Mutation::TakeStaleAnswers) =>
            {
                Pulled::Current
            }
            Role::Idle | Role::Leader(_) | Role::Follower(_) => Pulled::Stale,
        }
    }

    /// The follower's log now ends at `log_end` and the leader's high watermark is
    /// `leader_high_watermark`. Returns whether the own high watermark moved.
    pub fn handle_follower_append(
        &mut self,
        leader_high_watermark: Offset,
        log_end: Offset,
    ) -> bool {
        self.leader_high_watermark = self.leader_high_watermark.max(leader_high_watermark);
        self.raise_high_watermark(leader_high_watermark.min(log_end))
    }

    /// Offsets that this replica, whose log ends at `log_end`, lacks of what its leader has told to
    /// be committed.
    #[must_use]
    pub fn offsets_behind_leader(&self, log_end: Offset) -> u64 {
        log_end.records_until(self.leader_high_watermark)
    }

    /// Remembers an idempotent producer's batch that the follower appended.
    pub fn record_sequence(
        &mut self,
        batch: &SequencedBatch,
        base_offset: Offset,
        timestamp: Timestamp,
    ) {
        self.producers.record(batch, base_offset, timestamp);
    }

    /// The follower's log was cut to `log_end`, its sequence state to what lies below. Returns how
    /// many of the records that are gone were committed: more than 0 after an unclean election only.
    pub fn handle_truncation(&mut self, log_end: Offset) -> u64 {
        let given_up = log_end.records_until(self.high_watermark);
        self.high_watermark = self.high_watermark.min(log_end);
        self.leader_high_watermark = self.leader_high_watermark.min(log_end);
        given_up
    }
}

/// Where a follower cuts its log: the end of the diverging epoch in its own log or in the leader's,
/// whichever comes first. `local_end` is where the largest local epoch at or below the divergence's
/// ends.
#[must_use]
pub fn truncation_offset(divergence: Divergence, local_end: Offset, log_end: Offset) -> Offset {
    divergence.end_offset.min(local_end).min(log_end)
}
