//! Sequence numbers of idempotent producers (KIP-98): duplicates are recognised, gaps refused.
//!
//! Invariants: at most [`PRODUCERS_MAX`] producers and [`BATCHES_MAX`] batches each are remembered;
//! a producer's epoch never falls.

use alloc::collections::{BTreeMap, VecDeque};

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
    #[error("sequence {first} was appended before and is no longer remembered")]
    OldDuplicate { first: i32 },
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
        if producer.batches.len() == BATCHES_MAX
            && batch.last_sequence < producer.batches[0].first_sequence
        {
            return Err(SequenceError::OldDuplicate {
                first: batch.first_sequence,
            });
        }
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
        self.producers
            .retain(|_, producer| producer.last().is_some_and(|last| last.timestamp >= before));
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

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .producers
            .iter()
            .min_by_key(|(_, producer)| producer.last().map(|last| last.timestamp))
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.producers.remove(&id);
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
