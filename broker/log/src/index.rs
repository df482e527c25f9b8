//! Sparse indexes of a segment: offset → position and timestamp → offset.
//!
//! Entries are appended with `pwrite` and looked up through a memory map that is made at the first
//! look-up. An index is a hint that recovery rebuilds: an entry that could not be written is left
//! out, and every reader checks the batch it was led to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use broker_core::{Offset, Timestamp};

use crate::fs::{FileMap, Fs, FsFile, OpenMode};

pub(crate) const OFFSET_ENTRY_LEN: usize = 8;
pub(crate) const TIME_ENTRY_LEN: usize = 12;

/// Offset → position. An entry holds the last offset of a batch and the position where it starts.
pub(crate) struct OffsetIndex {
    base: Offset,
    entries: Entries<OFFSET_ENTRY_LEN>,
}

/// An entry of an [`OffsetIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) last_offset: Offset,
    pub(crate) position: u64,
}

impl OffsetIndex {
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        path: PathBuf,
        base: Offset,
        mode: OpenMode,
        bytes_max: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            base,
            entries: Entries::open(fs, path, mode, bytes_max)?,
        })
    }

    pub(crate) fn append(&mut self, entry: OffsetEntry) -> io::Result<()> {
        let mut bytes = [0; OFFSET_ENTRY_LEN];
        bytes[..4].copy_from_slice(&relative(self.base, entry.last_offset).to_be_bytes());
        bytes[4..].copy_from_slice(&(entry.position as u32).to_be_bytes());
        self.entries.append(bytes)
    }

    pub(crate) fn get(&self, i: usize) -> io::Result<OffsetEntry> {
        let [a, b, c, d, e, f, g, h] = self.entries.get(i)?;
        Ok(OffsetEntry {
            last_offset: self.base.plus(u32::from_be_bytes([a, b, c, d]).into()),
            position: u32::from_be_bytes([e, f, g, h]).into(),
        })
    }

    /// The last entry whose batch ends before `offset`.
    pub(crate) fn last_before(&self, offset: Offset) -> io::Result<Option<OffsetEntry>> {
        self.last_where(|entry| entry.last_offset < offset)
    }

    /// The last entry whose batch starts at or before `position`.
    pub(crate) fn last_at(&self, position: u64) -> io::Result<Option<OffsetEntry>> {
        self.last_where(|entry| entry.position <= position)
    }

    /// The first entry whose batch starts at or after `position`.
    pub(crate) fn first_from(&self, position: u64) -> io::Result<Option<OffsetEntry>> {
        let found = partition_point(self.entries.len(), |i| Ok(self.get(i)?.position < position));
        let Some(i) = unless_unusable(found)?.filter(|i| *i < self.entries.len()) else {
            return Ok(None);
        };
        self.get(i).map(Some)
    }

    /// Keeps the leading entries that rise and lie below `offset`, which recovery may trust.
    pub(crate) fn keep_rising_below(&mut self, offset: Offset) -> io::Result<()> {
        let mut previous = None;
        for i in 0..self.entries.len() {
            let entry = self.get(i)?;
            let rises = previous.is_none_or(|previous: OffsetEntry| {
                entry.last_offset > previous.last_offset && entry.position > previous.position
            });
            if !rises || entry.last_offset >= offset {
                return self.entries.truncate(i);
            }
            previous = Some(entry);
        }
        self.entries.truncate(self.entries.len())
    }

    pub(crate) fn last(&self) -> io::Result<Option<OffsetEntry>> {
        self.entries
            .len()
            .checked_sub(1)
            .map(|i| self.get(i))
            .transpose()
    }

    /// Drops the entries of batches that start at or after `position`.
    pub(crate) fn truncate(&mut self, position: u64) -> io::Result<()> {
        let kept = partition_point(self.entries.len(), |i| Ok(self.get(i)?.position < position))?;
        self.entries.truncate(kept)
    }

    pub(crate) fn entries(&self) -> &Entries<OFFSET_ENTRY_LEN> {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut Entries<OFFSET_ENTRY_LEN> {
        &mut self.entries
    }

    fn last_where(&self, before: impl Fn(OffsetEntry) -> bool) -> io::Result<Option<OffsetEntry>> {
        let found = partition_point(self.entries.len(), |i| Ok(before(self.get(i)?)));
        let Some(after) = unless_unusable(found)? else {
            return Ok(None);
        };
        after.checked_sub(1).map(|i| self.get(i)).transpose()
    }
}

/// Timestamp → offset. An entry holds the largest timestamp so far and the last offset of the batch
/// that brought it.
pub(crate) struct TimeIndex {
    base: Offset,
    entries: Entries<TIME_ENTRY_LEN>,
}

/// An entry of a [`TimeIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

impl TimeIndex {
    pub(crate) fn open(
        fs: &Arc<dyn Fs>,
        path: PathBuf,
        base: Offset,
        mode: OpenMode,
        bytes_max: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            base,
            entries: Entries::open(fs, path, mode, bytes_max)?,
        })
    }

    /// Appends the entry if its timestamp is above the last one's.
    pub(crate) fn append(&mut self, entry: TimeEntry) -> io::Result<()> {
        if self
            .last()?
            .is_some_and(|last| last.timestamp >= entry.timestamp)
        {
            return Ok(());
        }
        let mut bytes = [0; TIME_ENTRY_LEN];
        bytes[..8].copy_from_slice(&entry.timestamp.0.to_be_bytes());
        bytes[8..].copy_from_slice(&relative(self.base, entry.offset).to_be_bytes());
        self.entries.append(bytes)
    }

    pub(crate) fn get(&self, i: usize) -> io::Result<TimeEntry> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.entries.get(i)?;
        Ok(TimeEntry {
            timestamp: Timestamp(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            offset: self.base.plus(u32::from_be_bytes([i, j, k, l]).into()),
        })
    }

    /// Whether only the entry that sealing appends has room.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len + 1 >= self.entries.len_max
    }

    /// The last entry whose timestamp is not above `timestamp`: no earlier batch is younger.
    pub(crate) fn last_at(&self, timestamp: Timestamp) -> io::Result<Option<TimeEntry>> {
        let found = partition_point(self.entries.len(), |i| {
            Ok(self.get(i)?.timestamp <= timestamp)
        });
        let Some(after) = unless_unusable(found)? else {
            return Ok(None);
        };
        after.checked_sub(1).map(|i| self.get(i)).transpose()
    }

    /// Keeps the leading entries that rise and lie below `offset`, which recovery may trust.
    pub(crate) fn keep_rising_below(&mut self, offset: Offset) -> io::Result<()> {
        let mut previous = None;
        for i in 0..self.entries.len() {
            let entry = self.get(i)?;
            let rises = previous.is_none_or(|previous: TimeEntry| {
                entry.timestamp > previous.timestamp && entry.offset > previous.offset
            });
            if !rises || entry.offset >= offset {
                return self.entries.truncate(i);
            }
            previous = Some(entry);
        }
        self.entries.truncate(self.entries.len())
    }

    pub(crate) fn last(&self) -> io::Result<Option<TimeEntry>> {
        self.entries
            .len()
            .checked_sub(1)
            .map(|i| self.get(i))
            .transpose()
    }

    /// Drops the entries of batches at or after `offset`.
    pub(crate) fn truncate(&mut self, offset: Offset) -> io::Result<()> {
        let kept = partition_point(self.entries.len(), |i| Ok(self.get(i)?.offset < offset))?;
        self.entries.truncate(kept)
    }

    pub(crate) fn entries(&self) -> &Entries<TIME_ENTRY_LEN> {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut Entries<TIME_ENTRY_LEN> {
        &mut self.entries
    }
}

/// A file of entries of `N` bytes.
pub(crate) struct Entries<const N: usize> {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// `None` once the segment is sealed and the file durable: only the map is needed then.
    file: Option<Arc<dyn FsFile>>,
    map: OnceLock<Arc<dyn FileMap>>,
    len: usize,
    len_max: usize,
}

impl<const N: usize> Entries<N> {
    fn open(fs: &Arc<dyn Fs>, path: PathBuf, mode: OpenMode, bytes_max: u64) -> io::Result<Self> {
        let file = fs.open(&path, mode)?;
        let len = (file.len()? / N as u64) as usize;
        let len_max = (bytes_max as usize / N).max(len).max(2);
        Ok(Self {
            fs: fs.clone(),
            path,
            file: Some(file),
            map: OnceLock::new(),
            len,
            len_max,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.len_max
    }

    /// Whether the file has exactly the bytes of its entries.
    pub(crate) fn is_whole(&self) -> io::Result<bool> {
        Ok(self.open_file()?.len()? == (self.len * N) as u64)
    }

    /// The file, if it has not been let go: what a sync has to make durable.
    pub(crate) fn file(&self) -> Option<&Arc<dyn FsFile>> {
        self.file.as_ref()
    }

    /// Closes the file of a sealed, durable index. A look-up opens it for as long as mapping takes.
    pub(crate) fn release_file(&mut self) {
        self.file = None;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's directory was renamed.
    pub(crate) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Renames the file, which may be open.
    pub(crate) fn rename(&mut self, fs: &dyn Fs, path: PathBuf) -> io::Result<()> {
        fs.rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    /// Bytes of all entries.
    pub(crate) fn size(&self) -> u64 {
        (self.len * N) as u64
    }

    fn open_file(&self) -> io::Result<Arc<dyn FsFile>> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => self.fs.open(&self.path, OpenMode::Existing),
        }
    }

    fn append(&mut self, bytes: [u8; N]) -> io::Result<()> {
        let file = self
            .file
            .as_ref()
            .expect("only the active segment's index is appended to");
        file.write_at(&bytes, (self.len * N) as u64)?;
        self.len += 1;
        Ok(())
    }

    fn get(&self, i: usize) -> io::Result<[u8; N]> {
        assert!(i < self.len, "entry {i} of {}", self.len);
        let mut bytes = [0; N];
        self.map()?.copy_to(&mut bytes, i * N);
        Ok(bytes)
    }

    fn map(&self) -> io::Result<&Arc<dyn FileMap>> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let file = self.open_file()?;
        if file.len()? < (self.len * N) as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = file.map(self.len_max * N)?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Keeps the first `len` entries and nothing else in the file, which is open afterwards.
    pub(crate) fn truncate(&mut self, len: usize) -> io::Result<()> {
        let file = self.open_file()?;
        self.len = self.len.min(len);
        file.set_len((self.len * N) as u64)?;
        self.file = Some(file);
        Ok(())
    }
}

/// `None` for an index whose file is gone or cut: readers find their way without it.
fn unless_unusable<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn relative(base: Offset, offset: Offset) -> u32 {
    u32::try_from(offset.0 - base.0).expect("a segment is rolled before offsets overflow")
}

/// Number of leading indexes below `len` for which `before` holds.
fn partition_point(len: usize, before: impl Fn(usize) -> io::Result<bool>) -> io::Result<usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
