//! Where the last appended batches stand: who reads at the end of the log, as followers and most
//! consumers do, finds them without a look into the file.
//!
//! Invariant: batches follow each other without a gap between their positions, and the last one ends
//! the segment.

use std::collections::VecDeque;

use broker_core::Offset;
use broker_wire::record::BatchHeader;

/// About a kilobyte for each partition that is written to.
const TAIL_BATCHES_MAX: usize = 32;

/// A batch in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) position: u64,
    pub(crate) position_end: u64,
    pub(crate) base: Offset,
    /// After the last record.
    pub(crate) end: Offset,
}

impl BatchSpan {
    pub(crate) fn new(position: u64, header: &BatchHeader) -> Self {
        Self {
            position,
            position_end: position + header.total_len() as u64,
            base: Offset(header.base_offset),
            end: Offset(header.next_offset()),
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Tail {
    batches: VecDeque<BatchSpan>,
}

impl Tail {
    pub(super) fn push(&mut self, batch: BatchSpan) {
        if self.batches.len() == TAIL_BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    /// Nothing is known any more: the segment was cut, or is not written to again.
    pub(super) fn clear(&mut self) {
        self.batches = VecDeque::new();
    }

    /// The first batch that ends after `offset`, if it is certain that none before these does.
    pub(super) fn find(&self, offset: Offset) -> Option<BatchSpan> {
        if offset < self.batches.front()?.base {
            return None;
        }
        let at = self.batches.partition_point(|batch| batch.end <= offset);
        self.batches.get(at).copied()
    }

    /// Where the last batch ends that starts at `start` or later, ends by `position_max` and holds
    /// nothing at or above `upto`; `start` if none does. `None` if these are not all batches from
    /// `start` on.
    pub(super) fn end_of_batches(
        &self,
        start: u64,
        position_max: u64,
        upto: Offset,
    ) -> Option<u64> {
        if start < self.batches.front()?.position {
            return None;
        }
        let fits = |batch: &BatchSpan| batch.position_end <= position_max && batch.end <= upto;
        let fitting = self.batches.partition_point(fits);
        let last = fitting.checked_sub(1).map(|last| self.batches[last]);
        Some(last.map_or(start, |last| last.position_end.max(start)))
    }

    /// The end of the batch that ends at `position`.
    pub(super) fn end_at(&self, position: u64) -> Option<Offset> {
        let at = self
            .batches
            .binary_search_by_key(&position, |batch| batch.position_end);
        at.ok().map(|at| self.batches[at].end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of ten records in 100 bytes each.
    fn tail(batches: u64) -> Tail {
        let mut tail = Tail::default();
        for batch in 0..batches {
            tail.push(BatchSpan {
                position: batch * 100,
                position_end: (batch + 1) * 100,
                base: Offset(batch as i64 * 10),
                end: Offset(batch as i64 * 10 + 10),
            });
        }
        tail
    }

    #[test]
    fn only_what_is_certain_is_answered() {
        assert_eq!(Tail::default().find(Offset(0)), None);
        let tail = tail(TAIL_BATCHES_MAX as u64 + 2);
        assert_eq!(tail.find(Offset(19)), None, "forgotten");
        assert_eq!(tail.find(Offset(20)).unwrap().position, 200);
        assert_eq!(tail.find(Offset(39)).unwrap().position, 300);
        assert_eq!(tail.find(Offset(340)), None, "the end");
    }

    #[test]
    fn batches_end_by_size_and_by_offset() {
        let tail = tail(10);
        let end = |start, max, upto| tail.end_of_batches(start, max, Offset(upto));
        assert_eq!(end(300, 599, 100), Some(500));
        assert_eq!(end(300, 1000, 67), Some(600));
        assert_eq!(end(300, 399, 100), Some(300));
        assert_eq!(Tail::default().end_of_batches(0, 100, Offset(10)), None);
    }
}
