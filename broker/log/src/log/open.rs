//! Opening a log: what a crash left is cut to valid batches, what cannot be trusted is rebuilt.
//!
//! After a clean shutdown nothing is scanned. After a crash, everything below the recovery point is
//! known to be durable, records, index entries and epochs alike; the scan begins there, verifies
//! every checksum, and cuts at the first byte that is not a valid batch with a rising offset and
//! an epoch that does not fall.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use broker_core::{LeaderEpoch, Offset};
use broker_wire::record::BatchHeader;

use super::Log;
use super::truncate::Limits;
use crate::config::LogConfig;
use crate::epochs::{EpochEntry, EpochFile, EpochHistory};
use crate::error::{OpenError, ReadError};
use crate::fs::Fs;
use crate::scan::WalkError;
use crate::segment::{
    BatchEnd, CLEANED_SUFFIX, DELETED_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX,
    file_name, joins,
};

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

    /// Base offsets in order. Removes files that are no part of the log: of deleted segments,
    /// temporary ones, and indexes whose segment is gone.
    fn list_segments(&mut self) -> io::Result<Vec<Offset>> {
        let names: Vec<_> = self
            .fs
            .list(self.dir)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let base_of = |name: &str, suffix| -> Option<Offset> {
            let base = Offset(
                name.strip_suffix(suffix)?
                    .parse()
                    .ok()
                    .filter(|base| *base >= 0)?,
            );
            (file_name(base, suffix) == name).then_some(base)
        };
        let bases: Vec<_> = names
            .iter()
            .filter_map(|name| base_of(name, LOG_SUFFIX))
            .collect();
        for name in &names {
            let orphan = [INDEX_SUFFIX, TIME_INDEX_SUFFIX]
                .into_iter()
                .filter_map(|suffix| base_of(name, suffix))
                .any(|base| bases.binary_search(&base).is_err());
            if orphan || name.ends_with(DELETED_SUFFIX) || name.ends_with(".tmp") {
                match self.fs.remove(&self.dir.join(name)) {
                    // Whoever deleted the segment was still at it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            } else if name.ends_with(CLEANED_SUFFIX) {
                self.cleaned.push(name.clone());
            }
        }
        Ok(bases)
    }

    /// Completes a replacement that the process began, which had the records take their place first
    /// and the time index last, and removes what never took its place.
    fn finish_compaction(&mut self, bases: &mut Vec<Offset>) -> io::Result<()> {
        let cleaned = std::mem::take(&mut self.cleaned);
        let named = |base, suffix| file_name(base, suffix) + CLEANED_SUFFIX;
        for base in bases.clone() {
            let is_left = |suffix| cleaned.contains(&named(base, suffix));
            if !is_left(TIME_INDEX_SUFFIX) || is_left(LOG_SUFFIX) {
                continue;
            }
            let rename = |suffix| {
                let from = self.dir.join(named(base, suffix));
                self.fs
                    .rename(&from, &self.dir.join(file_name(base, suffix)))
            };
            if is_left(INDEX_SUFFIX) {
                rename(INDEX_SUFFIX)?;
            }
            self.remove_replaced(base, bases)?;
            rename(TIME_INDEX_SUFFIX)?;
        }
        self.remove_cleaned(&cleaned)
    }

    /// Removes the files of segments that never became part of the log, that of the records last.
    fn remove_cleaned(&self, names: &[String]) -> io::Result<()> {
        for suffix in [TIME_INDEX_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX] {
            let ending = suffix.to_owned() + CLEANED_SUFFIX;
            for name in names.iter().filter(|name| name.ends_with(&ending)) {
                let path = self.dir.join(name);
                if self.fs.exists(&path)? {
                    self.fs.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes segments that compaction had put into the one at `base`: nothing else makes segments
    /// overlap.
    fn remove_replaced(&self, base: Offset, bases: &mut Vec<Offset>) -> io::Result<()> {
        let segment = Segment::open(&self.fs, self.dir, base, &self.config)?;
        let end = match segment.indexed_end()? {
            Some(end) => end,
            None => segment.walked_end()?,
        };
        let first = bases.partition_point(|other| *other <= base);
        let next = bases.partition_point(|other| *other < end).max(first);
        if bases.get(next).is_some_and(|next| joins(end, *next)) {
            for base in bases.drain(first..next) {
                self.remove_segment_files(base)?;
            }
        }
        Ok(())
    }

    /// Removes segments that were deleted when the log start offset was checkpointed. Nobody made sure
    /// of their contents.
    fn remove_deleted(&mut self, bases: &mut Vec<Offset>) -> io::Result<()> {
        let deleted = bases
            .iter()
            .skip(1)
            .take_while(|next| **next <= self.options.log_start)
            .count();
        for base in bases.drain(..deleted) {
            self.remove_segment_files(base)?;
        }
        Ok(())
    }

    /// Reads the epochs that lie below the recovery point; the scan finds the rest.
    fn load_epochs(&mut self) -> io::Result<()> {
        match self.epoch_file.load() {
            Ok(epochs) => self.epochs = epochs,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(dir = %self.dir.display(), %error, "rebuilding leader epochs");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A segment that was durable as a whole: only its indexes are looked at.
    fn load_sealed(&mut self, mut segment: Segment, next: Offset) -> Result<bool, Stop> {
        if segment.sealed_indexes_plausible()? && segment.reaches(next)? {
            segment.load_sealed(next)?;
            self.segments.push(segment);
            return Ok(true);
        }
        let start = BatchEnd {
            position: 0,
            offset: segment.base,
        };
        self.recover_from(segment, start, Some(next))
    }

    /// The active segment after a clean shutdown.
    fn load_active(&mut self, mut segment: Segment) -> Result<bool, Stop> {
        if segment.indexes_plausible()? {
            match segment.load_tail() {
                Ok(()) => {
                    self.segments.push(segment);
                    return Ok(true);
                }
                Err(WalkError::Io(error)) => return Err(error.into()),
                Err(WalkError::Invalid { .. }) => {}
            }
        }
        let start = BatchEnd {
            position: 0,
            offset: segment.base,
        };
        self.recover_from(segment, start, None)
    }

    /// A segment that reaches past the recovery point: scanned from there.
    fn recover(&mut self, mut segment: Segment, next: Option<Offset>) -> Result<bool, Stop> {
        self.report.segments_scanned += 1;
        let trusted = segment.trust_up_to(self.recovery_point)?;
        self.recover_from(segment, trusted, next)
    }

    /// Scans from the end of a batch on and rebuilds what the indexes hold from there. Returns
    /// whether the next segment may follow.
    fn recover_from(
        &mut self,
        mut segment: Segment,
        from: BatchEnd,
        next: Option<Offset>,
    ) -> Result<bool, Stop> {
        let file_len = segment.size;
        let valid = self.find_valid_end(&segment, from)?;
        // A segment begins where the one before ended.
        let cut = valid.position < file_len;
        let durable = |next| self.options.clean_shutdown || next <= self.recovery_point;
        let whole = !cut && next.is_none_or(|next| joins(valid.offset, next));
        let required = match next {
            Some(_) if whole => segment.base,
            Some(next) if durable(next) => next,
            Some(next) => next.min(self.recovery_point),
            // Nothing is torn after a clean shutdown, whatever is known of the recovery point.
            None if self.options.clean_shutdown && cut => valid.offset.plus(1),
            None => self.recovery_point,
        };
        if valid.offset < required && self.options.log_start < required {
            return Err(Stop::LostDurable {
                valid_end: valid.offset,
                durable_end: required,
            });
        }
        let sync = cut
            || self.limits.is_some()
            || self.options.clean_shutdown
            || next.is_some_and(durable);
        self.report.indexes_rebuilt += usize::from(from.position == 0 && file_len > 0);
        segment.rebuild(from, valid.position, self.config.index_interval_bytes)?;
        if cut {
            self.cut(&segment, file_len, valid)?;
        }
        if self.options.disk_failed {
            segment.rewrite(from.position)?;
        }
        if let Some(next) = next.filter(|_| whole) {
            segment.seal()?;
            segment.end = next;
        }
        if sync {
            segment.sync()?;
        }
        self.segments.push(segment);
        Ok(whole)
    }

    fn cut(&mut self, segment: &Segment, file_len: u64, valid: BatchEnd) -> io::Result<()> {
        let bytes = file_len - valid.position;
        tracing::warn!(
            dir = %self.dir.display(), segment = %segment.base, end = %valid.offset, bytes,
            "cut off an invalid tail"
        );
        self.report.bytes_truncated += bytes;
        segment.file.set_len(valid.position)
    }

    /// Reads batches as long as they are valid, taking note of the epochs past the recovery point.
    fn find_valid_end(&mut self, segment: &Segment, from: BatchEnd) -> Result<BatchEnd, Stop> {
        let mut valid = from;
        let mut walk = segment.scan(from.position);
        loop {
            match walk.next_verified() {
                Ok(Some((at, header))) if self.continues(&header, valid.offset) => {
                    let len = header.total_len() as u64;
                    valid.offset = Offset(header.next_offset());
                    valid.position = at + len;
                    self.report.bytes_scanned += len;
                    self.progress
                        .bytes_scanned
                        .fetch_add(len, Ordering::Relaxed);
                }
                Err(WalkError::Io(error)) => return Err(error.into()),
                Ok(_) | Err(WalkError::Invalid { .. }) => return Ok(valid),
            }
        }
    }

    /// Whether a batch may stand where the log ends at `end`.
    fn continues(&mut self, header: &BatchHeader, end: Offset) -> bool {
        let base = Offset(header.base_offset);
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        if base < end {
            return false;
        }
        let known = self.options.clean_shutdown || header.next_offset() <= self.recovery_point.0;
        if known || epoch <= LeaderEpoch::NONE {
            return true;
        }
        match self.epochs.assign(epoch, base) {
            Ok(changed) => {
                self.epochs_changed |= changed;
                true
            }
            Err(_) => false,
        }
    }

    fn remove_segments(&mut self, bases: &[Offset]) -> io::Result<()> {
        for &base in bases.iter().rev() {
            self.remove_segment_files(base)?;
            self.report.segments_removed += 1;
        }
        self.fs.sync_dir(self.dir)
    }

    fn remove_segment_files(&self, base: Offset) -> io::Result<()> {
        for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            let path = self.dir.join(file_name(base, suffix));
            if self.fs.exists(&path)? {
                self.fs.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Compares the epochs with the batches that they begin with, and reads from headers what is
    /// missing: the file may be damaged or lost, or be younger than the checkpoint of the log start.
    fn check_epochs(&mut self) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            return Ok(());
        };
        let (start, end) = (self.options.log_start.max(first.base), last.end);
        let agree = |entry: &EpochEntry| match self.batch_at(entry.start_offset) {
            Ok(Some(header)) if header.base_offset <= entry.start_offset.0 => {
                header.partition_leader_epoch == entry.epoch.0
            }
            // Compaction removed what was there.
            Ok(Some(header)) => header.partition_leader_epoch >= entry.epoch.0,
            Ok(None) | Err(_) => true,
        };
        let held = |entry: &&EpochEntry| start <= entry.start_offset && entry.start_offset < end;
        if !self.epochs.entries().iter().filter(held).all(agree) {
            tracing::warn!(dir = %self.dir.display(), "leader epochs contradict the log, rebuilding");
            self.epochs = EpochHistory::default();
        }
        let known_from = self
            .epochs
            .entries()
            .first()
            .map_or(end, |e| e.start_offset);
        if start < known_from {
            self.read_epochs(start, known_from)?;
        }
        Ok(())
    }

    fn batch_at(&self, offset: Offset) -> Result<Option<BatchHeader>, ReadError> {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset);
        let Some(segment) = after.checked_sub(1).map(|i| &self.segments[i]) else {
            return Ok(None);
        };
        Ok(segment.find(offset)?.map(|(_, header)| header))
    }

    /// Reads the epochs of `from` to `upto` from batch headers; those from `upto` on stay.
    fn read_epochs(&mut self, from: Offset, upto: Offset) -> Result<(), Stop> {
        let mut epochs = EpochHistory::default();
        for segment in self
            .segments
            .iter()
            .filter(|s| from < s.end && s.base < upto)
        {
            let position = match segment.find(from) {
                Ok(found) => found.map_or(segment.size, |(position, _)| position),
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(_) => 0,
            };
            let mut walk = segment.walk(position);
            loop {
                match walk.next() {
                    Ok(Some((_, header))) if header.base_offset < upto.0 => {
                        let epoch = LeaderEpoch(header.partition_leader_epoch);
                        if epoch > LeaderEpoch::NONE {
                            // A falling epoch is no epoch of this log; the first one stands.
                            let _ = epochs.assign(epoch, Offset(header.base_offset).max(from));
                        }
                    }
                    Ok(_) => break,
                    Err(WalkError::Io(error)) => return Err(error.into()),
                    Err(WalkError::Invalid { position, .. }) => {
                        tracing::warn!(dir = %self.dir.display(), position, "invalid batch");
                        break;
                    }
                }
            }
        }
        for entry in self.epochs.entries() {
            let _ = epochs.assign(entry.epoch, entry.start_offset);
        }
        self.epochs_changed |= epochs != self.epochs;
        self.epochs = epochs;
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
                segment.offsets.entries_mut().release_file();
                segment.times.entries_mut().release_file();
            }
        }
        let log = Log {
            fs: self.fs,
            dir: self.dir.to_owned(),
            config: self.config,
            segments: self.segments,
            start,
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
