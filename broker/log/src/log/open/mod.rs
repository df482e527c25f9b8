//! Opening a log: what a crash left is cut to valid batches, what cannot be trusted is rebuilt.
//!
//! After a clean shutdown nothing is scanned. After a crash, everything below the recovery point is
//! known to be durable, records, index entries and epochs alike; the scan begins there, verifies
//! every checksum, and cuts at the first byte that is not a valid batch with a rising offset and
//! an epoch that does not fall.

mod epochs;
mod leftovers;
mod recovery;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use broker_core::Offset;

use super::Log;
use super::truncate::Limits;
use crate::config::LogConfig;
use crate::epochs::{EpochFile, EpochHistory};
use crate::error::OpenError;
use crate::fs::Fs;
use crate::segment::Segment;

/// What the owner knows of a log before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// The log was closed by [`Log::close`] and not opened since.
    pub clean_shutdown: bool,
    /// Last checkpointed [`Log::recovery_point`], 0 if none.
    pub recovery_point: Offset,
    /// Last checkpointed [`Log::start_offset`], 0 if none.
    pub log_start: Offset,
    /// The disk failed while the log was open last. What a failed sync has dropped may still be
    /// seen, and no later sync would write it: everything above the recovery point is written again.
    pub disk_failed: bool,
}

/// What opening a log found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments of the log.
    pub segments: usize,
    /// Segments read from the recovery point on.
    pub segments_scanned: usize,
    /// Bytes read with their checksums verified.
    pub bytes_scanned: u64,
    /// Bytes cut off behind the last valid batch.
    pub bytes_truncated: u64,
    /// Segments removed because they lay behind a cut.
    pub segments_removed: usize,
    /// Segments whose indexes were missing or damaged and were made anew.
    pub indexes_rebuilt: usize,
}

/// Counters of a recovery under way, for health and metrics.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// Logs to open.
    pub logs_total: AtomicU64,
    /// Logs opened.
    pub logs_done: AtomicU64,
    /// Bytes read with their checksums verified.
    pub bytes_scanned: AtomicU64,
}

impl Log {
    /// Opens the log in `dir`, making the directory when it does not exist, and recovers it.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        config: LogConfig,
        options: OpenOptions,
        progress: &RecoveryProgress,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let io_error = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        let mut opener = Opener::new(fs, &dir, config, options, progress).map_err(io_error)?;
        match opener.open_segments() {
            Ok(()) => opener.finish().map_err(io_error),
            Err(Stop::Io(source)) => Err(io_error(source)),
            Err(Stop::LostDurable {
                valid_end,
                durable_end,
            }) => Err(OpenError::LostDurable {
                dir,
                valid_end,
                durable_end,
            }),
        }
    }
}

/// Why opening cannot go on.
enum Stop {
    Io(io::Error),
    LostDurable {
        valid_end: Offset,
        durable_end: Offset,
    },
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Opener<'a> {
    fs: Arc<dyn Fs>,
    dir: &'a Path,
    config: LogConfig,
    options: OpenOptions,
    progress: &'a RecoveryProgress,
    /// The checkpointed one, unless the log was truncated since.
    recovery_point: Offset,
    limits: Option<Limits>,
    epoch_file: EpochFile,
    epochs: EpochHistory,
    epochs_changed: bool,
    segments: Vec<Segment>,
    /// Names of files that compaction did not finish.
    cleaned: Vec<String>,
    report: RecoveryReport,
}

impl<'a> Opener<'a> {
    fn new(
        fs: Arc<dyn Fs>,
        dir: &'a Path,
        config: LogConfig,
        mut options: OpenOptions,
        progress: &'a RecoveryProgress,
    ) -> io::Result<Self> {
        let mut recovery_point = options.recovery_point;
        if !fs.exists(dir)? {
            fs.create_dir(dir)?;
            fs.sync_dir(dir.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            // A checkpoint can only be of an earlier log of that name.
            recovery_point = Offset(0);
        }
        let epoch_file = EpochFile::new(fs.clone(), dir.join(EpochFile::NAME));
        let limits = Limits::read(&*fs, dir)?;
        if let Some(limits) = limits {
            recovery_point = recovery_point.min(limits.recovery_point);
            options.log_start = limits.start(options.log_start);
        }
        Ok(Self {
            fs,
            dir,
            config,
            options,
            progress,
            recovery_point,
            limits,
            epoch_file,
            epochs: EpochHistory::default(),
            epochs_changed: false,
            segments: Vec::new(),
            cleaned: Vec::new(),
            report: RecoveryReport::default(),
        })
    }

    fn open_segments(&mut self) -> Result<(), Stop> {
        let mut bases = self.list_segments()?;
        self.load_epochs()?;
        self.finish_compaction(&mut bases)?;
        self.remove_deleted(&mut bases)?;
        if let Some(&first) = bases.first()
            && self.options.clean_shutdown
            && self.limits.is_none()
            && first > self.options.log_start
        {
            // Without a clean shutdown the front may have been deleted after the last checkpoint.
            return Err(Stop::LostDurable {
                valid_end: self.options.log_start,
                durable_end: first,
            });
        }
        for (i, &base) in bases.iter().enumerate() {
            let segment = Segment::open(&self.fs, self.dir, base, &self.config)?;
            let next_base = bases.get(i + 1).copied();
            let whole = match next_base {
                Some(next) if self.options.clean_shutdown || next <= self.recovery_point => {
                    self.load_sealed(segment, next)?
                }
                None if self.options.clean_shutdown => self.load_active(segment)?,
                _ => self.recover(segment, next_base)?,
            };
            if !whole {
                self.remove_segments(&bases[i + 1..])?;
                break;
            }
        }
        self.check_end()?;
        self.check_epochs()
    }

    /// The last segments may be gone as a whole.
    fn check_end(&self) -> Result<(), Stop> {
        let start = self.options.log_start;
        let valid_end = self.segments.last().map_or(start, |segment| segment.end);
        let durable_end = self.recovery_point;
        if valid_end < durable_end && start < durable_end {
            return Err(Stop::LostDurable {
                valid_end,
                durable_end,
            });
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Log, RecoveryReport)> {
        let end = self.segments.last().map(|segment| segment.end);
        if end.is_none_or(|end| end < self.options.log_start) {
            // All that is left was deleted before; what stays is the offset to go on from.
            let bases: Vec<_> = self
                .segments
                .drain(..)
                .map(|segment| segment.base)
                .collect();
            self.remove_segments(&bases)?;
            let base = self.options.log_start;
            self.segments
                .push(Segment::create(&self.fs, self.dir, base, &self.config)?);
            self.fs.sync_dir(self.dir)?;
        }
        if self.limits.is_some() {
            self.fs.sync_dir(self.dir)?;
        }
        let mut knows_aborted = true;
        for segment in &mut self.segments {
            knows_aborted &= segment.aborted.keep_within(segment.base, segment.end)?;
        }
        let (first, last) = (&self.segments[0], &self.segments[self.segments.len() - 1]);
        let (start, end) = (self.options.log_start.max(first.base), last.end);
        self.epochs_changed |= self.epochs.truncate_from_end(end);
        self.epochs_changed |= self.epochs.truncate_from_start(start);
        self.report.segments = self.segments.len();
        let recovery_point = match self.options.clean_shutdown {
            true => end,
            false => self.recovery_point.min(end).max(first.base),
        };
        for segment in self.segments.iter_mut().rev().skip(1) {
            if segment.end <= recovery_point {
                segment.release_index_files();
            }
        }
        let log = Log {
            fs: self.fs,
            dir: self.dir.to_owned(),
            config: self.config,
            segments: self.segments,
            start,
            knows_aborted,
            epochs: self.epochs,
            epoch_file: Arc::new(self.epoch_file),
            epochs_version: u64::from(self.epochs_changed),
            // The entries found may not be durable yet.
            dir_version: 1,
            dir_version_synced: 0,
            truncations: 0,
            durable_end: recovery_point,
            recovery_point,
            compacted_upto: Offset(0),
            unsynced_since: None,
            limits: self.limits,
            checkpointed_start: self.options.log_start.min(start),
            failed: Arc::new(AtomicBool::new(false)),
        };
        Ok((log, self.report))
    }
}
