//! A region of a segment file that holds whole batches.

use std::io;
use std::sync::Arc;

use broker_core::{LeaderEpoch, Offset, Timestamp};
use broker_wire::record::{BatchError, RecordBatch, RecordError, batches, verify_crc};
use bytes::Bytes;

use crate::fs::FsFile;

/// A region of a segment file that holds whole batches.
///
/// Holds the file open: it stays readable when the segment is rolled or deleted. Only a truncation
/// can take records away under it; readers of records below the high watermark never see that.
#[derive(Clone)]
pub struct LogSlice {
    /// The file, with a descriptor for `sendfile`.
    pub file: Arc<dyn FsFile>,
    /// Where the region starts.
    pub position: u64,
    /// Bytes of the region.
    pub len: usize,
    /// Base offset of the first batch.
    pub base_offset: Offset,
    /// Batches follow that were asked for, too, and had no room or are in another file.
    pub more_follow: bool,
}

impl std::fmt::Debug for LogSlice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            position,
            len,
            base_offset,
            ..
        } = self;
        write!(
            f,
            "LogSlice {{ position: {position}, len: {len}, base_offset: {base_offset} }}"
        )
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub epoch: LeaderEpoch,
}

/// Why a record could not be found by its timestamp.
#[derive(Debug, thiserror::Error)]
pub enum TimestampError {
    /// The file could not be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
    /// The batch could not be decoded.
    #[error("cannot decode a batch of the log: {0}")]
    Record(#[from] RecordError),
}

/// Why the records of a slice cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The file could not be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not those that were appended.
    #[error(
        "the log is damaged at position {position} of the segment with offset {base_offset}: {source}"
    )]
    Damaged {
        /// First offset of the slice.
        base_offset: Offset,
        /// Where in the file.
        position: u64,
        /// What is wrong there.
        source: BatchError,
    },
}

impl LogSlice {
    /// Reads the region into memory and verifies every checksum, so that no damage is handed on.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn read_verified(&self) -> Result<Bytes, SliceError> {
        let bytes = self.read_to_bytes()?;
        match self.verify(&bytes) {
            (_, Some(damage)) => Err(damage),
            (_, None) => Ok(bytes),
        }
    }

    /// The batches before the first damaged one.
    ///
    /// # Errors
    /// [`SliceError`] when that is the first of all.
    pub fn verified(&self) -> Result<Self, SliceError> {
        let bytes = self.read_to_bytes()?;
        match self.verify(&bytes) {
            (0, Some(damage)) => Err(damage),
            (len, _) => Ok(Self {
                len,
                ..self.clone()
            }),
        }
    }

    /// Bytes of the whole batches at the start of `bytes`, and what is wrong behind them.
    fn verify(&self, bytes: &[u8]) -> (usize, Option<SliceError>) {
        let mut len = 0;
        for batch in batches(bytes) {
            match batch.and_then(|(_, batch)| verify_crc(batch).map(|()| batch.len())) {
                Ok(batch_len) => len += batch_len,
                Err(source) => {
                    let damage = SliceError::Damaged {
                        base_offset: self.base_offset,
                        position: self.position + len as u64,
                        source,
                    };
                    return (len, Some(damage));
                }
            }
        }
        (len, None)
    }

    /// Reads the region into memory.
    pub fn read_to_bytes(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }

    /// The first record of the slice's first batch that is at or after both `timestamp` and
    /// `start`, decompressing at most `decompressed_len_max` bytes.
    pub fn first_at_or_after(
        &self,
        timestamp: Timestamp,
        start: Offset,
        decompressed_len_max: usize,
    ) -> Result<Option<TimestampedOffset>, TimestampError> {
        self.select(decompressed_len_max, |found, record| {
            let matches = record.timestamp >= timestamp && record.offset >= start;
            if found.is_none() && matches {
                Some(record)
            } else {
                found
            }
        })
    }

    /// The first of the records with the largest timestamp in the slice's first batch.
    pub fn max_timestamp(
        &self,
        decompressed_len_max: usize,
    ) -> Result<Option<TimestampedOffset>, TimestampError> {
        self.select(decompressed_len_max, |found, record| match found {
            Some(found) if found.timestamp >= record.timestamp => Some(found),
            _ => Some(record),
        })
    }

    fn select(
        &self,
        decompressed_len_max: usize,
        choose: impl Fn(Option<TimestampedOffset>, TimestampedOffset) -> Option<TimestampedOffset>,
    ) -> Result<Option<TimestampedOffset>, TimestampError> {
        let bytes = self.read_to_bytes()?;
        let batch = RecordBatch::open(&bytes, decompressed_len_max)?;
        let epoch = LeaderEpoch(batch.header().partition_leader_epoch);
        let mut found = None;
        for record in batch.records() {
            let record = record?;
            let (offset, timestamp) = (Offset(record.offset), Timestamp(record.timestamp));
            found = choose(
                found,
                TimestampedOffset {
                    offset,
                    timestamp,
                    epoch,
                },
            );
        }
        Ok(found)
    }
}
