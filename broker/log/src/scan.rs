//! Walks the batches of a segment file with bounded memory.

use std::io;

use broker_wire::record::{BATCH_HEADER_LEN, BatchError, BatchHeader, verify_crc};

use crate::fs::FsFile;

/// Window for a look-up: about one index interval.
const LOOKUP_WINDOW_LEN: usize = 4 << 10;
/// Window for recovery, which reads everything.
const SCAN_WINDOW_LEN: usize = 1 << 20;
/// Bytes of a batch before what its checksum covers.
const CRC_COVERS_FROM: usize = 21;

/// Why a walk stopped before the end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    #[error("no valid batch at position {position}: {source}")]
    Invalid { position: u64, source: BatchError },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A batch: its position, header and all its bytes.
pub(crate) type WholeBatch<'a> = (u64, BatchHeader, &'a [u8]);

/// Steps from batch to batch over the bytes of a file from a position to an end.
pub(crate) struct BatchWalk<'a> {
    file: &'a dyn FsFile,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    window_len_max: usize,
}

impl<'a> BatchWalk<'a> {
    /// For finding a batch by its header.
    pub(crate) fn lookup(file: &'a dyn FsFile, position: u64, end: u64) -> Self {
        Self::new(file, position, end, LOOKUP_WINDOW_LEN)
    }

    /// For reading everything.
    pub(crate) fn scan(file: &'a dyn FsFile, position: u64, end: u64) -> Self {
        Self::new(file, position, end, SCAN_WINDOW_LEN)
    }

    fn new(file: &'a dyn FsFile, position: u64, end: u64, window_len_max: usize) -> Self {
        Self {
            file,
            position,
            end,
            window: Vec::new(),
            window_start: position,
            window_len_max,
        }
    }

    /// The next batch and its position; `None` at the end. Its checksum is not verified.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        let position = self.position;
        if position >= self.end {
            return Ok(None);
        }
        let available = (self.end - position) as usize;
        let invalid = |source| WalkError::Invalid { position, source };
        let header =
            BatchHeader::parse(self.bytes(position, BATCH_HEADER_LEN)?).map_err(invalid)?;
        let needed = header.total_len();
        if needed > available {
            return Err(invalid(BatchError::Truncated { needed, available }));
        }
        self.position += needed as u64;
        Ok(Some((position, header)))
    }

    /// The next batch with its checksum verified.
    pub(crate) fn next_verified(&mut self) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        let Some((position, header)) = self.next()? else {
            return Ok(None);
        };
        let mut computed = 0;
        let mut at = position + CRC_COVERS_FROM as u64;
        while at < self.position {
            let len = ((self.position - at) as usize).min(self.window_len_max);
            let chunk = self.bytes(at, len)?;
            if chunk.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            computed = crc32c::crc32c_append(computed, chunk);
            at += chunk.len() as u64;
        }
        if computed != header.crc {
            let source = BatchError::CrcMismatch {
                stored: header.crc,
                computed,
            };
            return Err(WalkError::Invalid { position, source });
        }
        Ok(Some((position, header)))
    }

    /// The next batch as a whole, with its checksum verified.
    pub(crate) fn next_whole(&mut self) -> Result<Option<WholeBatch<'_>>, WalkError> {
        let Some((position, header)) = self.next()? else {
            return Ok(None);
        };
        let bytes = self.bytes(position, header.total_len())?;
        verify_crc(bytes).map_err(|source| WalkError::Invalid { position, source })?;
        Ok(Some((position, header, bytes)))
    }

    /// `len` bytes at `position`, fewer only at the end.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min((self.end - position) as usize);
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if !(held.contains(&position) && position + len as u64 <= held.end) {
            let fill = self.window_len_max.max(len);
            let fill = fill.min((self.end - position) as usize);
            self.window.resize(fill, 0);
            let read = self.file.read_at(&mut self.window, position)?;
            self.window.truncate(read);
            self.window_start = position;
        }
        let from = (position - self.window_start) as usize;
        let to = self.window.len().min(from + len);
        Ok(&self.window[from..to])
    }
}
