//! Cutting the log at its end, when the leader's log differs.

use std::io;

use broker_core::Offset;

use super::Log;
use crate::checkpoint;
use crate::error::StorageError;
use crate::fs::is_no_space;
use crate::segment::Segment;

/// Limits what the next open may believe of a recovery point that was checkpointed earlier: the
/// records above the offset in this file may have been written after the truncation.
pub(super) const TRUNCATED_TO: &str = "truncated-to";

/// What [`TRUNCATED_TO`] holds, and when it is no longer needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecoveryLimit {
    /// Recovery points above are not to be believed.
    pub(super) offset: Offset,
    /// The largest recovery point that the owner may have checkpointed.
    pub(super) until: Offset,
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
        self.begin_truncation(self.segments[kept - 1].base)?;
        self.remove_segment_files_from(kept)
            .map_err(|error| self.fatal(error))?;
        self.segments.truncate(kept);
        self.active_mut()
            .truncate(offset)
            .map_err(|error| self.fatal(error))?;
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

    /// Limits what the next open believes to what lies below `offset`, where the file that is
    /// about to be cut begins or earlier.
    fn begin_truncation(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset < self.recovery_point || self.recovery_limit.is_some() {
            let limit = self.recovery_limit.unwrap_or(RecoveryLimit {
                offset,
                until: offset,
            });
            let limit = RecoveryLimit {
                offset: limit.offset.min(offset),
                until: limit.until.max(self.recovery_point),
            };
            let text = format!("{}\n", limit.offset);
            checkpoint::replace(&*self.fs, &self.dir.join(TRUNCATED_TO), text.as_bytes())
                .map_err(|error| self.storage_error(error))?;
            self.recovery_limit = Some(limit);
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
