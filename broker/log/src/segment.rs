//! One segment: a file of batches with its two indexes.
//!
//! Invariants: bytes below `size` are whole batches with rising offsets; an index entry points at
//! the start of a batch; bytes of the file at or after `size` mean nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::{Offset, Timestamp};
use broker_wire::record::{BatchHeader, batches};

use crate::config::LogConfig;
use crate::error::ReadError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::index::{OffsetEntry, OffsetIndex, TimeEntry, TimeIndex};
use crate::scan::{BatchWalk, WalkError};

pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const INDEX_SUFFIX: &str = ".index";
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
/// Appended to the name of a file that is about to be removed.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";

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
    /// Largest timestamp and the last offset of the batch that brought it; `None` without records.
    pub(crate) newest: Option<TimeEntry>,
    /// Largest timestamp of the first batch, what `segment.ms` counts from.
    first_timestamp: Option<Timestamp>,
    bytes_since_index: u64,
}

/// `%020d` and a suffix.
pub(crate) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}{suffix}", base.0)
}

impl Segment {
    /// Makes an empty segment, replacing files left from a failed attempt.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
    ) -> io::Result<Self> {
        let created = Self::open_files(fs, dir, base, config, OpenMode::Truncate);
        if created.is_err() {
            for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX, LOG_SUFFIX] {
                // Leftovers hold nothing and the next attempt truncates them.
                let _ = fs.remove(&dir.join(file_name(base, suffix)));
            }
        }
        created
    }

    /// Opens the files as they are; the caller recovers or loads what the fields say of them.
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        base: Offset,
        config: &LogConfig,
    ) -> io::Result<Self> {
        let mut segment = Self::open_files(fs, dir, base, config, OpenMode::OrCreate)?;
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
        dir: &Path,
        base: Offset,
        config: &LogConfig,
        mode: OpenMode,
    ) -> io::Result<Self> {
        let named = |suffix| dir.join(file_name(base, suffix));
        let index_bytes_max = config.segment_index_bytes;
        let path = named(LOG_SUFFIX);
        Ok(Self {
            base,
            end: base,
            size: 0,
            offsets: OffsetIndex::open(fs, named(INDEX_SUFFIX), base, mode, index_bytes_max)?,
            times: TimeIndex::open(fs, named(TIME_INDEX_SUFFIX), base, mode, index_bytes_max)?,
            file: fs.open(&path, mode)?,
            path,
            newest: None,
            first_timestamp: None,
            bytes_since_index: 0,
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
            .map_or(0, |first| header.max_timestamp - first.0);
        let size = self.size + pending;
        size > 0
            && (size + header.total_len() as u64 > limits.bytes
                || age_ms > limits.age_ms
                || self.offsets.entries().is_full()
                || self.times.is_full())
    }

    /// Writes whole batches at the end. When that fails the segment is as before, unless even
    /// cutting off what was written fails: then the error is that of the cut.
    pub(crate) fn append(&mut self, bytes: &[u8], index_interval_bytes: u64) -> io::Result<()> {
        if let Err(error) = self.file.write_at(bytes, self.size) {
            self.file.set_len(self.size)?;
            return Err(error);
        }
        for (header, _) in batches(bytes).flatten() {
            self.note(&header, self.size, index_interval_bytes);
        }
        Ok(())
    }

    /// Takes a batch that stands at `position`, the end so far, into the fields and the indexes.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, index_interval_bytes: u64) {
        let last_offset = Offset(header.last_offset());
        let timestamp = Timestamp(header.max_timestamp);
        if self
            .newest
            .is_none_or(|newest| timestamp > newest.timestamp)
        {
            self.newest = Some(TimeEntry {
                timestamp,
                offset: last_offset,
            });
        }
        self.first_timestamp.get_or_insert(timestamp);
        if self.bytes_since_index > index_interval_bytes {
            let entry = OffsetEntry {
                last_offset,
                position,
            };
            match self.append_index_entries(entry) {
                Ok(()) => self.bytes_since_index = 0,
                Err(error) => tracing::warn!(
                    path = %self.path.display(), %error, "cannot write an index entry, left out"
                ),
            }
        }
        self.bytes_since_index += header.total_len() as u64;
        self.size = position + header.total_len() as u64;
        self.end = Offset(header.next_offset());
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
        match self.newest {
            Some(newest) if !self.times.entries().is_full() => self.times.append(newest),
            _ => Ok(()),
        }
    }

    /// The first batch whose last offset is `offset` or above, and its position.
    pub(crate) fn find(&self, offset: Offset) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let hint = self.offsets.last_before(offset)?;
        if let Some(found) = self.find_from(hint, offset) {
            return found.map_err(|error| self.read_error(error));
        }
        // The index misled us; the log itself is the truth.
        self.walk_to(self.walk(0), offset)
            .map_err(|error| self.read_error(error))
    }

    /// As [`Self::find`], from an index entry; `None` if the batch there is not the entry's.
    fn find_from(
        &self,
        hint: Option<OffsetEntry>,
        offset: Offset,
    ) -> Option<Result<Option<(u64, BatchHeader)>, WalkError>> {
        let Some(entry) = hint else {
            return Some(self.walk_to(self.walk(0), offset));
        };
        let mut walk = self.walk(entry.position);
        match walk.next() {
            Ok(Some((_, header))) if header.last_offset() == entry.last_offset.0 => {
                Some(self.walk_to(walk, offset))
            }
            Err(WalkError::Io(error)) => Some(Err(error.into())),
            _ => None,
        }
    }

    fn walk_to(
        &self,
        mut walk: BatchWalk<'_>,
        offset: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        while let Some((position, header)) = walk.next()? {
            if header.last_offset() >= offset.0 {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// End of the last whole batch from `start` on that ends at or below `position_max` and holds
    /// no record at or above `upto`; `start` when there is none.
    pub(crate) fn end_of_batches(
        &self,
        start: u64,
        position_max: u64,
        upto: Offset,
    ) -> Result<u64, ReadError> {
        if position_max >= self.size && upto >= self.end {
            return Ok(self.size);
        }
        let mut from = start;
        if let (Some(by_size), by_offset) = (
            self.offsets.last_at(position_max)?,
            self.offsets.last_before(upto)?,
        ) {
            let by_offset = by_offset.map_or(0, |entry| entry.position);
            from = from.max(by_size.position.min(by_offset));
        }
        self.walk_end(from, position_max, upto)
            .or_else(|_| self.walk_end(start, position_max, upto))
            .map_err(|error| self.read_error(error))
    }

    fn walk_end(&self, from: u64, position_max: u64, upto: Offset) -> Result<u64, WalkError> {
        let mut walk = self.walk(from);
        let mut end = from;
        while let Some((position, header)) = walk.next()? {
            let next = position + header.total_len() as u64;
            if next > position_max || header.next_offset() > upto.0 {
                break;
            }
            end = next;
        }
        Ok(end)
    }

    /// The first batch with a record as young as `timestamp` that reaches `from`, and its position.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let start = match self.times.last_at(timestamp)? {
            Some(entry) => self
                .find(entry.offset)?
                .map_or(self.size, |(position, _)| position),
            None => 0,
        };
        let mut walk = self.walk(start);
        while let Some((position, header)) = walk.next().map_err(|e| self.read_error(e))? {
            if header.max_timestamp >= timestamp.0 && header.last_offset() >= from.0 {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    pub(crate) fn scan(&self, position: u64) -> BatchWalk<'_> {
        BatchWalk::scan(&*self.file, position, self.size)
    }

    pub(crate) fn walk(&self, position: u64) -> BatchWalk<'_> {
        BatchWalk::lookup(&*self.file, position, self.size)
    }

    /// Cuts everything from the batch on that holds or follows `offset`, and makes that durable
    /// together with what stays.
    pub(crate) fn truncate(&mut self, offset: Offset) -> io::Result<()> {
        let position = match self.find(offset) {
            Ok(found) => found.map_or(self.size, |(position, _)| position),
            Err(ReadError::Io(error)) => return Err(error),
            Err(corrupt) => return Err(io::Error::new(io::ErrorKind::InvalidData, corrupt)),
        };
        self.offsets.truncate(position)?;
        self.times.truncate(offset)?;
        self.size = position;
        self.file.set_len(position)?;
        self.load_tail().map_err(into_io)?;
        self.sync()
    }

    /// Finds the largest timestamp: the time index covers what lies before the last entry of the
    /// offset index, the headers after that are read. They also say where the segment ends.
    pub(crate) fn load_tail(&mut self) -> Result<(), WalkError> {
        self.end = self.base;
        let indexed = self.offsets.last()?;
        self.newest = self.times.last()?;
        let position = indexed.map_or(0, |entry| entry.position);
        self.bytes_since_index = self.size - position;
        let file = self.file.clone();
        let mut walk = BatchWalk::lookup(&*file, position, self.size);
        while let Some((_, header)) = walk.next()? {
            let timestamp = Timestamp(header.max_timestamp);
            if self
                .newest
                .is_none_or(|newest| timestamp > newest.timestamp)
            {
                self.newest = Some(TimeEntry {
                    timestamp,
                    offset: Offset(header.last_offset()),
                });
            }
            self.end = Offset(header.next_offset());
        }
        if self.size == 0 {
            self.first_timestamp = None;
        }
        Ok(())
    }

    /// Whether the index files have whole entries that point into the segment.
    pub(crate) fn indexes_plausible(&self) -> io::Result<bool> {
        Ok(self.offsets.entries().is_whole()?
            && self.times.entries().is_whole()?
            && self
                .offsets
                .last()?
                .is_none_or(|entry| entry.position < self.size))
    }

    /// As [`Self::indexes_plausible`]; a sealed segment has at least the entry that sealed it.
    pub(crate) fn sealed_indexes_plausible(&self) -> io::Result<bool> {
        Ok(self.indexes_plausible()? && (self.size == 0 || self.times.entries().len() > 0))
    }

    /// Takes over a sealed segment as its indexes say.
    pub(crate) fn load_sealed(&mut self, next: Offset) -> io::Result<()> {
        self.newest = self.times.last()?;
        self.end = next;
        Ok(())
    }

    /// The end of the records below `recovery_point`, found by the index as far as it is to be
    /// trusted; index entries behind are dropped. The start when the index misleads.
    pub(crate) fn trust_up_to(&mut self, recovery_point: Offset) -> io::Result<BatchEnd> {
        let start = BatchEnd {
            position: 0,
            offset: self.base,
        };
        self.offsets.keep_rising_below(recovery_point)?;
        let indexed = self.offsets.last()?;
        let mut walk = self.walk(indexed.map_or(0, |entry| entry.position));
        let mut trusted = start;
        loop {
            match walk.next() {
                Ok(Some((position, header))) if header.last_offset() < recovery_point.0 => {
                    let misled = indexed.filter(|entry| entry.position == position);
                    if misled.is_some_and(|entry| entry.last_offset.0 != header.last_offset()) {
                        return Ok(start);
                    }
                    trusted.position = position + header.total_len() as u64;
                    trusted.offset = Offset(header.next_offset());
                }
                Err(WalkError::Io(error)) => return Err(error),
                Ok(_) | Err(WalkError::Invalid { .. }) => return Ok(trusted),
            }
        }
    }

    /// Makes fields and indexes anew: trusted before `from`, verified from there to `position_end`.
    pub(crate) fn rebuild(
        &mut self,
        from: BatchEnd,
        position_end: u64,
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        self.size = from.position;
        self.end = from.offset;
        self.offsets.keep_rising_below(from.offset)?;
        self.times.keep_rising_below(from.offset)?;
        if from.position == 0 {
            self.offsets.truncate(0)?;
            self.first_timestamp = None;
        }
        self.drop_unfounded_times()?;
        self.load_tail().map_err(into_io)?;
        self.end = from.offset;
        let file = self.file.clone();
        let mut walk = BatchWalk::scan(&*file, from.position, position_end);
        while let Some((position, header)) = walk.next().map_err(into_io)? {
            self.note(&header, position, index_interval_bytes);
        }
        Ok(())
    }

    /// Drops entries at the end of the time index that do not agree with their batch: an entry
    /// written after the recovery point may be of a batch below it.
    fn drop_unfounded_times(&mut self) -> io::Result<()> {
        while let Some(entry) = self.times.last()? {
            let founded = match self.find(entry.offset) {
                Ok(Some((_, header))) => {
                    header.last_offset() == entry.offset.0
                        && header.max_timestamp == entry.timestamp.0
                }
                Ok(None) | Err(ReadError::Corrupt { .. } | ReadError::OutOfRange { .. }) => false,
                Err(ReadError::Io(error)) => return Err(error),
            };
            if founded {
                break;
            }
            let len = self.times.entries().len();
            self.times.entries_mut().truncate(len - 1)?;
        }
        Ok(())
    }

    /// Makes records and indexes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        for file in [self.offsets.entries().file(), self.times.entries().file()] {
            file.map_or(Ok(()), |file| file.sync_data())?;
        }
        Ok(())
    }

    pub(crate) fn paths(&self) -> [&Path; 3] {
        [
            &self.path,
            self.offsets.entries().path(),
            self.times.entries().path(),
        ]
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

fn into_io(error: WalkError) -> io::Error {
    match error {
        WalkError::Io(error) => error,
        WalkError::Invalid { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
