//! Removing old segments: by age, by size, and below the log start offset.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broker_core::{Offset, Timestamp};

use super::Log;
use crate::error::StorageError;
use crate::fs::{Fs, is_no_space};
use crate::segment::{DELETED_SUFFIX, Segment};

/// Why a segment was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// All its records are below the log start offset.
    LogStart,
    /// `retention.ms` has passed since its youngest record.
    Age,
    /// The log stays above `retention.bytes` without it.
    Size,
}

/// A segment that is no longer part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedSegment {
    pub base_offset: Offset,
    pub size_bytes: u64,
    pub reason: DeletionReason,
}

/// Segments that left the log; their files are renamed and still there.
#[must_use = "the files take up space until `remove`"]
pub struct DeletedSegments {
    fs: Arc<dyn Fs>,
    segments: Vec<DeletedSegment>,
    paths: Vec<PathBuf>,
}

impl DeletedSegments {
    /// What was deleted, oldest first.
    pub fn segments(&self) -> &[DeletedSegment] {
        &self.segments
    }

    /// Removes the files, which may take long: to be called without the log's lock. Files that are
    /// not removed are when the log is opened next.
    pub fn remove(self) -> io::Result<()> {
        self.paths.iter().try_for_each(|path| self.fs.remove(path))
    }
}

impl Log {
    /// Deletes segments as `retention.ms`, `retention.bytes` and the log start offset ask for;
    /// only whole ones, oldest first, that end at or below `upto`, the high watermark. The active
    /// segment is rolled to be deleted.
    pub fn apply_retention(
        &mut self,
        now: Timestamp,
        upto: Offset,
    ) -> Result<DeletedSegments, StorageError> {
        self.check_writable()?;
        let mut excess = self
            .config
            .retention_bytes
            .map(|max| self.size_bytes().saturating_sub(max));
        let mut reasons = Vec::new();
        for segment in &self.segments {
            if segment.size == 0 || segment.end > upto {
                break;
            }
            let Some(reason) = self.deletion_reason(segment, now, excess) else {
                break;
            };
            excess = excess.map(|excess| excess.saturating_sub(segment.size));
            reasons.push(reason);
        }
        if reasons.len() == self.segments.len() {
            self.roll(self.end_offset())?;
        }
        self.delete_segments(&reasons)
    }

    /// Raises the log start offset to `offset`, at most the log end offset, and deletes the
    /// segments that lie below it.
    pub fn delete_before(&mut self, offset: Offset) -> Result<DeletedSegments, StorageError> {
        self.check_writable()?;
        self.start = self.start.max(offset.min(self.end_offset()));
        self.forget_epochs();
        let sealed = &self.segments[..self.segments.len() - 1];
        let below = sealed
            .iter()
            .take_while(|segment| segment.end <= self.start)
            .count();
        self.delete_segments(&vec![DeletionReason::LogStart; below])
    }

    fn deletion_reason(
        &self,
        segment: &Segment,
        now: Timestamp,
        excess: Option<u64>,
    ) -> Option<DeletionReason> {
        if segment.end <= self.start {
            return Some(DeletionReason::LogStart);
        }
        // A segment that compaction emptied ages with the batches that it had.
        let newest = segment.newest.map(|entry| entry.timestamp);
        let newest = newest.or_else(|| segment.first_timestamp());
        if let (Some(retention_ms), Some(newest)) = (self.config.retention_ms, newest) {
            let age_ms = now.0.saturating_sub(newest.0);
            if newest.0 >= 0 && u64::try_from(age_ms).is_ok_and(|age| age > retention_ms) {
                return Some(DeletionReason::Age);
            }
        }
        excess
            .filter(|excess| *excess >= segment.size)
            .map(|_| DeletionReason::Size)
    }

    /// Deletes as many segments from the front as there are reasons.
    fn delete_segments(
        &mut self,
        reasons: &[DeletionReason],
    ) -> Result<DeletedSegments, StorageError> {
        let mut deleted = DeletedSegments {
            fs: self.fs.clone(),
            segments: Vec::new(),
            paths: Vec::new(),
        };
        let mut failure = None;
        for reason in reasons {
            match self.rename_deleted(&self.segments[0]) {
                Ok(renamed) => deleted.paths.extend(renamed),
                Err(error) => {
                    failure = Some(self.storage_error(error));
                    break;
                }
            }
            let segment = self.segments.remove(0);
            deleted.segments.push(DeletedSegment {
                base_offset: segment.base,
                size_bytes: segment.size,
                reason: *reason,
            });
            self.start = self.start.max(self.segments[0].base);
        }
        self.forget_epochs();
        // Segments that come back after a crash were perhaps never synced: a scan that ends in them
        // would take what follows away.
        self.dir_version += u64::from(!deleted.segments.is_empty());
        self.durable_end = self.durable_end.max(self.segments[0].base);
        self.recovery_point = self.recovery_point.max(self.segments[0].base);
        match failure {
            Some(failure) if deleted.segments.is_empty() => Err(failure),
            _ => Ok(deleted),
        }
    }

    /// Renames a segment's files, that of the records first: without it the others are removed when
    /// the log is opened next. One that stays keeps its segment in the log, so that no hole comes up.
    pub(super) fn rename_deleted(&self, segment: &Segment) -> io::Result<Vec<PathBuf>> {
        let mut renamed = Vec::new();
        for path in segment.all_paths() {
            let mut name = path.as_os_str().to_owned();
            name.push(DELETED_SUFFIX);
            let name = PathBuf::from(name);
            match self.fs.rename(path, &name) {
                Ok(()) => renamed.push(name),
                Err(error) if renamed.is_empty() || !is_no_space(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(renamed)
    }

    fn forget_epochs(&mut self) {
        if self.epochs.truncate_from_start(self.start) {
            self.epochs_version += 1;
        }
    }
}
