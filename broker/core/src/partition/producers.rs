//! Idempotent producers (KIP-98): their sequence numbers, so that duplicates are recognised and gaps
//! refused, and their ongoing transactions.
//!
//! Invariants: at most [`PRODUCERS_MAX`] producers without a transaction are remembered; `by_age` holds
//! every one of them once, by its last batch or the marker that left none: one with a transaction is
//! not forgotten.

use alloc::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::producer::{AHEAD_MAX, Appended, Producer, next_sequence, sequence_count};
use super::transactions::{
    EndMarker, EndedTransaction, MarkerEpoch, MarkerError, MarkerVerdict, ProducerState,
    TRANSACTIONS_MAX, UnstableOffsets,
};
use crate::mutation::{Mutation, mutated};
use crate::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Producers remembered for one partition; beyond it the one longest silent is forgotten.
pub const PRODUCERS_MAX: usize = 100_000;

/// First and last sequence of a batch that a coordinator writes for a producer, as the offsets of a
/// transaction are: it has no place in the producer's own sequence.
pub const NO_SEQUENCE: i32 = -1;

/// What a batch header says about its place in the producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencedBatch {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// [`NO_SEQUENCE`] of a batch that a coordinator writes.
    pub first_sequence: i32,
    pub last_sequence: i32,
    /// Whether it belongs to a transaction of its producer.
    pub transactional: bool,
}

impl SequencedBatch {
    /// Whether it has a place in its producer's sequence.
    pub(super) const fn is_numbered(&self) -> bool {
        self.first_sequence != NO_SEQUENCE
    }
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
    /// Appended before, too long ago to know where; below `end_offset`.
    AppendedBefore {
        end_offset: Offset,
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
    #[error("the producer has a transaction, to which this batch does not belong")]
    OutsideTransaction,
    #[error("{TRANSACTIONS_MAX} transactions are ongoing in the partition; retry later")]
    TooManyTransactions,
}

/// What a snapshot holds of a producer: one entry for each remembered batch, or one without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub batch: Option<BatchSnapshot>,
    /// Of the batch, or of the marker that left none.
    pub timestamp: Timestamp,
    pub coordinator_epoch: CoordinatorEpoch,
    pub transaction_start: Option<Offset>,
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSnapshot {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
}

/// Producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    by_age: BTreeSet<(Timestamp, ProducerId)>,
    unstable: UnstableOffsets,
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
            return self.check_transaction(None, batch);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(SequenceError::FencedEpoch {
                epoch: batch.producer_epoch,
                current: producer.epoch,
            });
        }
        if !batch.is_numbered() {
            return self.check_transaction(Some(producer), batch);
        }
        let last_sequence = producer.last_sequence();
        let out_of_order = SequenceError::OutOfOrder {
            first: batch.first_sequence,
            last: last_sequence,
        };
        if batch.producer_epoch > producer.epoch {
            return if batch.first_sequence == 0 {
                self.check_transaction(Some(producer), batch)
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
        if batch.first_sequence == next_sequence(last_sequence) {
            return self.check_transaction(Some(producer), batch);
        }
        // A producer that was not known may have begun behind what lies before the batches that are known.
        match producer.end_of_appended(batch) {
            Some(end_offset) => Ok(SequenceVerdict::AppendedBefore { end_offset }),
            None => Err(out_of_order),
        }
    }

    fn check_transaction(
        &self,
        producer: Option<&Producer>,
        batch: &SequencedBatch,
    ) -> Result<SequenceVerdict, SequenceError> {
        let ongoing = producer.is_some_and(|producer| producer.transaction_start.is_some());
        match (batch.transactional, ongoing) {
            (false, true) => Err(SequenceError::OutsideTransaction),
            (true, false) if self.unstable.ongoing_count() >= TRANSACTIONS_MAX => {
                Err(SequenceError::TooManyTransactions)
            }
            _ => Ok(SequenceVerdict::Append),
        }
    }

    /// Remembers an appended batch; called by leaders, by followers and when a log is read again.
    pub fn record(&mut self, batch: &SequencedBatch, base_offset: Offset, timestamp: Timestamp) {
        let end_offset = base_offset.plus(sequence_count(batch));
        let producer = self.touch(batch.producer_id, batch.producer_epoch, timestamp);
        if batch.is_numbered() {
            producer.push(Appended {
                first_sequence: batch.first_sequence,
                last_sequence: batch.last_sequence,
                base_offset,
                end_offset,
                timestamp,
            });
        }
        let begins = batch.transactional && producer.transaction_start.is_none();
        if begins {
            producer.transaction_start = Some(base_offset);
            self.unstable.begin(base_offset);
        }
        self.settle(batch.producer_id);
    }

    /// Whether a marker may be written.
    ///
    /// # Errors
    /// [`MarkerError`].
    pub fn check_marker(
        &self,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<MarkerVerdict, MarkerError> {
        let Some(producer) = self.producers.get(&marker.producer_id) else {
            return Ok(MarkerVerdict::Append);
        };
        if marker.producer_epoch < producer.epoch {
            return Err(MarkerError::FencedEpoch {
                epoch: marker.producer_epoch,
                current: producer.epoch,
            });
        }
        if marker.coordinator_epoch < producer.coordinator_epoch {
            return Err(MarkerError::FencedCoordinator {
                epoch: marker.coordinator_epoch,
                current: producer.coordinator_epoch,
            });
        }
        if epoch == MarkerEpoch::Raised && marker.producer_epoch == producer.epoch {
            return Ok(MarkerVerdict::Ended);
        }
        Ok(MarkerVerdict::Append)
    }

    /// Takes note of a marker in the log; called as [`Self::record`]. `None` when the producer had no
    /// records in its transaction here.
    pub fn end_transaction(
        &mut self,
        marker: &EndMarker,
        marker_offset: Offset,
        timestamp: Timestamp,
    ) -> Option<EndedTransaction> {
        // A snapshot knows no other time of a producer than that of its last batch, if there is one.
        let present = self.producers.get(&marker.producer_id);
        let batch_stays = present
            .filter(|known| known.epoch >= marker.producer_epoch && !known.batches.is_empty());
        let timestamp = batch_stays.map_or(timestamp, |known| known.last_timestamp);
        let producer = self.touch(marker.producer_id, marker.producer_epoch, timestamp);
        producer.coordinator_epoch = producer.coordinator_epoch.max(marker.coordinator_epoch);
        let start = producer.transaction_start.take();
        self.settle(marker.producer_id);
        let first_offset = start?;
        Some(EndedTransaction {
            producer_id: marker.producer_id,
            first_offset,
            marker_offset,
            last_stable_offset: self.unstable.end(first_offset, marker_offset),
            outcome: marker.outcome,
        })
    }

    /// Whether this epoch of the producer has a transaction here.
    #[must_use]
    pub fn in_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        let producer = self.producers.get(&id);
        producer.is_some_and(|p| p.epoch == epoch && p.transaction_start.is_some())
    }

    /// First offset of the transactions that are ongoing, or whose end is not known to be replicated.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.unstable.first()
    }

    /// Everything below `high_watermark` is replicated.
    pub(super) fn replicated(&mut self, high_watermark: Offset) {
        self.unstable.replicated(high_watermark);
    }

    /// Forgets producers that were silent since `before` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, before: Timestamp) {
        while let Some((timestamp, _)) = self.by_age.first()
            && *timestamp < before
        {
            self.forget_oldest();
        }
    }

    /// All that is remembered, in an order that [`Self::restore`] can replay.
    pub fn snapshot(&self) -> impl Iterator<Item = ProducerSnapshot> + '_ {
        self.producers.iter().flat_map(|(id, producer)| {
            let entry = |batch: Option<&Appended>| ProducerSnapshot {
                producer_id: *id,
                producer_epoch: producer.epoch,
                batch: batch.map(|appended| BatchSnapshot {
                    first_sequence: appended.first_sequence,
                    last_sequence: appended.last_sequence,
                    base_offset: appended.base_offset,
                }),
                timestamp: batch.map_or(producer.last_timestamp, |appended| appended.timestamp),
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.transaction_start,
            };
            let none = producer.batches.is_empty().then(|| entry(None));
            let batches = producer.batches.iter();
            batches.map(move |batch| entry(Some(batch))).chain(none)
        })
    }

    /// Takes over an entry of a snapshot.
    pub fn restore(&mut self, entry: &ProducerSnapshot) {
        match entry.batch {
            Some(batch) => {
                let sequenced = SequencedBatch {
                    producer_id: entry.producer_id,
                    producer_epoch: entry.producer_epoch,
                    first_sequence: batch.first_sequence,
                    last_sequence: batch.last_sequence,
                    transactional: false,
                };
                self.record(&sequenced, batch.base_offset, entry.timestamp);
            }
            None => {
                self.touch(entry.producer_id, entry.producer_epoch, entry.timestamp);
            }
        }
        if let Some(producer) = self.producers.get_mut(&entry.producer_id) {
            producer.coordinator_epoch = entry.coordinator_epoch;
            producer.transaction_start = entry.transaction_start;
            if let Some(start) = entry.transaction_start {
                self.unstable.begin(start);
            }
        }
        self.settle(entry.producer_id);
    }

    /// Producers by their ids.
    pub fn states(&self) -> impl Iterator<Item = ProducerState> + '_ {
        self.producers.iter().map(|(id, producer)| ProducerState {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction_start,
        })
    }

    /// First sequence of what the producer must have sent before `batch`, and that is not here.
    pub(super) fn missing_before(&self, batch: &SequencedBatch) -> Option<i32> {
        let known = self.producers.get(&batch.producer_id);
        let last = known
            .filter(|producer| producer.epoch >= batch.producer_epoch)
            .and_then(|producer| producer.batches.back());
        let Some(last) = last else {
            return (batch.first_sequence != 0).then_some(0);
        };
        let next = next_sequence(last.last_sequence);
        let ahead = batch.first_sequence.wrapping_sub(next) & i32::MAX;
        (1..=AHEAD_MAX).contains(&ahead).then_some(next)
    }

    pub(super) fn knows(&self, producer: ProducerId) -> bool {
        self.producers.contains_key(&producer)
    }

    /// Where the last batch of each producer ends.
    pub fn last_batches(&self) -> impl Iterator<Item = (ProducerId, Offset)> + '_ {
        let last = |(id, producer): (&ProducerId, &Producer)| {
            Some((*id, producer.batches.back()?.end_offset))
        };
        self.producers.iter().filter_map(last)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// The producer, made if need be, which was heard of at `timestamp` and is out of `by_age` until
    /// [`Self::settle`].
    fn touch(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        timestamp: Timestamp,
    ) -> &mut Producer {
        if self.by_age.len() >= PRODUCERS_MAX && !self.producers.contains_key(&id) {
            self.forget_oldest();
        }
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(epoch));
        self.by_age.remove(&(producer.last_timestamp, id));
        producer.last_timestamp = timestamp;
        producer.raise_epoch(epoch);
        producer
    }

    fn settle(&mut self, id: ProducerId) {
        if let Some(producer) = self.producers.get(&id) {
            let place = (producer.last_timestamp, id);
            match producer.transaction_start {
                Some(_) => self.by_age.remove(&place),
                None => self.by_age.insert(place),
            };
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first() {
            self.producers.remove(&oldest);
        }
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
            transactional: false,
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
