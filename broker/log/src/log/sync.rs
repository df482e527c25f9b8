//! Durability. A handle is taken under the log's lock, synced without it, and its result brought
//! back: one `fdatasync` serves every append that happened before the handle was taken.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_core::{Offset, Timestamp};

use super::Log;
use crate::epochs::{EpochFile, EpochHistory};
use crate::error::StorageError;
use crate::fs::{Fs, FsFile, is_no_space};

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Records; a scan after a crash finds the rest again.
    Records,
    /// Records, indexes and epochs.
    Checkpoint,
}

/// Something to sync; see [`Log::sync_handle`].
#[must_use = "nothing is durable before `sync`"]
pub struct SyncHandle {
    fs: Arc<dyn Fs>,
    files: Vec<Arc<dyn FsFile>>,
    /// The log's directory, when it has entries that are not durable.
    dir: Option<PathBuf>,
    epochs: Option<(Arc<EpochFile>, EpochHistory)>,
    failed: Arc<AtomicBool>,
    synced: Synced,
}

/// The result of a successful sync, for [`Log::synced`].
#[must_use = "the log does not know of the sync before `Log::synced`"]
pub struct Synced {
    scope: Scope,
    up_to: Offset,
    active_base: Offset,
    dir_version: u64,
    epochs_version: u64,
    truncations: u64,
}

impl SyncHandle {
    /// The log end offset that this sync makes durable.
    pub fn up_to(&self) -> Offset {
        self.synced.up_to
    }

    /// Waits for the disk. Any failure makes the log read-only for good: the operating system may
    /// have dropped the writes and would report success the next time.
    pub fn sync(self) -> Result<Synced, StorageError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StorageError::Failed);
        }
        self.sync_files().map_err(|error| self.fail(error))?;
        if let Some((file, history)) = &self.epochs {
            match file.store(self.synced.epochs_version, history) {
                Err(error) if is_no_space(&error) => return Err(StorageError::NoSpace),
                stored => stored.map_err(|error| self.fail(error))?,
            }
        }
        Ok(self.synced)
    }

    fn fail(&self, error: io::Error) -> StorageError {
        self.failed.store(true, Ordering::Release);
        tracing::error!(%error, "sync failed, log is read-only now");
        StorageError::Io(error)
    }

    fn sync_files(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())?;
        self.dir
            .as_ref()
            .map_or(Ok(()), |dir| self.fs.sync_dir(dir))
    }
}

impl Synced {
    /// Records below are durable.
    pub fn up_to(&self) -> Offset {
        self.up_to
    }
}

impl Log {
    /// A handle to make all records appended so far durable: the group commit of `flush.messages`.
    pub fn sync_handle(&self) -> SyncHandle {
        self.handle(Scope::Records)
    }

    /// A handle to make all records, indexes and epochs durable, so that
    /// [`Log::recovery_point`] advances.
    pub fn checkpoint_handle(&self) -> SyncHandle {
        self.handle(Scope::Checkpoint)
    }

    /// Takes note of a finished sync.
    pub fn synced(&mut self, synced: Synced) {
        if synced.truncations != self.truncations {
            return;
        }
        self.dir_version_synced = self.dir_version_synced.max(synced.dir_version);
        self.durable_end = self.durable_end.max(synced.up_to);
        if self.durable_end >= self.end_offset() {
            self.unsynced_since = None;
        }
        if synced.scope == Scope::Checkpoint {
            self.advance_recovery_point(&synced);
        }
    }

    /// Whether `flush.messages` or `flush.ms` asks for a sync now.
    pub fn flush_due(&self, now: Timestamp) -> bool {
        let unsynced = (self.end_offset().0 - self.durable_end.0) as u64;
        let too_many = self
            .config
            .flush_messages
            .is_some_and(|max| unsynced >= max.max(1));
        let too_long =
            self.config
                .flush_ms
                .zip(self.unsynced_since)
                .is_some_and(|(flush_ms, since)| {
                    now.0.saturating_sub(since.0) >= flush_ms.min(1 << 60) as i64
                });
        unsynced > 0 && (too_many || too_long)
    }

    /// Makes everything durable before a clean shutdown and returns the recovery point, which is
    /// the log end offset.
    pub fn close(mut self) -> Result<Offset, StorageError> {
        let synced = self.checkpoint_handle().sync()?;
        self.synced(synced);
        Ok(self.recovery_point)
    }

    fn handle(&self, scope: Scope) -> SyncHandle {
        let from = match scope {
            Scope::Records => self.durable_end,
            Scope::Checkpoint => self.recovery_point,
        };
        let mut files = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.end > from) {
            files.push(segment.file.clone());
            if scope == Scope::Checkpoint {
                files.extend(segment.index_files().cloned());
            }
        }
        let dirty = self.dir_version > self.dir_version_synced;
        SyncHandle {
            fs: self.fs.clone(),
            files,
            dir: dirty.then(|| self.dir.clone()),
            epochs: (scope == Scope::Checkpoint)
                .then(|| (self.epoch_file.clone(), self.epochs.clone())),
            failed: self.failed.clone(),
            synced: Synced {
                scope,
                up_to: self.end_offset(),
                active_base: self.active().base,
                dir_version: self.dir_version,
                epochs_version: self.epochs_version,
                truncations: self.truncations,
            },
        }
    }

    fn advance_recovery_point(&mut self, synced: &Synced) {
        // A segment rolled meanwhile got a last index entry, which this sync may have missed.
        let reached = match self.active().base == synced.active_base {
            true => synced.up_to,
            false => synced.active_base,
        };
        self.recovery_point = self.recovery_point.max(reached);
        for segment in self
            .segments
            .iter_mut()
            .filter(|s| s.base < synced.active_base)
        {
            segment.release_index_files();
        }
    }
}
