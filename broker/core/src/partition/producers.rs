//! Sequence numbers of idempotent producers (KIP-98): duplicates are recognised, gaps refused.
//!
//! Invariants: at most [`PRODUCERS_MAX`] producers and [`BATCHES_MAX`] batches each are remembered;
//! a producer's epoch never falls; `by_age` holds every producer once, by its last batch.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;

use crate::mutation::{Mutation, mutated};
use crate::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// Producers remembered for one partition; beyond it the one longest silent is forgotten.
pub const PRODUCERS_MAX: usize = 100_000;
/// Batches remembered for one producer, as many as a client may have in flight.
const BATCHES_MAX: usize = 5;

/// What a batch header says about its place in the producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencedBatch {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub first_sequence: i32,
    pub last_sequence: i32,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceVerdict {
    Append,
    /// Appended before, at this offset: answer as then.
    Duplicate {
        base_offset: Offset,
        end_offset: Offset,
        timestamp: Timestamp,
    },
}

/// Why a batch does not fit its producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SequenceError {
    #[error("producer epoch {epoch} is older than {current}; another producer took over")]
    FencedEpoch {
        epoch: ProducerEpoch,
        current: ProducerEpoch,
    },
    #[error("sequence {first} does not follow {last}")]
    OutOfOrder { first: i32, last: i32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    end_offset: Offset,
    timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    batches: VecDeque<Appended>,
}

impl Producer {
    fn last(&self) -> Option<&Appended> {
        self.batches.back()
    }
}

/// One remembered batch, as it is written to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    pub batch: SequencedBatch,
    pub base_offset: Offset,
    pub timestamp: Timestamp,
}

/// Sequence state of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    by_age: BTreeSet<(Timestamp, ProducerId)>,
}

impl Producers {
    /// Where `batch` stands in its producer's sequence. A producer that is not known may start
    /// anywhere: its state may have expired (KIP-360).
    ///
    /// # Errors
    /// [`SequenceError`].
    pub fn check(&self, batch: &SequencedBatch) -> Result<SequenceVerdict, SequenceError> {
        if mutated(Mutation::AppendDuplicates) {
            return Ok(SequenceVerdict::Append);
        }
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Ok(SequenceVerdict::Append);
        };
        let Some(last) = producer.last() else {
            return Ok(SequenceVerdict::Append);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(SequenceError::FencedEpoch {
                epoch: batch.producer_epoch,
                current: producer.epoch,
            });
        }
        let out_of_order = SequenceError::OutOfOrder {
            first: batch.first_sequence,
            last: last.last_sequence,
        };
        if batch.producer_epoch > producer.epoch {
            return if batch.first_sequence == 0 {
                Ok(SequenceVerdict::Append)
            } else {
                Err(out_of_order)
            };
        }
        let repeated = producer.batches.iter().find(|seen| {
            seen.first_sequence == batch.first_sequence && seen.last_sequence == batch.last_sequence
        });
        if let Some(seen) = repeated {
            return Ok(SequenceVerdict::Duplicate {
                base_offset: seen.base_offset,
                end_offset: seen.end_offset,
                timestamp: seen.timestamp,
            });
        }
        if batch.first_sequence == next_sequence(last.last_sequence) {
            return Ok(SequenceVerdict::Append);
        }
        // Not DUPLICATE_SEQUENCE_NUMBER, which clients take for success, for what lies before the batches
        // that are remembered: a producer that was not known may have begun behind it.
        Err(out_of_order)
    }

    /// Remembers an appended batch; called by leaders, by followers and when a log is read again.
    pub fn record(&mut self, batch: &SequencedBatch, base_offset: Offset, timestamp: Timestamp) {
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&batch.producer_id)
        {
            self.forget_oldest();
        }
        let producer = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.producer_epoch,
                batches: VecDeque::with_capacity(1),
            });
        if let Some(last) = producer.last() {
            self.by_age.remove(&(last.timestamp, batch.producer_id));
        }
        self.by_age.insert((timestamp, batch.producer_id));
        if batch.producer_epoch > producer.epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Appended {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            base_offset,
            end_offset: base_offset.plus(sequence_count(batch)),
            timestamp,
        });
    }

    /// Forgets producers that were silent since `before` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, before: Timestamp) {
        while let Some((timestamp, _)) = self.by_age.first()
            && *timestamp < before
        {
            self.forget_oldest();
        }
    }

    /// All that is remembered, in an order that [`Self::record`] can replay.
    pub fn snapshot(&self) -> impl Iterator<Item = ProducerSnapshot> + '_ {
        self.producers.iter().flat_map(|(id, producer)| {
            producer.batches.iter().map(|appended| ProducerSnapshot {
                batch: SequencedBatch {
                    producer_id: *id,
                    producer_epoch: producer.epoch,
                    first_sequence: appended.first_sequence,
                    last_sequence: appended.last_sequence,
                },
                base_offset: appended.base_offset,
                timestamp: appended.timestamp,
            })
        })
    }

    pub(super) fn knows(&self, producer: ProducerId) -> bool {
        self.producers.contains_key(&producer)
    }

    /// Where the last batch of each producer ends.
    pub fn last_batches(&self) -> impl Iterator<Item = (ProducerId, Offset)> + '_ {
        let last =
            |(id, producer): (&ProducerId, &Producer)| Some((*id, producer.last()?.end_offset));
        self.producers.iter().filter_map(last)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first() {
            self.producers.remove(&oldest);
        }
    }
}

/// Sequences wrap from `i32::MAX` to 0.
const fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

fn sequence_count(batch: &SequencedBatch) -> i64 {
    let (first, last) = (
        i64::from(batch.first_sequence),
        i64::from(batch.last_sequence),
    );
    if last >= first {
        last - first + 1
    } else {
        last + (1 << 31) - first + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer: i64) -> SequencedBatch {
        SequencedBatch {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            first_sequence: 0,
            last_sequence: 0,
        }
    }

    /// Ends in time only if a producer too many is cheap.
    #[test]
    fn the_producers_that_were_silent_longest_are_forgotten_at_the_limit() {
        let mut producers = Producers::default();
        let count = 3 * PRODUCERS_MAX as i64;
        for id in 0..count {
            // The first stays busy.
            producers.record(&batch(0), Offset(0), Timestamp(id));
            producers.record(&batch(id), Offset(0), Timestamp(id));
        }
        assert_eq!(producers.producers.len(), PRODUCERS_MAX);
        assert_eq!(producers.by_age.len(), PRODUCERS_MAX);
        let oldest = count - PRODUCERS_MAX as i64 + 1;
        for (id, known) in [(0, true), (oldest - 1, false), (oldest, true)] {
            assert_eq!(producers.producers.contains_key(&ProducerId(id)), known);
        }
        producers.expire(Timestamp(count - 1));
        assert_eq!(producers.producers.len(), 2);
        assert_eq!(producers.by_age.len(), 2);
    }
}
