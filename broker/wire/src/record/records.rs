//! The records inside one batch.
//!
//! ```text
//! length varint, attributes i8, timestamp_delta varlong, offset_delta varint,
//! key_length varint (-1 = null), key, value_length varint (-1 = null), value,
//! header_count varint, per header: key_length varint, key, value_length varint (-1 = null), value
//! ```
//!
//! Only this far are records ever parsed: the produce and fetch paths stay with the batch header.

use std::borrow::Cow;

use super::batch::{BATCH_HEADER_LEN, BatchError, BatchHeader, TimestampType, whole_batch};
use super::compression::{Compression, CompressionError, decompress};
use crate::varint;

/// Why the records of a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The batch itself is invalid.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record's lengths or varints contradict the bytes that are there.
    #[error("record {index} of the batch is malformed")]
    Malformed {
        /// Position of the record in the batch.
        index: i32,
    },
    /// Bytes follow the last record.
    #[error("{0} bytes follow the last record of the batch")]
    TrailingBytes(usize),
}

/// One batch, decompressed if need be.
#[derive(Debug, Clone)]
pub struct RecordBatch<'a> {
    header: BatchHeader,
    payload: Cow<'a, [u8]>,
}

impl<'a> RecordBatch<'a> {
    /// Opens the batch at the start of `batch`; bytes after it are ignored. Compressed records
    /// are expanded into at most `decompressed_len_max` bytes. The CRC is not verified.
    pub fn open(batch: &'a [u8], decompressed_len_max: usize) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(batch)?;
        let records = &whole_batch(&header, batch)?[BATCH_HEADER_LEN..];
        let payload = match header.compression() {
            Compression::None => Cow::Borrowed(records),
            codec => Cow::Owned(decompress(codec, records, decompressed_len_max)?),
        };
        Ok(Self { header, payload })
    }

    /// Header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records in order. After the first error the iterator ends.
    pub fn records(&self) -> Records<'_> {
        Records {
            header: self.header,
            rest: &self.payload,
            index: 0,
        }
    }
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: RecordHeaders<'a>,
}

/// Header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Name. Kafka's clients write UTF-8, brokers do not check.
    pub key: &'a [u8],
    /// Value, if any.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, known to be well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    count: i32,
    bytes: &'a [u8],
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        read_header(&mut self.bytes)
    }
}

/// Kind of a control record (KIP-98): how a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ControlRecordType {
    /// The transaction's records are to be skipped.
    Abort = 0,
    /// The transaction's records are valid.
    Commit = 1,
}

impl ControlRecordType {
    /// Reads the key of a record of a control batch; `None` if it is of another kind.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let kind = key.get(2..4)?;
        match i16::from_be_bytes([kind[0], kind[1]]) {
            0 => Some(Self::Abort),
            1 => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Iterator of [`RecordBatch::records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    index: i32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count {
            let trailing = std::mem::take(&mut self.rest).len();
            return (trailing > 0).then_some(Err(RecordError::TrailingBytes(trailing)));
        }
        let index = self.index;
        self.index += 1;
        let record = read_record(&self.header, &mut self.rest);
        if record.is_none() {
            self.index = self.header.record_count;
            self.rest = &[];
        }
        Some(record.ok_or(RecordError::Malformed { index }))
    }
}

fn read_record<'a>(header: &BatchHeader, input: &mut &'a [u8]) -> Option<Record<'a>> {
    let len = usize::try_from(varint::read_i32(input)?).ok()?;
    let (mut body, rest) = input.split_at_checked(len)?;
    *input = rest;
    let (_attributes, after_attributes) = body.split_first()?;
    body = after_attributes;
    let timestamp_delta = varint::read_i64(&mut body)?;
    let offset_delta = varint::read_i32(&mut body)?;
    if !(0..=header.last_offset_delta).contains(&offset_delta) {
        return None;
    }
    let key = read_nullable(&mut body)?;
    let value = read_nullable(&mut body)?;
    let headers = read_headers(&mut body)?;
    if !body.is_empty() {
        return None;
    }
    let timestamp = match header.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let offset = header.base_offset + i64::from(offset_delta);
    Some(Record {
        offset,
        timestamp,
        key,
        value,
        headers,
    })
}

fn read_headers<'a>(body: &mut &'a [u8]) -> Option<RecordHeaders<'a>> {
    let count = varint::read_i32(body)?;
    if count < 0 {
        return None;
    }
    let bytes = *body;
    for _ in 0..count {
        read_header(body)?;
    }
    Some(RecordHeaders { count, bytes })
}

fn read_header<'a>(body: &mut &'a [u8]) -> Option<RecordHeader<'a>> {
    let key = read_nullable(body)??;
    let value = read_nullable(body)?;
    Some(RecordHeader { key, value })
}

/// Outer `None`: malformed; inner `None`: null.
fn read_nullable<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::read_i32(body)?;
    if len == -1 {
        return Some(None);
    }
    let (value, rest) = body.split_at_checked(usize::try_from(len).ok()?)?;
    *body = rest;
    Some(Some(value))
}
