//! Kafka's record formats of `__transaction_state`, so that Kafka's tools can read them. Numbers are big
//! endian; in the value, lengths are unsigned varints of one more than the length.
//!
//! ```text
//! key 0     version i16, transactional_id string (i16 length)
//! value 1   version i16, producer_id i64, producer_epoch i16, timeout_ms i32, state i8,
//!           partitions?: topic string, partition indexes i32, no tagged fields;
//!           updated_at i64, started_at i64, tagged: 0 previous_producer_id i64,
//!           1 next_producer_id i64, 2 client_version i16, 100 last_producer_epoch i16 (Klamm's)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::transaction::{
    State, TransactionMetadata, TransactionRecord, TransactionTopicPartition,
};
use broker_core::{Duration, PartitionIndex, ProducerEpoch, ProducerId, Timestamp};
use broker_wire::record::{BatchBuilder, NewRecord};
use broker_wire::varint;
use bytes::{Buf, BufMut, Bytes};

use crate::clock;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;
const NEXT_PRODUCER_ID_TAG: u32 = 1;
const CLIENT_VERSION_TAG: u32 = 2;
const LAST_PRODUCER_EPOCH_TAG: u32 = 100;

/// Why a record of `__transaction_state` cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("the record ends too early")]
    Truncated,
    #[error("a text is not UTF-8, or null where it must not be")]
    Text,
    #[error("state {0} is unknown")]
    State(i8),
    #[error("value version {0} is not known to this broker")]
    Version(i16),
}

/// A batch of one record.
pub(super) fn batch(record: &TransactionRecord) -> Bytes {
    let key = encode_key(&record.id);
    let value = record.value.as_ref().map(encode_value);
    let mut builder = BatchBuilder::new(0);
    builder.append(&NewRecord {
        timestamp: clock::timestamp().0,
        key: Some(&key),
        value: value.as_deref(),
        headers: &[],
    });
    builder
        .build()
        .expect("a record of bounded size makes a batch")
}

fn encode_key(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(KEY_VERSION);
    out.put_i16(i16::try_from(id.len()).expect("ids are bounded"));
    out.put_slice(id.as_bytes());
    out
}

fn encode_value(metadata: &TransactionMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(VALUE_VERSION);
    out.put_i64(metadata.producer_id.0);
    out.put_i16(metadata.producer_epoch.0);
    out.put_i32(i32::try_from(metadata.timeout.as_millis()).unwrap_or(i32::MAX));
    out.put_i8(metadata.state as i8);
    put_partitions(&mut out, metadata);
    out.put_i64(metadata.updated_at.0);
    out.put_i64(metadata.started_at.0);
    put_tagged(&mut out, metadata);
    out
}

/// Null for what has no partitions by its nature, as Kafka writes it.
fn put_partitions(out: &mut Vec<u8>, metadata: &TransactionMetadata) {
    if metadata.state == State::Empty {
        varint::write_u32(out, 0);
        return;
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &metadata.partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    put_len(out, topics.len());
    for (topic, partitions) in topics {
        put_len(out, topic.len());
        out.put_slice(topic.as_bytes());
        put_len(out, partitions.len());
        partitions.into_iter().for_each(|index| out.put_i32(index));
        varint::write_u32(out, 0);
    }
}

fn put_tagged(out: &mut Vec<u8>, metadata: &TransactionMetadata) {
    let mut fields: Vec<(u32, Vec<u8>)> = Vec::new();
    let ids = [
        (PREVIOUS_PRODUCER_ID_TAG, metadata.previous_producer_id),
        (NEXT_PRODUCER_ID_TAG, metadata.next_producer_id),
    ];
    for (tag, id) in ids {
        if id != ProducerId::NONE {
            fields.push((tag, id.0.to_be_bytes().to_vec()));
        }
    }
    if metadata.client_version != 0 {
        let version = metadata.client_version.to_be_bytes();
        fields.push((CLIENT_VERSION_TAG, version.to_vec()));
    }
    if metadata.last_producer_epoch != ProducerEpoch::NONE {
        let epoch = metadata.last_producer_epoch.0.to_be_bytes();
        fields.push((LAST_PRODUCER_EPOCH_TAG, epoch.to_vec()));
    }
    varint::write_u32(out, fields.len() as u32);
    for (tag, bytes) in fields {
        varint::write_u32(out, tag);
        varint::write_u32(out, bytes.len() as u32);
        out.put_slice(&bytes);
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    varint::write_u32(
        out,
        u32::try_from(len).expect("the coordinator bounds transactions") + 1,
    );
}

/// Decodes a record. `None`: a kind that this broker does not know.
///
/// # Errors
/// [`DecodeError`].
pub(super) fn decode(
    mut key: &[u8],
    value: Option<&[u8]>,
) -> Result<Option<TransactionRecord>, DecodeError> {
    if key.try_get_i16().map_err(|_| DecodeError::Truncated)? != KEY_VERSION {
        return Ok(None);
    }
    let len = key.try_get_i16().map_err(|_| DecodeError::Truncated)?;
    let len = usize::try_from(len).map_err(|_| DecodeError::Text)?;
    let id = text(key.get(..len).ok_or(DecodeError::Truncated)?)?;
    Ok(Some(TransactionRecord {
        id,
        value: value.map(|value| Reader(value).metadata()).transpose()?,
    }))
}

fn text(bytes: &[u8]) -> Result<Arc<str>, DecodeError> {
    std::str::from_utf8(bytes)
        .map(Arc::from)
        .map_err(|_| DecodeError::Text)
}

/// The bytes of a value that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn metadata(mut self) -> Result<TransactionMetadata, DecodeError> {
        let version = self.i16()?;
        if version != VALUE_VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut metadata = TransactionMetadata {
            producer_id: ProducerId(self.i64()?),
            producer_epoch: ProducerEpoch(self.i16()?),
            timeout: Duration::from_millis(u64::try_from(self.i32()?).unwrap_or(0)),
            state: self.state()?,
            partitions: self.partitions()?,
            updated_at: Timestamp(self.i64()?),
            started_at: Timestamp(self.i64()?),
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            last_producer_epoch: ProducerEpoch::NONE,
            client_version: 0,
        };
        for _ in 0..self.varint()? {
            let (tag, len) = (self.varint()?, self.varint()?);
            let mut field = Reader(self.take(len as usize)?);
            match tag {
                PREVIOUS_PRODUCER_ID_TAG => {
                    metadata.previous_producer_id = ProducerId(field.i64()?);
                }
                NEXT_PRODUCER_ID_TAG => metadata.next_producer_id = ProducerId(field.i64()?),
                CLIENT_VERSION_TAG => metadata.client_version = field.i16()?,
                LAST_PRODUCER_EPOCH_TAG => {
                    metadata.last_producer_epoch = ProducerEpoch(field.i16()?);
                }
                _ => {}
            }
        }
        Ok(metadata)
    }

    fn state(&mut self) -> Result<State, DecodeError> {
        let value = self.i8()?;
        State::from_value(value).ok_or(DecodeError::State(value))
    }

    fn partitions(&mut self) -> Result<BTreeSet<TransactionTopicPartition>, DecodeError> {
        let mut partitions = BTreeSet::new();
        for _ in 1..self.varint()? {
            let len = self.varint()?.checked_sub(1).ok_or(DecodeError::Text)?;
            let topic = text(self.take(len as usize)?)?;
            for _ in 1..self.varint()? {
                partitions.insert((Arc::clone(&topic), PartitionIndex(self.i32()?)));
            }
            for _ in 0..self.varint()? {
                self.varint()?;
                let len = self.varint()?;
                self.take(len as usize)?;
            }
        }
        Ok(partitions)
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        varint::read_u32(&mut self.0).ok_or(DecodeError::Truncated)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn i8(&mut self) -> Result<i8, DecodeError> {
        self.0.try_get_i8().map_err(|_| DecodeError::Truncated)
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.0.try_get_i16().map_err(|_| DecodeError::Truncated)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.0.try_get_i32().map_err(|_| DecodeError::Truncated)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.0.try_get_i64().map_err(|_| DecodeError::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> TransactionMetadata {
        TransactionMetadata {
            producer_id: ProducerId(7),
            previous_producer_id: ProducerId(6),
            next_producer_id: ProducerId(8),
            producer_epoch: ProducerEpoch(2),
            last_producer_epoch: ProducerEpoch(1),
            timeout: Duration::from_millis(60_000),
            state: State::Ongoing,
            partitions: BTreeSet::from([
                ("t".into(), PartitionIndex(1)),
                ("t".into(), PartitionIndex(2)),
                ("u".into(), PartitionIndex(0)),
            ]),
            updated_at: Timestamp(258),
            started_at: Timestamp(257),
            client_version: 2,
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        let metadata = TransactionMetadata {
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            last_producer_epoch: ProducerEpoch::NONE,
            partitions: BTreeSet::from([("t".into(), PartitionIndex(1))]),
            ..metadata()
        };
        assert_eq!(encode_key("id"), b"\0\0\0\x02id");
        let mut expected = b"\0\x01\0\0\0\0\0\0\0\x07\0\x02\0\0\xea\x60\x01".to_vec();
        expected.extend(b"\x02\x02t\x02\0\0\0\x01\0");
        expected.extend(b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x01\x01");
        expected.extend(b"\x01\x02\x02\0\x02");
        assert_eq!(encode_value(&metadata), expected);
    }

    #[test]
    fn records_survive_and_truncated_ones_are_refused() {
        let key = encode_key("id");
        let empty = TransactionMetadata {
            state: State::Empty,
            partitions: BTreeSet::new(),
            ..metadata()
        };
        for metadata in [metadata(), empty] {
            let value = encode_value(&metadata);
            let record = TransactionRecord {
                id: "id".into(),
                value: Some(metadata),
            };
            assert_eq!(decode(&key, Some(&value)), Ok(Some(record)));
            for len in 0..value.len() {
                assert!(decode(&key, Some(&value[..len])).is_err(), "cut at {len}");
            }
        }
        assert_eq!(decode(&key[..3], None), Err(DecodeError::Truncated));
        assert_eq!(decode(&key, Some(b"\0\x09")), Err(DecodeError::Version(9)));
        let tombstone = decode(&key, None).unwrap().unwrap();
        assert_eq!(tombstone.value, None);
    }
}
