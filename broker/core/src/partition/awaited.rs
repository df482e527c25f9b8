//! Batches that have to come before others of their producer.
//!
//! When a batch is refused for a reason that passes, those that its producer had sent behind it arrive
//! before it is sent again, and by then the reason may be gone. Appended, as those of a producer that is
//! not known would be, they make librdkafka take the first one for appended, too, which loses it. Refused
//! for the gap in their sequence, they make it begin a new producer epoch and send everything again, also
//! what an earlier leader has appended without a client's hearing of it: a duplicate that nobody can
//! recognise any more. So they are refused, for a reason that passes.

use alloc::collections::BTreeMap;

use super::SequencedBatch;
use crate::{Duration, ProducerEpoch, ProducerId, Time};

/// Longer than batches are on their way that were sent before the refusal was known, and longer than a
/// client pauses before it sends the refused one again.
const AWAITED_FOR: Duration = Duration::from_secs(5);
/// Producers remembered for one partition; others are treated as if nothing had been refused.
const PRODUCERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct AwaitedBatches {
    awaited: BTreeMap<ProducerId, Awaited>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    epoch: ProducerEpoch,
    sequence: i32,
    until: Time,
}

impl AwaitedBatches {
    pub(super) const fn new() -> Self {
        Self {
            awaited: BTreeMap::new(),
        }
    }

    /// The batch of this epoch that begins with `sequence` has to come next, unless an earlier one has to.
    pub(super) fn note(
        &mut self,
        now: Time,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
    ) {
        let until = now.plus(AWAITED_FOR);
        let awaited = Awaited {
            epoch,
            sequence,
            until,
        };
        if let Some(known) = self.awaited.get_mut(&producer) {
            if known.epoch < epoch || known.until <= now {
                *known = awaited;
            } else {
                known.until = until;
            }
        } else if self.has_room(now) {
            self.awaited.insert(producer, awaited);
        }
    }

    fn has_room(&mut self, now: Time) -> bool {
        if self.awaited.len() >= PRODUCERS_MAX {
            self.expire(now);
        }
        self.awaited.len() < PRODUCERS_MAX
    }

    /// As [`Self::note`], once: `false` when it was awaited before, in vain.
    pub(super) fn note_once(
        &mut self,
        now: Time,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
    ) -> bool {
        let was_awaited = self
            .awaited
            .get(&producer)
            .is_some_and(|known| known.epoch == epoch);
        if was_awaited || !self.has_room(now) {
            return false;
        }
        self.note(now, producer, epoch, sequence);
        true
    }

    /// Forgets what is awaited no more.
    pub(super) fn expire(&mut self, now: Time) {
        self.awaited.retain(|_, awaited| awaited.until > now);
    }

    /// The producer's batches are taken again.
    pub(super) fn forget(&mut self, producer: ProducerId) {
        if !self.awaited.is_empty() {
            self.awaited.remove(&producer);
        }
    }

    /// First sequence of the batch that has to come before `batch`.
    pub(super) fn before(&self, now: Time, batch: &SequencedBatch) -> Option<i32> {
        let awaited = self.awaited.get(&batch.producer_id)?;
        let holds = awaited.until > now && awaited.epoch == batch.producer_epoch;
        (holds && awaited.sequence != batch.first_sequence).then_some(awaited.sequence)
    }
}
