//! The header of a record batch v2, read and patched in place.
//!
//! ```text
//!  0 base_offset            i64      23 last_offset_delta  i32
//!  8 batch_length           i32      27 base_timestamp     i64
//! 12 partition_leader_epoch i32      35 max_timestamp      i64
//! 16 magic                  i8       43 producer_id        i64
//! 17 crc                    u32      51 producer_epoch     i16
//! 21 attributes             i16      53 base_sequence      i32
//!                                    57 record_count       i32, records follow
//! ```
//!
//! `batch_length` counts what follows it. The CRC-32C covers everything from `attributes` to the
//! end, so that a broker assigns offsets and leader epoch without touching it.

use bytes::{Buf, BufMut};

use super::compression::Compression;

/// Bytes of a batch before its first record.
pub const BATCH_HEADER_LEN: usize = 61;

/// Bytes before what `batch_length` counts.
pub(super) const LENGTH_PREFIX_LEN: usize = 12;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const MAGIC: i8 = 2;

pub(super) const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
pub(super) const DELETE_HORIZON: i16 = 0x40;

/// Why bytes are not a valid record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does: a torn tail, or a slice cut in mid-batch.
    #[error("batch is truncated: {needed} bytes needed, {available} available")]
    Truncated {
        /// Bytes the batch needs, as far as known.
        needed: usize,
        /// Bytes there were.
        available: usize,
    },
    /// The batch has another format than v2.
    #[error("magic {0} is not supported, only 2")]
    UnsupportedMagic(i8),
    /// A header field has a value that no valid batch has.
    #[error("batch header field {field} has invalid value {value}")]
    InvalidField {
        /// Name of the field.
        field: &'static str,
        /// The value found.
        value: i64,
    },
    /// The content is not what the producer sent.
    #[error("batch has crc {stored:#010x}, its content {computed:#010x}")]
    CrcMismatch {
        /// The CRC in the header.
        stored: u32,
        /// The CRC of the content.
        computed: u32,
    },
}

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Set by the producer.
    CreateTime,
    /// `max_timestamp` is the broker's time of append, and holds for every record.
    LogAppendTime,
}

/// A decoded batch header. [`BatchHeader::parse`] only returns headers whose lengths, counts and
/// offsets are consistent, so that the methods here cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; of a compacted batch, of the first it once had.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch, -1 before that.
    pub partition_leader_epoch: i32,
    /// Format, always 2.
    pub magic: i8,
    /// CRC-32C from `attributes` to the end.
    pub crc: u32,
    /// Compression, timestamp type and flags; see the methods.
    pub attributes: i16,
    /// Last offset minus `base_offset`; kept when compaction removes the last record.
    pub last_offset_delta: i32,
    /// Milliseconds since the Unix epoch that the records' timestamp deltas count from; the
    /// delete horizon if [`BatchHeader::delete_horizon_ms`] has one.
    pub base_timestamp: i64,
    /// Largest timestamp of the records in milliseconds, or the time of append.
    pub max_timestamp: i64,
    /// Idempotent producer, -1 if none.
    pub producer_id: i64,
    /// Epoch of the producer, -1 if none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 if none.
    pub base_sequence: i32,
    /// Number of records present.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, of which only the first [`BATCH_HEADER_LEN`] need
    /// to be there. The CRC is not verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(mut head) = bytes.get(..BATCH_HEADER_LEN) else {
            return Err(BatchError::Truncated {
                needed: BATCH_HEADER_LEN,
                available: bytes.len(),
            });
        };
        let header = Self {
            base_offset: head.get_i64(),
            batch_length: head.get_i32(),
            partition_leader_epoch: head.get_i32(),
            magic: head.get_i8(),
            crc: head.get_u32(),
            attributes: head.get_i16(),
            last_offset_delta: head.get_i32(),
            base_timestamp: head.get_i64(),
            max_timestamp: head.get_i64(),
            producer_id: head.get_i64(),
            producer_epoch: head.get_i16(),
            base_sequence: head.get_i32(),
            record_count: head.get_i32(),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(self.magic));
        }
        let invalid = |field, value| Err(BatchError::InvalidField { field, value });
        if self.batch_length < (BATCH_HEADER_LEN - LENGTH_PREFIX_LEN) as i32 {
            return invalid("batch_length", self.batch_length.into());
        }
        if self.last_offset_delta < 0 {
            return invalid("last_offset_delta", self.last_offset_delta.into());
        }
        let base_offset_max = i64::MAX - 1 - i64::from(self.last_offset_delta);
        if self.base_offset < 0 || self.base_offset > base_offset_max {
            return invalid("base_offset", self.base_offset);
        }
        if self.record_count < 0 || self.record_count - 1 > self.last_offset_delta {
            return invalid("record_count", self.record_count.into());
        }
        if Compression::from_id(self.attributes & COMPRESSION_MASK).is_none() {
            return invalid("attributes", self.attributes.into());
        }
        Ok(())
    }

    /// Appends the 61 bytes of this header as they are, the CRC included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
    }

    /// Bytes of the whole batch, this header included.
    pub fn total_len(&self) -> usize {
        LENGTH_PREFIX_LEN + self.batch_length as usize
    }

    /// Offset of the last record the batch was written with.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Sequence number of the last record, -1 if the producer is not idempotent. Sequence numbers
    /// wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum % (i64::from(i32::MAX) + 1)) as i32
    }

    /// Codec of the records.
    pub fn compression(&self) -> Compression {
        Compression::from_id(self.attributes & COMPRESSION_MASK).unwrap_or(Compression::None)
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the records are control records, which consumers skip.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When tombstones of this batch may be removed, once compaction has decided it (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// Attributes of a new batch.
pub(super) fn attributes(
    compression: Compression,
    timestamp_type: TimestampType,
    flags: BatchFlags,
) -> i16 {
    let timestamp = match timestamp_type {
        TimestampType::CreateTime => 0,
        TimestampType::LogAppendTime => LOG_APPEND_TIME,
    };
    let transactional = if flags.transactional {
        TRANSACTIONAL
    } else {
        0
    };
    let control = if flags.control { CONTROL } else { 0 };
    compression.id() | timestamp | transactional | control
}

/// Flags of a new batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BatchFlags {
    pub(super) transactional: bool,
    pub(super) control: bool,
}

/// Checks the CRC of the batch at the start of `batch`; bytes after it are ignored.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let whole = whole_batch(&header, batch)?;
    let computed = crc32c::crc32c(&whole[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(BatchError::CrcMismatch {
            stored: header.crc,
            computed,
        });
    }
    Ok(())
}

pub(super) fn whole_batch<'a>(
    header: &BatchHeader,
    bytes: &'a [u8],
) -> Result<&'a [u8], BatchError> {
    bytes
        .get(..header.total_len())
        .ok_or_else(|| BatchError::Truncated {
            needed: header.total_len(),
            available: bytes.len(),
        })
}

/// Sets the base offset of a batch. It lies outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a batch header.
pub fn patch_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
}

/// Sets the partition leader epoch of a batch. It lies outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a batch header.
pub fn patch_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Turns a batch into one with [`TimestampType::LogAppendTime`] and the given time of append in
/// milliseconds, and computes its CRC anew. `batch` is exactly one batch.
///
/// # Panics
/// If `batch` is shorter than a batch header.
pub fn patch_max_timestamp_log_append(batch: &mut [u8], max_timestamp: i64) {
    let attributes =
        i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]) | LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    patch_crc(batch);
}

/// Computes the CRC of exactly one batch and stores it.
pub(super) fn patch_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

/// Walks the batches that lie one after the other in `bytes`. Ends after the first error;
/// [`BatchError::Truncated`] says that the last batch is not there to its end. CRCs are not
/// verified.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterator of [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = BatchHeader::parse(self.rest)
            .and_then(|header| Ok((header, whole_batch(&header, self.rest)?)));
        self.rest = match parsed {
            Ok((_, batch)) => &self.rest[batch.len()..],
            Err(_) => &[],
        };
        Some(parsed)
    }
}

#[cfg(test)]
mod tests;
