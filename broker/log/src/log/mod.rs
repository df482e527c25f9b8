//! The log of one partition: its segments in order of their base offsets.
//!
//! A `Log` has one owner, which serializes changes with a short lock. Nothing here waits for the
//! disk except recovery, truncation and [`SyncHandle::sync`], which is called without the lock;
//! bytes of records are read through a [`LogSlice`], also without it.
//!
//! Invariants:
//!
//! * offsets rise strictly; a leader's appends are dense;
//! * `start_offset ≤ end_offset`, `recovery_point ≤ durable_end ≤ end_offset`;
//! * everything below the recovery point is durable: records, index entries, epochs;
//! * after a failure other than a full disk the log never writes again.

mod aborted;
mod append;
mod compact;
mod move_dir;
mod open;
mod read;
mod retention;
mod scrub;
mod sync;
mod truncate;

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_core::{LeaderEpoch, Offset, Timestamp};

use crate::config::{LogConfig, SEGMENT_BYTES_MAX};
use crate::epochs::{EpochFile, EpochHistory};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::segment::{RollLimits, Segment};

pub use append::AppendInfo;
pub use compact::{ReplaceError, Replaced};
pub use open::{OpenOptions, RecoveryProgress, RecoveryReport};
pub use read::MinOneBatch;
pub use retention::{DeletedSegment, DeletedSegments, DeletionReason};
pub use scrub::{IndexVerdict, NewIndexes, ScrubError, ScrubStep, SegmentFiles, SegmentScrub};
pub use sync::{SyncHandle, Synced};
pub use truncate::Checkpoint;
use truncate::Limits;

/// The log of one partition.
pub struct Log {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    config: LogConfig,
    /// In order of base offsets, never empty; the last is the active one.
    segments: Vec<Segment>,
    start: Offset,
    /// See [`Log::knows_aborted`].
    knows_aborted: bool,
    epochs: EpochHistory,
    epoch_file: Arc<EpochFile>,
    /// Counts changes of `epochs`.
    epochs_version: u64,
    /// Counts segments made and deleted, whose directory entries must become durable.
    dir_version: u64,
    dir_version_synced: u64,
    /// Counts truncations, and the move to another directory: a sync that began before says nothing
    /// about what came after.
    truncations: u64,
    durable_end: Offset,
    recovery_point: Offset,
    compacted_upto: Offset,
    /// When the oldest record that is not durable was appended.
    unsynced_since: Option<Timestamp>,
    /// What the file `truncated-to` holds, while it exists.
    limits: Option<Limits>,
    /// See [`Log::checkpointed_start`].
    checkpointed_start: Offset,
    failed: Arc<AtomicBool>,
}

impl Log {
    /// First offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.start
    }

    /// Where the log starts at least when it is opened next, as its owner has checkpointed by now: what
    /// lies below [`Log::start_offset`] and not below this may come back.
    pub fn checkpointed_start(&self) -> Offset {
        self.checkpointed_start.min(self.start)
    }

    /// Offset that the next record gets.
    pub fn end_offset(&self) -> Offset {
        self.active().end
    }

    /// Everything below survives a power failure and need not be scanned after one. To be
    /// checkpointed by the owner every few seconds, after [`Log::checkpoint_handle`].
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Rises when the log is truncated or moved: what was seen of its end before may be gone, and what
    /// was done in its directory may have been done to another.
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Records below survive a power failure.
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of all segments' records.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Number of segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Base offset of the active segment.
    pub fn active_segment_base(&self) -> Offset {
        self.active().base
    }

    /// Largest timestamp of the records, `None` without records.
    pub fn max_timestamp(&self) -> Option<Timestamp> {
        self.segments
            .iter()
            .filter_map(|segment| segment.newest)
            .map(|entry| entry.timestamp)
            .max()
    }

    /// Leader epochs of the log.
    pub fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    /// The largest epoch not above `epoch` and where it ends, as
    /// [`EpochHistory::end_offset_for`] says.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.end_offset())
    }

    /// Notes that records from the end of the log on are of `epoch`: what a leader does when it is
    /// elected. Ignored when the log has records of a newer epoch.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch) {
        if self.epochs.assign(epoch, self.end_offset()) == Ok(true) {
            self.epochs_version += 1;
        }
    }

    /// Settings in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings. Sizes of indexes hold from the next segment on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Whether an earlier failure made the log read-only.
    pub fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a log has an active segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .last_mut()
            .expect("a log has an active segment")
    }

    fn roll_limits(&self) -> RollLimits {
        let jitter_ms = match self.config.segment_jitter_ms {
            0 => 0,
            jitter_ms => {
                let mut hasher = DefaultHasher::new();
                (&self.dir, self.active().base.0).hash(&mut hasher);
                hasher.finish() % jitter_ms
            }
        };
        let max_lag_ms = self.config.compaction.map_or(u64::MAX, |c| c.max_lag_ms);
        let age_ms = self.config.segment_ms.min(max_lag_ms);
        let age_ms = age_ms.saturating_sub(jitter_ms);
        RollLimits {
            bytes: self.config.segment_bytes.min(SEGMENT_BYTES_MAX),
            age_ms: i64::try_from(age_ms).unwrap_or(i64::MAX),
        }
    }

    fn check_writable(&self) -> Result<(), StorageError> {
        if self.is_failed() {
            Err(StorageError::Failed)
        } else {
            Ok(())
        }
    }

    /// Turns an IO error into the operation's answer; anything but a full disk ends all writing.
    fn storage_error(&self, error: io::Error) -> StorageError {
        let error = StorageError::from_io(error);
        if let StorageError::Io(source) = &error {
            self.fail(source);
        }
        error
    }

    fn fail(&self, source: &io::Error) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.dir.display(), error = %source, "log is read-only now");
        }
    }
}
