//! Transactions in one partition (KIP-98): how they end, and up to where all of them have.
//!
//! Invariant: a transaction's first offset is unstable from its first record on until the marker that
//! ends it is replicated.

use alloc::collections::{BTreeSet, VecDeque};

use thiserror::Error;

use crate::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId};

/// Transactions that may be ongoing in one partition; a leader lets no further one begin.
pub const TRANSACTIONS_MAX: usize = 100_000;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionOutcome {
    Commit,
    /// Its records are to be skipped.
    Abort,
}

/// What the producer epoch of a marker tells of the transaction that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerEpoch {
    /// It is that of the transaction's records, or higher.
    Any,
    /// It was raised for the marker (KIP-890): a producer that has it here has seen the marker, and what
    /// it does is the next transaction, which a late copy must not end.
    Raised,
}

/// What to do with a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerVerdict {
    Append,
    /// It is in the log already, or nothing is there to be ended.
    Ended,
}

/// The control record that ends a producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// Epoch of the coordinator that decided.
    pub coordinator_epoch: CoordinatorEpoch,
    pub outcome: TransactionOutcome,
}

/// A transaction that had records in the partition and has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    pub producer_id: ProducerId,
    /// Of its first record.
    pub first_offset: Offset,
    /// Of its marker.
    pub marker_offset: Offset,
    /// Every transaction that began before this offset has a marker now.
    pub last_stable_offset: Offset,
    pub outcome: TransactionOutcome,
}

/// Why a marker is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MarkerError {
    #[error("producer epoch {epoch} of the marker is older than {current}")]
    FencedEpoch {
        epoch: ProducerEpoch,
        current: ProducerEpoch,
    },
    #[error("coordinator epoch {epoch} of the marker is older than {current}")]
    FencedCoordinator {
        epoch: CoordinatorEpoch,
        current: CoordinatorEpoch,
    },
}

/// What an idempotent producer has in a partition, for `DescribeProducers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// -1 after a marker that raised the epoch.
    pub last_sequence: i32,
    /// Milliseconds of its last batch or marker.
    pub last_timestamp: crate::Timestamp,
    pub coordinator_epoch: CoordinatorEpoch,
    /// First offset of the ongoing transaction.
    pub transaction_start: Option<Offset>,
}

/// First offsets of transactions that readers of committed records must not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnstableOffsets {
    ongoing: BTreeSet<Offset>,
    /// Ended by a marker that is not known to be replicated: in the order of the markers.
    ended: VecDeque<Ended>,
    ended_starts: BTreeSet<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    start: Offset,
    marker: Offset,
}

impl UnstableOffsets {
    pub(super) fn ongoing_count(&self) -> usize {
        self.ongoing.len()
    }

    pub(super) fn begin(&mut self, start: Offset) {
        self.ongoing.insert(start);
    }

    /// Returns below which offset every transaction has a marker.
    pub(super) fn end(&mut self, start: Offset, marker: Offset) -> Offset {
        self.ongoing.remove(&start);
        self.ended.push_back(Ended { start, marker });
        self.ended_starts.insert(start);
        let first = self.ongoing.first().copied();
        first.unwrap_or_else(|| marker.plus(1))
    }

    /// Everything below `high_watermark` is replicated, markers among it.
    pub(super) fn replicated(&mut self, high_watermark: Offset) {
        while let Some(ended) = self.ended.pop_front_if(|e| e.marker < high_watermark) {
            self.ended_starts.remove(&ended.start);
        }
    }

    pub(super) fn first(&self) -> Option<Offset> {
        let ongoing = self.ongoing.first().into_iter();
        ongoing.chain(self.ended_starts.first()).min().copied()
    }
}
