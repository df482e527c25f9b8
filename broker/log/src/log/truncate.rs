//! Cutting the log at its end, when the leader's log differs.

use std::io;

use broker_core::Offset;

use super::Log;
use crate::checkpoint;
use crate::error::{ReadError, StorageError};
use crate::fs::is_no_space;
use crate::segment::Segment;

/// Limits what the next open may believe of a recovery point that was checkpointed earlier: the
/// records above the offset in this file may have been written after the truncation.
pub(super) const TRUNCATED_TO: &str = "truncated-to";

impl Log {
    /// Removes every record at or above `offset`; a batch that holds it goes as a whole. Durable
    /// when it returns. Does nothing when the log ends there already.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset >= self.end_offset() {
            return Ok(());
        }
        if offset <= self.segments[0].base {
            return self.truncate_fully_and_start_at(offset);
        }
        self.check_writable()?;
        let offset = self
            .batch_boundary(offset)
            .map_err(|error| self.storage_error(error))?;
        self.begin_truncation(offset)?;
        let kept = self
            .segments
            .partition_point(|segment| segment.base < offset);
        self.remove_segment_files_from(kept)
            .map_err(|error| self.fatal(error))?;
        self.segments.truncate(kept);
        self.cut_active(offset).map_err(|error| self.fatal(error))?;
        self.start = self.start.min(self.end_offset());
        self.finish_truncation().map_err(|error| self.fatal(error))
    }

    /// Removes everything and starts anew at `offset`: what a follower does whose log lies wholly
    /// before its leader's. Durable when it returns.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.check_writable()?;
        self.begin_truncation(self.start.min(offset))?;
        self.remove_segment_files_from(0)
            .map_err(|error| self.fatal(error))?;
        let segment = Segment::create(&self.fs, &self.dir, offset, &self.config)
            .map_err(|error| self.fatal(error))?;
        self.segments = vec![segment];
        self.start = offset;
        self.finish_truncation().map_err(|error| self.fatal(error))
    }

    /// Where the batch begins that holds `offset`, or `offset` when none does.
    fn batch_boundary(&self, offset: Offset) -> io::Result<Offset> {
        let segment = &self.segments[self.segment_index(offset)];
        match segment.find(offset) {
            Ok(Some((_, header))) => Ok(offset.min(Offset(header.base_offset))),
            Ok(None) => Ok(offset),
            Err(ReadError::Io(error)) => Err(error),
            Err(corrupt) => Err(io::Error::new(io::ErrorKind::InvalidData, corrupt)),
        }
    }

    fn begin_truncation(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset < self.recovery_point || self.recovery_limit.is_some() {
            let path = self.dir.join(TRUNCATED_TO);
            checkpoint::replace(&*self.fs, &path, format!("{offset}\n").as_bytes())
                .map_err(|error| self.storage_error(error))?;
            self.recovery_limit = self.recovery_limit.max(Some(self.recovery_point));
        }
        self.truncations += 1;
        Ok(())
    }

    /// Removes the files from the end backwards, so that a crash leaves a prefix of the log.
    fn remove_segment_files_from(&self, kept: usize) -> io::Result<()> {
        for segment in self.segments[kept..].iter().rev() {
            self.remove_files(segment)?;
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

    fn cut_active(&mut self, offset: Offset) -> io::Result<()> {
        let active = self.active_mut();
        let position = match active.find(offset) {
            Ok(found) => found.map_or(active.size, |(position, _)| position),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        active.truncate(position, offset)
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
        self.durable_end = self.durable_end.min(end);
        if self.durable_end == end {
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// A truncation that stopped half-way leaves memory and files apart: even a full disk is fatal.
    fn fatal(&self, error: io::Error) -> StorageError {
        self.fail(&error);
        StorageError::Io(error)
    }
}
