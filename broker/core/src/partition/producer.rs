//! What is remembered of one idempotent producer: its epoch, its latest batches, its transaction.
//!
//! Invariants: at most [`BATCHES_MAX`] batches, in the order of their sequences; the epoch never falls.

use alloc::collections::VecDeque;

use super::producers::SequencedBatch;
use crate::{CoordinatorEpoch, Offset, ProducerEpoch, Timestamp};

/// Batches remembered for one producer, as many as a client may have in flight.
const BATCHES_MAX: usize = 5;
/// Sequences wrap: what is farther ahead than this lies behind.
pub(super) const AHEAD_MAX: i32 = i32::MAX / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
    pub(super) timestamp: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Producer {
    pub(super) epoch: ProducerEpoch,
    /// Empty after a marker that raised the epoch.
    pub(super) batches: VecDeque<Appended>,
    /// How many sequences up to the last are known to be here without a gap; at most [`AHEAD_MAX`]. A
    /// snapshot tells of those of its batches only.
    unbroken: i32,
    pub(super) last_timestamp: Timestamp,
    /// Of the last marker.
    pub(super) coordinator_epoch: CoordinatorEpoch,
    /// First offset of the ongoing transaction.
    pub(super) transaction_start: Option<Offset>,
}

/// As far as a snapshot tells.
impl PartialEq for Producer {
    fn eq(&self, other: &Self) -> bool {
        let told = |of: &Self| {
            (
                of.epoch,
                of.last_timestamp,
                of.coordinator_epoch,
                of.transaction_start,
            )
        };
        told(self) == told(other) && self.batches == other.batches
    }
}

impl Eq for Producer {}

impl Producer {
    pub(super) const fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: VecDeque::new(),
            unbroken: 0,
            last_timestamp: Timestamp(-1),
            coordinator_epoch: CoordinatorEpoch::NONE,
            transaction_start: None,
        }
    }

    /// -1 before the first batch of the epoch.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |last| last.last_sequence)
    }

    /// Where the last batch ends, if all of `batch` is here, in the batches that are remembered or before.
    pub(super) fn end_of_appended(&self, batch: &SequencedBatch) -> Option<Offset> {
        let last = self.batches.back()?;
        let behind = |sequence: i32| last.last_sequence.wrapping_sub(sequence) & i32::MAX;
        let first = behind(batch.first_sequence);
        (first < self.unbroken && behind(batch.last_sequence) <= first).then_some(last.end_offset)
    }

    pub(super) fn push(&mut self, batch: Appended) {
        let continues = (self.batches.back())
            .is_some_and(|last| batch.first_sequence == next_sequence(last.last_sequence));
        if !continues {
            self.unbroken = 0;
        }
        let count = batch.last_sequence.wrapping_sub(batch.first_sequence) & i32::MAX;
        self.unbroken = count
            .saturating_add(1)
            .saturating_add(self.unbroken)
            .min(AHEAD_MAX);
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    pub(super) fn raise_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// Sequences wrap from `i32::MAX` to 0.
pub(super) const fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

pub(super) fn sequence_count(batch: &SequencedBatch) -> i64 {
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
