//! Encodes a new record batch: for coordinators, transaction markers, compaction and load
//! generators. What producers send is never re-encoded.

use bytes::{BufMut, Bytes};

use super::batch::{
    BATCH_HEADER_LEN, BatchFlags, BatchHeader, TimestampType, attributes, patch_crc,
};
use super::compression::{Compression, CompressionError, compress};
use super::records::{ControlRecordType, RecordBatch, RecordError, RecordHeader};
use crate::varint;

/// More than a control record takes.
const CONTROL_BYTES_MAX: usize = 4096;

/// Why a batch cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The records do not fit the 32-bit length of a batch.
    #[error("batch of {0} bytes exceeds the format's 2 GiB")]
    TooLarge(usize),
    /// The codec failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// A record to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [RecordHeader<'a>],
}

/// Collects records and encodes them as one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    flags: BatchFlags,
    records: Vec<u8>,
    /// Body of the record being encoded; kept for its allocation.
    body: Vec<u8>,
}

impl BatchBuilder {
    /// A batch whose first record has this offset; producers send 0.
    pub fn new(base_offset: i64) -> Self {
        Self {
            header: BatchHeader {
                base_offset,
                batch_length: 0,
                partition_leader_epoch: -1,
                magic: 2,
                crc: 0,
                attributes: 0,
                last_offset_delta: -1,
                base_timestamp: 0,
                max_timestamp: -1,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                record_count: 0,
            },
            compression: Compression::None,
            flags: BatchFlags::default(),
            records: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Compresses the records.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the epoch of the leader that appends the batch.
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// Makes the batch one of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of its producer's transaction.
    pub fn transactional(mut self) -> Self {
        self.flags.transactional = true;
        self
    }

    /// Appends a record at the next offset.
    pub fn append(&mut self, record: &NewRecord<'_>) {
        self.append_at_delta(self.header.last_offset_delta + 1, record);
    }

    /// Appends a record at an offset that leaves a gap, as compaction does.
    ///
    /// # Panics
    /// If `offset` is not beyond all offsets of the batch so far, or 2³¹ beyond the base offset.
    pub fn append_at(&mut self, offset: i64, record: &NewRecord<'_>) {
        let delta = i32::try_from(offset - self.header.base_offset).expect("offset in batch");
        assert!(
            delta > self.header.last_offset_delta,
            "offsets of a batch must increase"
        );
        self.append_at_delta(delta, record);
    }

    fn append_at_delta(&mut self, offset_delta: i32, record: &NewRecord<'_>) {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = record.timestamp;
        }
        header.last_offset_delta = offset_delta;
        header.max_timestamp = header.max_timestamp.max(record.timestamp);
        header.record_count += 1;

        put_record(
            &mut self.records,
            &mut self.body,
            &self.header,
            offset_delta,
            record,
        );
    }

    /// Number of records so far.
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Bytes of the batch so far, before compression.
    pub fn len(&self) -> usize {
        BATCH_HEADER_LEN + self.records.len()
    }

    /// Whether no record was appended.
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Encodes the batch. An empty one is valid: it keeps its base offset (one past it is next).
    pub fn build(mut self) -> Result<Bytes, BuildError> {
        let mut batch = Vec::with_capacity(self.len());
        batch.resize(BATCH_HEADER_LEN, 0);
        compress(self.compression, &self.records, &mut batch)?;
        self.header.batch_length =
            i32::try_from(batch.len() - 12).map_err(|_| BuildError::TooLarge(batch.len()))?;
        self.header.attributes =
            attributes(self.compression, TimestampType::CreateTime, self.flags);
        self.header.last_offset_delta = self.header.last_offset_delta.max(0);
        let mut head = Vec::with_capacity(BATCH_HEADER_LEN);
        self.header.write(&mut head);
        batch[..BATCH_HEADER_LEN].copy_from_slice(&head);
        patch_crc(&mut batch);
        Ok(batch.into())
    }
}

/// The marker that ends a transaction (KIP-98), a control batch of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether the transaction is committed or aborted.
    pub kind: ControlRecordType,
    /// The transaction's producer.
    pub producer_id: i64,
    /// Epoch of the producer.
    pub producer_epoch: i16,
    /// Epoch of the transaction coordinator that writes the marker.
    pub coordinator_epoch: i32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
}

impl EndTransactionMarker {
    /// Reads the marker in a batch; `None` for a batch of another kind.
    ///
    /// # Errors
    /// [`RecordError`] when the control record is not what [`EndTransactionMarker::build`] writes.
    pub fn read(batch: &[u8]) -> Result<Option<Self>, RecordError> {
        let header = BatchHeader::parse(batch)?;
        if !header.is_control() || !header.is_transactional() {
            return Ok(None);
        }
        let opened = RecordBatch::open(batch, CONTROL_BYTES_MAX)?;
        let Some(record) = opened.records().next().transpose()? else {
            // Compaction keeps the last batch of a producer without its records.
            return Ok(None);
        };
        let kind = record.key.and_then(ControlRecordType::from_key);
        let epoch = record.value.and_then(|value| value.get(2..6));
        let epoch = epoch.and_then(|epoch| epoch.try_into().ok());
        Ok(kind.zip(epoch).map(|(kind, epoch)| Self {
            kind,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            coordinator_epoch: i32::from_be_bytes(epoch),
            timestamp: record.timestamp,
        }))
    }

    /// Encodes the control batch at this offset.
    pub fn build(&self, base_offset: i64) -> Result<Bytes, BuildError> {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&(self.kind as i16).to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(base_offset)
            .producer(self.producer_id, self.producer_epoch, -1)
            .transactional();
        builder.flags.control = true;
        builder.append(&NewRecord {
            timestamp: self.timestamp,
            key: Some(&key),
            value: Some(&value),
            headers: &[],
        });
        builder.build()
    }
}

/// Encodes one record of the batch with this header. `body` is room to work in.
pub(super) fn put_record(
    records: &mut Vec<u8>,
    body: &mut Vec<u8>,
    header: &BatchHeader,
    offset_delta: i32,
    record: &NewRecord<'_>,
) {
    body.clear();
    body.put_i8(0);
    varint::write_i64(body, record.timestamp.wrapping_sub(header.base_timestamp));
    varint::write_i32(body, offset_delta);
    put_nullable(body, record.key);
    put_nullable(body, record.value);
    varint::write_i32(body, record.headers.len() as i32);
    for header in record.headers {
        put_nullable(body, Some(header.key));
        put_nullable(body, header.value);
    }
    varint::write_i32(records, body.len() as i32);
    records.extend_from_slice(body);
}

fn put_nullable(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            varint::write_i32(out, value.len() as i32);
            out.extend_from_slice(value);
        }
        None => varint::write_i32(out, -1),
    }
}
