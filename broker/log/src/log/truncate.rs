//! Cutting the log at its end, when the leader's log differs.

use std::io;

use broker_core::Offset;

use super::Log;
use crate::checkpoint;
use crate::error::StorageError;
use crate::fs::is_no_space;
use crate::segment::Segment;

/// Limits what the next open believes of recovery point and log start offset, which were checkpointed
/// earlier: the records above the offset in this file may have been written after the truncation. And
/// what is seen to be cut when the process was killed may be back after a power failure: with this
/// file, the open makes durable what it finds before anything is appended to it.
pub(super) const TRUNCATED_TO: &str = "truncated-to";

/// What the owner of a log writes down every few seconds, the start offset first: the recovery point
/// may be that of a log whose front was deleted. See [`Log::checkpointed`].
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// See [`Log::recovery_point`].
    pub recovery_point: Offset,
    /// See [`Log::start_offset`].
    pub start_offset: Offset,
    truncations: u64,
}

impl Log {
    /// Removes every record at or above `offset`; a batch that holds it goes as a whole. The log
    /// then ends where its last batch does. Durable when it returns.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset >= self.end_offset() {
            return Ok(());
        }
        if offset <= self.segments[0].base {
            return self.truncate_fully_and_start_at(offset);
        }
        self.check_writable()?;
        let kept = self
            .segments
            .partition_point(|segment| segment.base < offset);
        let last = &self.segments[kept - 1];
        // A batch that goes as a whole may take the start offset with it.
        let takes_start =
            matches!(last.find(offset), Ok(Some((_, header))) if header.base_offset < self.start.0);
        self.limit_belief(match offset < self.recovery_point || takes_start {
            true => last.base,
            false => self.recovery_point,
        })?;
        self.truncations += 1;
        self.cut(kept, offset).map_err(|error| self.fatal(error))
    }

    /// Keeps the first `kept` segments, and what lies below `offset` in the last of them.
    fn cut(&mut self, kept: usize, offset: Offset) -> io::Result<()> {
        self.remove_segments_from(kept)?;
        self.active_mut().truncate(offset)?;
        self.start = self.start.min(self.end_offset());
        self.finish_truncation()
    }

    /// Takes back the part of an append that was written before the disk was full. It needs no space:
    /// nothing below the recovery point changes.
    pub(super) fn undo_append(&mut self, end: Offset) -> Result<(), StorageError> {
        let kept = self
            .segments
            .partition_point(|segment| segment.base < end)
            .max(1);
        self.truncations += 1;
        self.cut(kept, end).map_err(|error| self.fatal(error))
    }

    /// Removes everything and starts anew at `offset`: what a follower does whose log lies wholly
    /// before its leader's. Durable when it returns.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.check_writable()?;
        self.limit_belief(Offset(0))?;
        self.truncations += 1;
        self.remove_segments_from(0)
            .map_err(|error| self.fatal(error))?;
        let segment = Segment::create(&self.fs, &self.dir, offset, &self.config)
            .map_err(|error| self.fatal(error))?;
        self.segments = vec![segment];
        self.start = offset;
        self.finish_truncation().map_err(|error| self.fatal(error))
    }

    /// What is to be checkpointed now.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            recovery_point: self.recovery_point,
            start_offset: self.start,
            truncations: self.truncations,
        }
    }

    /// Takes note that the owner's checkpoints hold `checkpoint` durably, so that no earlier one can
    /// vouch for records that were cut off since.
    pub fn checkpointed(&mut self, checkpoint: Checkpoint) {
        if checkpoint.truncations == self.truncations && self.believes_up_to.take().is_some() {
            // Should the removal fail or not last, the next open scans more than it must.
            let _ = self.fs.remove(&self.dir.join(TRUNCATED_TO));
        }
    }

    /// Before a truncation: limits what the next open believes to what lies below `offset`, where the
    /// first file begins that is about to be cut, and has it make durable what it finds.
    fn limit_belief(&mut self, offset: Offset) -> Result<(), StorageError> {
        if self.believes_up_to.is_some_and(|limit| limit <= offset) {
            return Ok(());
        }
        let text = format!("{offset}\n");
        checkpoint::replace(&*self.fs, &self.dir.join(TRUNCATED_TO), text.as_bytes())
            .map_err(|error| self.storage_error(error))?;
        self.believes_up_to = Some(offset);
        Ok(())
    }

    /// Removes segments from the end backwards, so that a crash leaves a prefix of the log. The first
    /// stays in memory: a log is never without one.
    fn remove_segments_from(&mut self, kept: usize) -> io::Result<()> {
        for i in (kept..self.segments.len()).rev() {
            let removed = match i {
                0 => self.remove_files(&self.segments[0]),
                _ => self
                    .segments
                    .pop()
                    .map_or(Ok(()), |s| self.remove_files(&s)),
            };
            removed?;
            self.fs.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    pub(super) fn remove_files(&self, segment: &Segment) -> io::Result<()> {
        segment
            .paths()
            .into_iter()
            .try_for_each(|path| self.fs.remove(path))
    }

    fn finish_truncation(&mut self) -> io::Result<()> {
        let end = self.end_offset();
        self.epochs.truncate_from_end(end);
        self.epochs.truncate_from_start(self.start);
        self.epochs_version += 1;
        match self.epoch_file.store(self.epochs_version, &self.epochs) {
            // The next checkpoint writes them; until then a scan finds what is right.
            Err(error) if is_no_space(&error) => {}
            stored => stored?,
        }
        self.fs.sync_dir(&self.dir)?;
        self.dir_version_synced = self.dir_version;
        self.recovery_point = self.recovery_point.min(end);
        self.compacted_upto = self.compacted_upto.min(end);
        self.durable_end = self.durable_end.min(end);
        if self.durable_end == end {
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// For what leaves memory and files apart when it stops half-way: even a full disk is fatal.
    pub(super) fn fatal(&self, error: io::Error) -> StorageError {
        self.fail(&error);
        StorageError::Io(error)
    }
}
