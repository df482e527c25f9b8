//! The aborted transactions of a segment, `<base offset>.txnindex` in Kafka's format: what a reader of
//! committed records has to skip.
//!
//! ```text
//!  0 version             i16, 0      10 first_offset        i64
//!  2 producer_id         i64         18 last_offset         i64, of the marker
//!                                    26 last_stable_offset  i64
//! ```
//!
//! An entry is in the index of the segment that holds the marker. The file is made with its first
//! entry. Invariant: markers rise and lie in the segment; what an open finds to be otherwise is cut off,
//! and the owner of the log enters again what it reads from markers past its last checkpoint, or from all
//! of them ([`crate::Log::knows_aborted`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::{Offset, ProducerId};
use bytes::{Buf, BufMut};

use crate::fs::{Fs, FsFile, OpenMode};

const ENTRY_LEN: usize = 34;
const VERSION: i16 = 0;
/// Entries that are read at a time.
const READ_ENTRIES: usize = 128;

/// A transaction whose records, from the first to the marker, are to be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    /// Of its first record in the partition.
    pub first_offset: Offset,
    /// Of the marker that aborts it.
    pub last_offset: Offset,
    /// Every transaction that began before this offset had a marker by then.
    pub last_stable_offset: Offset,
}

pub(crate) struct TransactionIndex {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// `None` while nobody writes; the file is there when `len` is not 0.
    file: Option<Arc<dyn FsFile>>,
    len: usize,
}

impl TransactionIndex {
    /// An index that has no file; one that is left from before is removed.
    pub(crate) fn create(fs: &Arc<dyn Fs>, path: PathBuf) -> io::Result<Self> {
        match fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            fs: Arc::clone(fs),
            path,
            file: None,
            len: 0,
        })
    }

    pub(crate) fn open(fs: &Arc<dyn Fs>, path: PathBuf) -> io::Result<Self> {
        let mut index = Self {
            fs: Arc::clone(fs),
            path,
            file: None,
            len: 0,
        };
        if fs.exists(&index.path)? {
            let file = fs.open(&index.path, OpenMode::Existing)?;
            index.len = usize::try_from(file.len()?).unwrap_or(0) / ENTRY_LEN;
            index.file = Some(file);
        }
        Ok(index)
    }

    pub(crate) fn append(&mut self, entry: &AbortedTransaction) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self
                .file
                .insert(self.fs.open(&self.path, OpenMode::OrCreate)?),
        };
        file.write_at(&encode(entry), (self.len * ENTRY_LEN) as u64)?;
        self.len += 1;
        Ok(())
    }

    /// Keeps the entries whose markers rise and lie between `base` and `end`. Returns whether the others
    /// name markers at or behind `end`: else there may have been entries of markers before it.
    pub(crate) fn keep_within(&mut self, base: Offset, end: Offset) -> io::Result<bool> {
        let mut previous = base.plus(-1);
        let (mut kept, mut is_whole) = (0, true);
        'read: while kept < self.len {
            for entry in self.read(kept)? {
                let rises = |entry: &AbortedTransaction| {
                    entry.first_offset <= entry.last_offset && previous < entry.last_offset
                };
                match entry.filter(rises) {
                    Some(entry) if entry.last_offset < end => previous = entry.last_offset,
                    past_end => {
                        is_whole = past_end.is_some();
                        break 'read;
                    }
                }
                kept += 1;
            }
        }
        self.truncate_to_len(kept)?;
        Ok(is_whole)
    }

    /// Drops the entries of markers at or above `offset`.
    pub(crate) fn truncate(&mut self, offset: Offset) -> io::Result<()> {
        let kept = self.first_at(offset)?;
        self.truncate_to_len(kept)
    }

    fn truncate_to_len(&mut self, len: usize) -> io::Result<()> {
        let Some(file) = self.open_file()? else {
            return Ok(());
        };
        if file.len()? != (len * ENTRY_LEN) as u64 {
            file.set_len((len * ENTRY_LEN) as u64)?;
            self.file = Some(file);
        }
        self.len = len;
        Ok(())
    }

    /// Appends to `found` the transactions that have records below `upto` and a marker at or above
    /// `from`. Returns whether no later segment has any more of them.
    pub(crate) fn find(
        &self,
        from: Offset,
        upto: Offset,
        found: &mut Vec<AbortedTransaction>,
    ) -> io::Result<bool> {
        let mut next = self.first_at(from)?;
        while next < self.len {
            for entry in self.read(next)? {
                let entry = entry.ok_or(io::ErrorKind::InvalidData)?;
                if entry.first_offset < upto {
                    found.push(entry);
                }
                if entry.last_stable_offset >= upto {
                    return Ok(true);
                }
                next += 1;
            }
        }
        Ok(false)
    }

    pub(crate) fn last(&self) -> io::Result<Option<AbortedTransaction>> {
        let Some(last) = self.len.checked_sub(1) else {
            return Ok(None);
        };
        Ok(self.read(last)?.first().copied().flatten())
    }

    /// Index of the first entry whose marker is at or above `offset`.
    fn first_at(&self, offset: Offset) -> io::Result<usize> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.read_some(middle, 1)?[0].ok_or(io::ErrorKind::InvalidData)?;
            if entry.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn read(&self, from: usize) -> io::Result<Vec<Option<AbortedTransaction>>> {
        self.read_some(from, READ_ENTRIES)
    }

    fn read_some(&self, from: usize, max: usize) -> io::Result<Vec<Option<AbortedTransaction>>> {
        let count = (self.len - from).min(max);
        let mut bytes = vec![0; count * ENTRY_LEN];
        let file = self.open_file()?.ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut bytes, (from * ENTRY_LEN) as u64)?;
        Ok(bytes.chunks_exact(ENTRY_LEN).map(decode).collect())
    }

    fn open_file(&self) -> io::Result<Option<Arc<dyn FsFile>>> {
        match &self.file {
            Some(file) => Ok(Some(Arc::clone(file))),
            None if self.len == 0 => Ok(None),
            None => self.fs.open(&self.path, OpenMode::Existing).map(Some),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file, while it may have what is not durable.
    pub(crate) fn file(&self) -> Option<&Arc<dyn FsFile>> {
        self.file.as_ref()
    }

    /// Closes the file of a sealed segment, which is durable.
    pub(crate) fn release_file(&mut self) {
        self.file = None;
    }

    /// The file's directory was renamed.
    pub(crate) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// The file, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        (self.len > 0 || self.file.is_some()).then_some(&*self.path)
    }
}

fn encode(entry: &AbortedTransaction) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    let mut out = &mut bytes[..];
    out.put_i16(VERSION);
    out.put_i64(entry.producer_id.0);
    out.put_i64(entry.first_offset.0);
    out.put_i64(entry.last_offset.0);
    out.put_i64(entry.last_stable_offset.0);
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<AbortedTransaction> {
    (bytes.get_i16() == VERSION).then(|| AbortedTransaction {
        producer_id: ProducerId(bytes.get_i64()),
        first_offset: Offset(bytes.get_i64()),
        last_offset: Offset(bytes.get_i64()),
        last_stable_offset: Offset(bytes.get_i64()),
    })
}
