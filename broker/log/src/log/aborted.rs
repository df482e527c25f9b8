//! Aborted transactions, in the indexes of the segments.
//!
//! The owner knows the transactions and enters those that were aborted, right after the append of their
//! markers. After an open it forgets what lies past its own last checkpoint, and enters it again.

use std::io;

use broker_core::Offset;

use super::Log;
use crate::error::{ReadError, StorageError};
use crate::slice::LogSlice;
use crate::txn_index::AbortedTransaction;

impl Log {
    /// Takes note of a transaction whose marker was appended as its `last_offset`. After an error the
    /// log is read-only, even for want of space: nobody would skip the records.
    pub fn note_aborted(&mut self, aborted: &AbortedTransaction) -> Result<(), StorageError> {
        self.check_writable()?;
        let index = self.segment_index(aborted.last_offset);
        let segment = &mut self.segments[index];
        let is_new = segment.aborted.path().is_none();
        let noted = segment.aborted.append(aborted);
        self.dir_version += u64::from(is_new);
        noted.map_err(|error| self.fatal(error))
    }

    /// Whether no index was damaged when the log was opened. Else the owner has to enter again what the
    /// whole log tells.
    pub fn knows_aborted(&self) -> bool {
        self.knows_aborted
    }

    /// Forgets transactions whose markers are at `offset` or above, which the owner enters again.
    pub fn forget_aborted_from(&mut self, offset: Offset) -> io::Result<()> {
        self.knows_aborted |= offset <= self.start;
        let first = self.segment_index(offset);
        let mut segments = self.segments[first..].iter_mut();
        segments.try_for_each(|segment| segment.aborted.truncate(offset))
    }

    /// The aborted transactions of which the records from `from` on, up to the end of `records` and
    /// below `upto`, may be a part.
    pub fn aborted_within(
        &self,
        from: Offset,
        records: &LogSlice,
        upto: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let holder = &self.segments[self.segment_index(records.base_offset)];
        let slice_end = records.position + records.len as u64;
        let upto = holder.offset_bound(slice_end)?.min(upto);
        Ok(self.aborted_transactions(from, upto)?)
    }

    /// The aborted transactions that have records below `upto` and a marker at or above `from`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upto: Offset,
    ) -> io::Result<Vec<AbortedTransaction>> {
        self.first_aborted(from, upto, usize::MAX)
    }

    /// As [`Self::aborted_transactions`], at least the first `count` of them.
    pub(super) fn first_aborted(
        &self,
        from: Offset,
        upto: Offset,
        count: usize,
    ) -> io::Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        for segment in &self.segments[self.segment_index(from)..] {
            if found.len() >= count
                || (!segment.aborted.is_empty() && segment.aborted.find(from, upto, &mut found)?)
            {
                break;
            }
        }
        Ok(found)
    }

    /// Copy of a log: takes over what the original knows of the records that the copy has.
    pub fn adopt_aborted(&mut self, original: &Self) -> Result<(), StorageError> {
        let newest = self.newest_aborted().map_err(|error| self.fatal(error))?;
        let from = newest.map_or(self.start, |entry| entry.last_offset.plus(1));
        let known = original.aborted_transactions(from, self.end_offset());
        let known = known.map_err(|error| self.fatal(error))?;
        let end = self.end_offset();
        let copied = known.iter().filter(|entry| entry.last_offset < end);
        copied
            .into_iter()
            .try_for_each(|entry| self.note_aborted(entry))
    }

    /// Before `count` segments from the one at `at` on become one: enters what the later ones know of
    /// aborted transactions in the index of the first, which the new segment takes over. Durable when it
    /// returns. An open cuts it off again as long as the segments are what they were.
    pub(super) fn gather_aborted(&mut self, at: usize, count: usize) -> Result<(), StorageError> {
        let mut later = Vec::new();
        for segment in &self.segments[at + 1..at + count] {
            let read = segment
                .aborted
                .find(segment.base, Offset(i64::MAX), &mut later);
            read.map_err(|error| self.storage_error(error))?;
        }
        if later.is_empty() {
            return Ok(());
        }
        let first = &mut self.segments[at];
        let written = later
            .iter()
            .try_for_each(|entry| first.aborted.append(entry))
            .and_then(|()| first.sync())
            .and_then(|()| self.fs.sync_dir(&self.dir));
        if let Err(error) = written {
            let end = first.end;
            first
                .aborted
                .truncate(end)
                .map_err(|error| self.fatal(error))?;
            return Err(self.storage_error(error));
        }
        Ok(())
    }

    fn newest_aborted(&self) -> io::Result<Option<AbortedTransaction>> {
        for segment in self.segments.iter().rev() {
            if let Some(newest) = segment.aborted.last()? {
                return Ok(Some(newest));
            }
        }
        Ok(None)
    }
}
