//! Whether the leader takes what a producer or a transaction coordinator sends.

use super::leader::{Acks, AppendError};
use super::{
    EndMarker, MarkerEpoch, MarkerVerdict, Replica, SequenceError, SequenceVerdict, SequencedBatch,
    VerificationGuard,
};
use crate::Time;

impl Replica {
    /// Whether `batch` may be appended now, or is a repetition of an earlier one (KIP-98).
    /// `batch` is `None` for producers that are not idempotent. Batches of transactions have to pass
    /// [`Replica::check_verified`] as well.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn admit(
        &mut self,
        now: Time,
        acks: Acks,
        batch: Option<&SequencedBatch>,
    ) -> Result<SequenceVerdict, AppendError> {
        let outcome = self.check(now, acks, batch);
        let Some(batch) = batch.filter(|batch| batch.is_numbered()) else {
            return outcome;
        };
        match outcome {
            Err(AppendError::NotEnoughReplicas { .. } | AppendError::NotLeader(_)) => {
                self.note_refused(now, batch);
            }
            Ok(SequenceVerdict::Append)
            | Err(AppendError::Sequence(SequenceError::OutOfOrder { .. })) => {
                if let Some(awaited) = self.producers.missing_before(batch)
                    && self.awaited.note_missing(now, batch, awaited)
                {
                    return Err(AppendError::BehindAwaited { awaited });
                }
            }
            _ => {}
        }
        outcome
    }

    /// `batch` was refused for a reason that passes. Those behind it are refused for such a reason,
    /// too, until it comes again.
    pub fn note_refused(&mut self, now: Time, batch: &SequencedBatch) {
        if !batch.is_numbered() {
            return;
        }
        let first = if self.begins_late(batch) {
            0
        } else {
            batch.first_sequence
        };
        let (id, epoch) = (batch.producer_id, batch.producer_epoch);
        self.awaited.note(now, id, epoch, first);
    }

    /// Whether batches are missing that the producer must have sent before, here or to an earlier
    /// leader. Those may have been forgotten, though (KIP-360).
    fn begins_late(&self, batch: &SequencedBatch) -> bool {
        batch.is_numbered() && batch.first_sequence != 0 && !self.producers.knows(batch.producer_id)
    }

    fn check(
        &self,
        now: Time,
        acks: Acks,
        batch: Option<&SequencedBatch>,
    ) -> Result<SequenceVerdict, AppendError> {
        self.check_in_sync(acks)?;
        let Some(batch) = batch else {
            return Ok(SequenceVerdict::Append);
        };
        let verdict = self.producers.check(batch);
        let gap = matches!(verdict, Err(SequenceError::OutOfOrder { .. }));
        match self.awaited.before(now, batch) {
            Some(awaited) if gap || self.begins_late(batch) => {
                Err(AppendError::BehindAwaited { awaited })
            }
            _ => Ok(verdict?),
        }
    }

    /// The first batch of a transaction needs the guard of its verification.
    ///
    /// # Errors
    /// [`AppendError::Unverified`], which passes when the coordinator is asked again.
    pub fn check_verified(
        &mut self,
        now: Time,
        batch: &SequencedBatch,
        guard: Option<VerificationGuard>,
    ) -> Result<(), AppendError> {
        let begins =
            batch.transactional && !self.in_transaction(batch.producer_id, batch.producer_epoch);
        if begins && !self.verifications.holds(batch, guard) {
            self.note_refused(now, batch);
            return Err(AppendError::Unverified);
        }
        Ok(())
    }

    /// Whether a marker may be appended now.
    ///
    /// # Errors
    /// [`AppendError`]; nothing changed.
    pub fn admit_marker(
        &self,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<MarkerVerdict, AppendError> {
        self.check_in_sync(Acks::All)?;
        Ok(self.producers.check_marker(marker, epoch)?)
    }

    fn check_in_sync(&self, acks: Acks) -> Result<(), AppendError> {
        let leader = self.leader()?;
        let required = match acks {
            Acks::None | Acks::Leader => 0,
            Acks::All => leader.required_in_sync(self.settings.min_insync_replicas),
            Acks::Counted(acks) => leader.counted(acks)?,
        };
        let in_sync = leader.in_sync();
        if in_sync < required {
            return Err(AppendError::NotEnoughReplicas { in_sync, required });
        }
        Ok(())
    }
}
