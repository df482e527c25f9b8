//! Cutting the log at its end, when the leader's log differs.

use std::io;
use std::path::Path;

use broker_core::Offset;

use super::Log;
use crate::checkpoint::{self, read_text};
use crate::error::{ReadError, StorageError};
use crate::fs::{Fs, is_no_space};
use crate::segment::Segment;

/// Holds [`Limits`] for the next open: records above them may have been written after the truncation.
/// And what is seen to be cut when the process was killed may be back after a power failure: with this
/// file, the open makes durable what it finds before anything is appended to it.
const TRUNCATED_TO: &str = "truncated-to";
/// Two offsets with a line end each.
const LIMITS_BYTES_MAX: u64 = 42;
const NO_LIMIT: &str = "-";

/// What the next open believes at most of offsets that were checkpointed before a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Where the first file begins that was cut.
    pub(super) recovery_point: Offset,
    /// No higher than where a log was cut that started later.
    start: Option<Offset>,
}

impl Limits {
    /// Those of the log in `dir`, `None` when its checkpoints are younger than its last truncation.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Option<Self>> {
        let text = read_text(fs, &dir.join(TRUNCATED_TO), LIMITS_BYTES_MAX)?;
        Ok(text.map(|text| {
            let offset = |line: &str| Offset(line.parse().unwrap_or(0));
            let mut lines = text.lines().map(str::trim);
            let recovery_point = lines.next().map(offset).unwrap_or_default();
            let start = match lines.next() {
                Some(NO_LIMIT) => None,
                Some(line) => Some(offset(line)),
                // Earlier versions wrote one for both.
                None => Some(recovery_point),
            };
            Self {
                recovery_point,
                start,
            }
        }))
    }

    fn text(self) -> String {
        let start = self
            .start
            .map_or_else(|| NO_LIMIT.to_owned(), |start| start.to_string());
        format!("{}\n{start}\n", self.recovery_point)
    }

    /// What is left of a checkpointed start offset.
    pub(super) fn start(self, checkpointed: Offset) -> Offset {
        self.start
            .map_or(checkpointed, |limit| limit.min(checkpointed))
    }

    fn min(self, other: Self) -> Self {
        let start = self.start.into_iter().chain(other.start).min();
        Self {
            recovery_point: self.recovery_point.min(other.recovery_point),
            start,
        }
    }
}

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
    /// then ends where its last batch does, or at its checkpointed start if all that is left lies below
    /// that. Durable when it returns.
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
        let known_start = self.checkpointed_start;
        let keeps_known = self.keeps_from(last, known_start, offset)?;
        if keeps_known == Some(false) {
            // All that would be left was deleted, and stays so.
            return self.truncate_fully_and_start_at(known_start);
        }
        let keeps_start = self.keeps_from(last, self.start, offset)? == Some(true);
        let start_max = match keeps_known {
            Some(true) => known_start.max(last.base),
            _ => last.base,
        };
        self.limit_belief(Limits {
            recovery_point: match offset < self.recovery_point || !keeps_start {
                true => last.base,
                false => self.recovery_point,
            },
            start: (!keeps_start).then_some(start_max),
        })?;
        self.truncations += 1;
        self.cut(kept, offset).map_err(|error| self.fatal(error))
    }

    /// Whether records at or above `from` stay when the log is truncated to `offset`, in the segment
    /// `last`: a batch that goes as a whole may take all of them with it, and so may a gap. `None` when
    /// the log is to end below `from`, or is damaged.
    fn keeps_from(
        &self,
        last: &Segment,
        from: Offset,
        offset: Offset,
    ) -> Result<Option<bool>, StorageError> {
        if from <= last.base {
            return Ok(Some(true));
        }
        if from > offset {
            return Ok(None);
        }
        match last.find(from) {
            Ok(found) => {
                let end = found.map(|(_, header)| header.next_offset());
                Ok(Some(end.is_some_and(|end| end <= offset.0)))
            }
            Err(ReadError::Io(error)) => Err(self.storage_error(error)),
            Err(ReadError::Corrupt { .. } | ReadError::OutOfRange { .. }) => Ok(None),
        }
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
        self.limit_belief(Limits {
            recovery_point: Offset(0),
            start: (offset < self.start).then_some(offset),
        })?;
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
        if checkpoint.truncations != self.truncations || self.is_failed() {
            return;
        }
        // Should that fail, the next open scans more than it must.
        let _ = self.lift_limits();
        let start = checkpoint.start_offset;
        self.checkpointed_start = self.limits.map_or(start, |limits| limits.start(start));
    }

    /// The file may be back after a power failure: it must not limit the start offset then.
    fn lift_limits(&mut self) -> Result<(), StorageError> {
        let Some(limits) = self.limits else {
            return Ok(());
        };
        if limits.start.is_some() {
            self.write_limits(Limits {
                start: None,
                ..limits
            })?;
        }
        self.fs
            .remove(&self.dir.join(TRUNCATED_TO))
            .map_err(StorageError::Io)?;
        self.limits = None;
        Ok(())
    }

    /// Before a truncation: limits what the next open believes, and has it make durable what it finds.
    fn limit_belief(&mut self, limits: Limits) -> Result<(), StorageError> {
        let limits = self.limits.map_or(limits, |known| known.min(limits));
        self.checkpointed_start = limits.start(self.checkpointed_start);
        if self.limits == Some(limits) {
            return Ok(());
        }
        self.write_limits(limits)
    }

    fn write_limits(&mut self, limits: Limits) -> Result<(), StorageError> {
        let path = self.dir.join(TRUNCATED_TO);
        checkpoint::replace(&*self.fs, &path, limits.text().as_bytes())
            .map_err(|error| self.storage_error(error))?;
        self.limits = Some(limits);
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
            .all_paths()
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
