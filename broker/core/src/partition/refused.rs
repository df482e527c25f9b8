//! Producers whose batch was refused for a reason that passes.
//!
//! The batches that a producer had sent behind it arrive before it is sent again, and by then the
//! reason may be gone. Refused for the gap in their sequence, they make librdkafka begin a new producer
//! epoch and send everything again, also what an earlier leader has appended without a client's
//! hearing of it: a duplicate that nobody can recognise any more. So the gap has to be a retriable error.

use alloc::collections::BTreeMap;

use super::SequencedBatch;
use crate::{Duration, ProducerEpoch, ProducerId, Time};

/// Longer than batches are on their way that were sent before the refusal was known.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Producers remembered for one partition; of others a gap is refused as such.
const REFUSED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct RefusedBatches {
    first: BTreeMap<ProducerId, Refused>,
}

/// The first batch that a producer was refused.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    sequence: i32,
    until: Time,
}

impl RefusedBatches {
    pub(super) const fn new() -> Self {
        Self {
            first: BTreeMap::new(),
        }
    }

    pub(super) fn note(&mut self, now: Time, batch: &SequencedBatch) {
        let refused = Refused {
            epoch: batch.producer_epoch,
            sequence: batch.first_sequence,
            until: now.plus(REMEMBERED_FOR),
        };
        if let Some(first) = self.first.get_mut(&batch.producer_id) {
            if first.epoch < refused.epoch || first.until <= now {
                *first = refused;
            } else {
                first.until = refused.until;
            }
            return;
        }
        if self.first.len() >= REFUSED_MAX {
            self.first.retain(|_, refused| refused.until > now);
        }
        if self.first.len() < REFUSED_MAX {
            self.first.insert(batch.producer_id, refused);
        }
    }

    /// The producer's batches are taken again.
    pub(super) fn forget(&mut self, producer: ProducerId) {
        if !self.first.is_empty() {
            self.first.remove(&producer);
        }
    }

    /// First sequence of the batch that has to come before `batch`.
    pub(super) fn awaited_before(&self, now: Time, batch: &SequencedBatch) -> Option<i32> {
        let refused = self.first.get(&batch.producer_id)?;
        let holds = refused.until > now && refused.epoch == batch.producer_epoch;
        (holds && refused.sequence != batch.first_sequence).then_some(refused.sequence)
    }
}
