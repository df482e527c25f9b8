//! One segment: a file of batches with its two indexes, and a third one of aborted transactions.
//!
//! Invariants: bytes below `size` are whole batches with rising offsets; an index entry points at
//! the start of a batch; bytes of the file at or after `size` mean nothing.

mod lookup;
mod recovery;
mod tail;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::{Offset, Timestamp};
use broker_wire::record::{BatchError, BatchHeader, batches};

use crate::config::LogConfig;
use crate::error::ReadError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::index::{OffsetEntry, OffsetIndex, TimeEntry, TimeIndex};
use crate::scan::{BatchWalk, WalkError};
use crate::txn_index::TransactionIndex;
use tail::Tail;

pub(crate) use tail::BatchSpan;

pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const INDEX_SUFFIX: &str = ".index";
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
pub(crate) const TXN_INDEX_SUFFIX: &str = ".txnindex";
/// Appended to the name of a file that is about to be removed.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";

/// Appended to the name of a file that is being written by compaction.
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";

/// Largest distance of an offset from its segment's base.
pub(crate) const RELATIVE_OFFSET_MAX: i64 = i32::MAX as i64;

/// Where a batch ends: in the file and in offsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchEnd {
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// After the last record; of a sealed segment, where the next one begins.
    pub(crate) end: Offset,
    pub(crate) size: u64,
    pub(crate) file: Arc<dyn FsFile>,
    path: PathBuf,
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    pub(crate) aborted: TransactionIndex,
    /// Largest timestamp and the last offset of the batch that brought it; `None` without records.
    pub(crate) newest: Option<TimeEntry>,
    /// Largest timestamp of the first batch, what `segment.ms` counts from.
    first_timestamp: Option<Timestamp>,
    bytes_since_index: u64,
    tail: Tail,
    /// The file may go on behind `size`: what a failed write left there is not cut off yet.
    torn: bool,
    /// The last index entry could not be written.
    lacks_index_entries: bool,
}

/// `%020d` and a suffix.
pub(crate) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}{suffix}", base.0)
}

/// Whether a segment that begins at `next` follows one whose last record ends at `end`: there is no
/// gap but one that no segment can span.
pub(crate) fn joins(end: Offset, next: Offset) -> bool {
    end == next || next.0 - end.0 > RELATIVE_OFFSET_MAX
}

impl Segment {
    /// Makes an empty segment, replacing files left from a failed attempt.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
    ) -> io::Result<Self> {
        Self::create_named(fs, dir, base, config, "")
    }

    /// Makes an empty segment that is not part of the log before [`Self::take_place`].
    pub(crate) fn create_cleaned(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
    ) -> io::Result<Self> {
        // Before the indexes: an open would take a time index without it for that of a segment which took
        // its place.
        let log = dir.join(file_name(base, LOG_SUFFIX) + CLEANED_SUFFIX);
        fs.open(&log, OpenMode::Truncate)?;
        Self::create_named(fs, dir, base, config, CLEANED_SUFFIX)
    }

    fn create_named(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
        ending: &str,
    ) -> io::Result<Self> {
        let named = |suffix: &str| dir.join(file_name(base, suffix) + ending);
        let created = Self::open_files(fs, named, base, config, OpenMode::Truncate);
        if created.is_err() {
            for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX, LOG_SUFFIX] {
                // Leftovers hold nothing and the next attempt truncates them.
                let _ = fs.remove(&named(suffix));
            }
        }
        created
    }

    /// Gives the file of a cleaned segment's records its name, by which the segment becomes part of the
    /// log, and then that of the offset index.
    pub(crate) fn take_place(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let log = dir.join(file_name(self.base, LOG_SUFFIX));
        fs.rename(&self.path, &log)?;
        self.path = log;
        let index = dir.join(file_name(self.base, INDEX_SUFFIX));
        self.offsets.entries_mut().rename(fs, index)
    }

    /// Gives the time index its name, by which the replacement is complete. Until then its file beside
    /// none of records tells an open what is left to do.
    pub(crate) fn finish_place(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let index = dir.join(file_name(self.base, TIME_INDEX_SUFFIX));
        self.times.entries_mut().rename(fs, index)
    }

    /// Removes the files of a cleaned segment that does not become part of the log, the records last: an
    /// open would take the time index without them for that of one which did.
    pub(crate) fn discard(&self, fs: &dyn Fs) -> io::Result<()> {
        let paths = self.paths();
        paths.into_iter().rev().try_for_each(|path| fs.remove(path))
    }

    /// Opens the files as they are; the caller recovers or loads what the fields say of them.
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
    ) -> io::Result<Self> {
        let named = |suffix: &str| dir.join(file_name(base, suffix));
        let mut segment = Self::open_files(fs, named, base, config, OpenMode::OrCreate)?;
        segment.size = segment.file.len()?;
        segment.first_timestamp = match segment.walk(0).next() {
            Ok(Some((_, header))) => Some(Timestamp(header.max_timestamp)),
            Ok(None) | Err(WalkError::Invalid { .. }) => None,
            Err(WalkError::Io(error)) => return Err(error),
        };
        Ok(segment)
    }

    fn open_files(
        fs: &Arc<dyn Fs>,
        named: impl Fn(&str) -> PathBuf,
        base: Offset,
        config: &LogConfig,
        mode: OpenMode,
    ) -> io::Result<Self> {
        let index_bytes_max = config.segment_index_bytes;
        let path = named(LOG_SUFFIX);
        let aborted = match mode {
            OpenMode::Truncate => TransactionIndex::create(fs, named(TXN_INDEX_SUFFIX))?,
            OpenMode::Existing | OpenMode::OrCreate => {
                TransactionIndex::open(fs, named(TXN_INDEX_SUFFIX))?
            }
        };
        Ok(Self {
            base,
            end: base,
            size: 0,
            offsets: OffsetIndex::open(fs, named(INDEX_SUFFIX), base, mode, index_bytes_max)?,
            times: TimeIndex::open(fs, named(TIME_INDEX_SUFFIX), base, mode, index_bytes_max)?,
            aborted,
            file: fs.open(&path, mode)?,
            path,
            newest: None,
            first_timestamp: None,
            bytes_since_index: 0,
            tail: Tail::default(),
            torn: false,
            lacks_index_entries: false,
        })
    }

    /// Whether a batch must go to a new segment, when `pending` bytes are about to be written
    /// before it.
    pub(crate) fn must_roll(
        &self,
        pending: u64,
        header: &BatchHeader,
        limits: &RollLimits,
    ) -> bool {
        if header.last_offset() - self.base.0 > RELATIVE_OFFSET_MAX {
            return true;
        }
        let age_ms = self
            .first_timestamp
            .map_or(0, |first| header.max_timestamp.saturating_sub(first.0));
        let size = self.size + pending;
        size > 0
            && (size + header.total_len() as u64 > limits.bytes
                || age_ms > limits.age_ms
                || self.offsets.entries().is_full()
                || self.times.is_full())
    }

    /// Writes whole batches at the end. When that fails the segment is as before, unless even
    /// cutting off what was written fails: then the error is that of the cut, which comes first
    /// before anything else is written or the segment is sealed.
    pub(crate) fn append(&mut self, bytes: &[u8], index_interval_bytes: u64) -> io::Result<()> {
        self.cut_torn()?;
        if let Err(error) = self.file.write_at(bytes, self.size) {
            self.torn = true;
            self.cut_torn()?;
            return Err(error);
        }
        for (header, _) in batches(bytes).flatten() {
            self.tail.push(BatchSpan::new(self.size, &header));
            self.note(&header, self.size, index_interval_bytes);
        }
        Ok(())
    }

    fn cut_torn(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.size)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Takes a batch that stands at `position`, the end so far, into the fields and the indexes.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, index_interval_bytes: u64) {
        let last_offset = Offset(header.last_offset());
        let timestamp = Timestamp(header.max_timestamp);
        self.note_time(header);
        self.first_timestamp.get_or_insert(timestamp);
        if self.bytes_since_index > index_interval_bytes {
            let entry = OffsetEntry {
                last_offset,
                position,
            };
            match self.append_index_entries(entry) {
                Ok(()) => {
                    self.bytes_since_index = 0;
                    self.lacks_index_entries = false;
                }
                // On a full disk all that follow fail, too.
                Err(error) if !self.lacks_index_entries => {
                    self.lacks_index_entries = true;
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "cannot write index entries, left out");
                }
                Err(_) => {}
            }
        }
        self.bytes_since_index += header.total_len() as u64;
        self.size = position + header.total_len() as u64;
        self.end = Offset(header.next_offset());
    }

    /// Batches that compaction emptied have no time that anybody could look for.
    fn note_time(&mut self, header: &BatchHeader) {
        let timestamp = Timestamp(header.max_timestamp);
        let is_newest = self
            .newest
            .is_none_or(|newest| timestamp > newest.timestamp);
        if is_newest && header.record_count > 0 {
            self.newest = Some(TimeEntry {
                timestamp,
                offset: Offset(header.last_offset()),
            });
        }
    }

    /// Largest timestamp of the first batch, an emptied one included.
    pub(crate) fn first_timestamp(&self) -> Option<Timestamp> {
        self.first_timestamp
    }

    /// The time first: whatever an offset entry has before it is covered by the time index.
    fn append_index_entries(&mut self, entry: OffsetEntry) -> io::Result<()> {
        if self.offsets.entries().is_full() || self.times.is_full() {
            return Ok(());
        }
        if let Some(newest) = self.newest {
            self.times.append(newest)?;
        }
        self.offsets.append(entry)
    }

    /// Ends writing: the time index gets the largest timestamp, so that opening finds it there.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.cut_torn()?;
        self.tail.clear();
        match self.newest {
            Some(newest) if !self.times.entries().is_full() => self.times.append(newest),
            _ => Ok(()),
        }
    }

    pub(crate) fn scan(&self, position: u64) -> BatchWalk<'_> {
        BatchWalk::scan(&*self.file, position, self.size)
    }

    pub(crate) fn walk(&self, position: u64) -> BatchWalk<'_> {
        BatchWalk::lookup(&*self.file, position, self.size)
    }

    /// Makes records and indexes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.index_files().try_for_each(|file| file.sync_data())
    }

    /// Index files that may have what is not durable.
    pub(crate) fn index_files(&self) -> impl Iterator<Item = &Arc<dyn FsFile>> {
        let offsets = self.offsets.entries().file().into_iter();
        offsets
            .chain(self.times.entries().file())
            .chain(self.aborted.file())
    }

    /// Closes the indexes of a sealed segment, which are durable; they are opened to be read.
    pub(crate) fn release_index_files(&mut self) {
        self.offsets.entries_mut().release_file();
        self.times.entries_mut().release_file();
        self.aborted.release_file();
    }

    /// The log's directory was renamed.
    pub(crate) fn set_dir(&mut self, dir: &Path) {
        let named = |suffix| dir.join(file_name(self.base, suffix));
        self.path = named(LOG_SUFFIX);
        self.offsets.entries_mut().set_path(named(INDEX_SUFFIX));
        self.times.entries_mut().set_path(named(TIME_INDEX_SUFFIX));
        self.aborted.set_path(named(TXN_INDEX_SUFFIX));
    }

    /// The files that every segment has, that of the records first.
    pub(crate) fn paths(&self) -> [&Path; 3] {
        [
            &self.path,
            self.offsets.entries().path(),
            self.times.entries().path(),
        ]
    }

    /// All files, that of the records first.
    pub(crate) fn all_paths(&self) -> impl Iterator<Item = &Path> {
        self.paths().into_iter().chain(self.aborted.path())
    }

    /// A batch that reaches past the end of the segment.
    fn damaged(&self, position: u64, header: &BatchHeader) -> ReadError {
        ReadError::Corrupt {
            segment: self.base,
            position,
            source: BatchError::InvalidField {
                field: "last_offset_delta",
                value: header.last_offset_delta.into(),
            },
        }
    }

    pub(crate) fn read_error(&self, error: WalkError) -> ReadError {
        match error {
            WalkError::Io(error) => ReadError::Io(error),
            WalkError::Invalid { position, source } => ReadError::Corrupt {
                segment: self.base,
                position,
                source,
            },
        }
    }
}

/// When a segment is rolled, from [`LogConfig`] with the jitter taken off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RollLimits {
    pub(crate) bytes: u64,
    pub(crate) age_ms: i64,
}
