//! What became of the transactions whose records a pass sees. Pure.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::Offset;
use broker_wire::record::{BatchHeader, ControlRecordType, EndTransactionMarker, RecordError};

use crate::txn_index::AbortedTransaction;

/// Aborted transactions that one pass takes into account; a segment with more of them is not compacted.
pub(crate) const ABORTED_MAX: usize = 1 << 20;

/// How compaction looks at a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its records count: they are of no transaction, or of one that was committed.
    Counts,
    /// Of a transaction that was aborted: nobody reads it.
    Aborted,
    /// A marker that stays as it is.
    Marker,
    /// The marker of a commit before which no record of the transaction is left: nobody needs it.
    Spent,
}

/// The aborted transactions of a log, none of which is ongoing where a pass looks.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    /// Of each producer: first offset, and offset of the marker.
    aborted: BTreeMap<i64, Vec<(Offset, Offset)>>,
    /// Producers with records of a transaction whose marker has yet to come.
    undecided: BTreeSet<i64>,
}

impl Fates {
    /// `aborted` in the order of their markers.
    pub(crate) fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut fates = Self::default();
        for transaction in aborted {
            let of_producer = fates.aborted.entry(transaction.producer_id.0).or_default();
            of_producer.push((transaction.first_offset, transaction.last_offset));
        }
        fates
    }

    /// As [`Self::of`], to be asked for every batch from the start of the log on. Markers are
    /// told apart by what was there when the pass began: what it drops itself is gone for good only
    /// when the next one begins, and readers skip the records of an aborted transaction up to its marker.
    pub(crate) fn follow(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<Fate, RecordError> {
        if !header.is_transactional() || !header.is_control() {
            // What stays as a header begins no transaction when the log is read again.
            if header.is_transactional() && header.record_count > 0 {
                self.undecided.insert(header.producer_id);
            }
            return Ok(self.of(header));
        }
        let decides = self.undecided.remove(&header.producer_id);
        let commits = match EndTransactionMarker::read(batch)? {
            Some(marker) => marker.kind == ControlRecordType::Commit,
            // One that went before stays as a header.
            None => header.record_count == 0,
        };
        match commits && !decides {
            true => Ok(Fate::Spent),
            false => Ok(Fate::Marker),
        }
    }

    /// Of a batch wherever it is.
    pub(crate) fn of(&self, header: &BatchHeader) -> Fate {
        if header.is_control() {
            return Fate::Marker;
        }
        let at = Offset(header.base_offset);
        let aborted = self.aborted.get(&header.producer_id);
        let aborted = aborted.filter(|_| header.is_transactional());
        // A producer has one transaction at a time, so its next marker tells.
        let is_aborted = aborted.is_some_and(|aborted| {
            let next = aborted.partition_point(|(_, marker)| *marker < at);
            aborted.get(next).is_some_and(|(first, _)| *first <= at)
        });
        match is_aborted {
            true => Fate::Aborted,
            false => Fate::Counts,
        }
    }
}
