//! The record batches of a Produce request: what clients may send, and how batches leave the frame
//! they came in.

use std::ops::Range;

use broker_core::partition::VerificationGuard;
use broker_wire::ErrorCode;
use broker_wire::message::produce::PartitionProduceData;
use broker_wire::record::{BatchHeader, Compression, verify_crc};
use bytes::{Bytes, BytesMut};

use super::Refusal;

/// Position of a batch's magic byte, in this format and the older ones.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// First version that allows zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// A batch that passed every check that needs no partition.
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    /// Where in the frame it lies.
    pub(super) range: Range<usize>,
    /// Of the verification that lets it begin a transaction.
    pub(super) guard: Option<VerificationGuard>,
}

/// Checks what a client may send: exactly one whole, undamaged batch of data records.
pub(super) fn check(
    data: &PartitionProduceData,
    version: i16,
    transactional: bool,
    frame: &Bytes,
) -> Result<Batch, Refusal> {
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::InvalidRecord, message));
    let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else {
        return refuse("a partition needs exactly one record batch");
    };
    if records.get(MAGIC_AT).is_some_and(|magic| *magic < MAGIC) {
        let message =
            "message formats before v2 are not supported; use a client of Kafka 0.11 or later";
        return Err(Refusal::new(
            ErrorCode::UnsupportedForMessageFormat,
            message,
        ));
    }
    let header = BatchHeader::parse(records)?;
    if header.total_len() != records.len() {
        return refuse("a partition needs exactly one record batch");
    }
    verify_crc(records)?;
    if header.is_transactional() && !transactional {
        return refuse("a batch of a transaction needs a request with a transactional id");
    }
    if header.is_control() {
        return refuse("clients may not write control records");
    }
    if header.base_offset != 0 {
        return refuse("base offset must be 0");
    }
    if header.record_count < 1 || header.record_count - 1 != header.last_offset_delta {
        return refuse("record count and last offset delta contradict each other");
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return refuse("an idempotent producer must send epoch and sequence");
    }
    if header.is_transactional() && header.producer_id < 0 {
        return refuse("a batch of a transaction needs a producer id");
    }
    if header.compression() == Compression::Zstd && version < ZSTD_VERSION_MIN {
        let message = "zstd needs Produce version 7 or later";
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    // The records are a slice of the frame.
    let start = records.as_ptr() as usize - frame.as_ptr() as usize;
    Ok(Batch {
        header,
        range: start..start + records.len(),
        guard: None,
    })
}

/// Cuts record batches out of a frame, without copying if nothing else holds the frame.
pub(super) enum FrameRecords {
    /// The rest of the frame, and where in the frame it starts.
    Owned {
        rest: BytesMut,
        start: usize,
    },
    Shared(Bytes),
}

impl FrameRecords {
    pub(super) fn new(frame: Bytes) -> Self {
        match frame.try_into_mut() {
            Ok(rest) => Self::Owned { rest, start: 0 },
            Err(frame) => Self::Shared(frame),
        }
    }

    /// The bytes at `range`. Ranges are taken in ascending order.
    pub(super) fn take(&mut self, range: Range<usize>) -> BytesMut {
        match self {
            Self::Owned { rest, start } => {
                // What lies before the range is freed with the last batch of the frame.
                drop(rest.split_to(range.start - *start));
                *start = range.end;
                rest.split_to(range.len())
            }
            Self::Shared(frame) => BytesMut::from(&frame[range]),
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_wire::record::{BatchBuilder, NewRecord};

    use super::*;

    const CRC_START: usize = 21;

    fn batch(build: impl FnOnce(BatchBuilder) -> BatchBuilder) -> Vec<u8> {
        let mut builder = build(BatchBuilder::new(0));
        for value in [b"a", b"b"] {
            builder.append(&NewRecord {
                value: Some(value),
                ..NewRecord::default()
            });
        }
        builder.build().unwrap().to_vec()
    }

    /// The code with which records are refused, their checksum being right.
    fn refused(mut records: Vec<u8>, version: i16) -> ErrorCode {
        if records.len() > CRC_START {
            let crc = crc32c(&records[CRC_START..]);
            records[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        }
        checked(records, version).map_or_else(|refusal| refusal.code, |_| ErrorCode::None)
    }

    #[test]
    fn a_transactional_batch_names_its_producer() {
        let check = |build: fn(BatchBuilder) -> BatchBuilder| {
            let frame = Bytes::from(batch(build));
            let records = Some(frame.clone());
            let data = PartitionProduceData { index: 0, records };
            check(&data, 9, true, &frame).map_err(|refusal| refusal.code)
        };
        let with_producer = check(|b| b.producer(1, 0, 5).transactional());
        assert!(with_producer.unwrap().header.is_transactional());
        let without = check(BatchBuilder::transactional);
        assert_eq!(without.err(), Some(ErrorCode::InvalidRecord));
        assert!(check(|b| b.producer(1, 0, 5)).is_ok());
    }

    fn checked(records: Vec<u8>, version: i16) -> Result<Batch, Refusal> {
        let frame = Bytes::from(records);
        let data = PartitionProduceData {
            index: 0,
            records: Some(frame.clone()),
        };
        check(&data, version, false, &frame)
    }

    /// CRC-32C, bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        })
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut batch = batch(|builder| builder);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    }

    #[test]
    fn only_one_whole_batch_of_data_records_is_accepted() {
        let good = batch(|builder| builder);
        assert_eq!(refused(good.clone(), 9), ErrorCode::None);
        assert_eq!(refused(batch(|b| b.producer(1, 0, 5)), 9), ErrorCode::None);

        let twice = [good.clone(), good.clone()].concat();
        let torn = good[..good.len() - 1].to_vec();
        for (what, records, code) in [
            ("empty", vec![], ErrorCode::InvalidRecord),
            ("two batches", twice, ErrorCode::InvalidRecord),
            ("torn", torn, ErrorCode::InvalidRecord),
            (
                "magic 1",
                with(16, &[1]),
                ErrorCode::UnsupportedForMessageFormat,
            ),
            (
                "magic 3",
                with(16, &[3]),
                ErrorCode::UnsupportedForMessageFormat,
            ),
            ("base offset", with(7, &[1]), ErrorCode::InvalidRecord),
            (
                "transactional",
                batch(BatchBuilder::transactional),
                ErrorCode::InvalidRecord,
            ),
            ("control", with(22, &[0x20]), ErrorCode::InvalidRecord),
            ("record count", with(60, &[3]), ErrorCode::InvalidRecord),
            ("gap", with(60, &[1]), ErrorCode::InvalidRecord),
            (
                "no sequence",
                batch(|b| b.producer(1, 0, -1)),
                ErrorCode::InvalidRecord,
            ),
        ] {
            assert_eq!(refused(records, 9), code, "{what}");
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let mut damaged = batch(|builder| builder);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(
            checked(damaged, 9).err().unwrap().code,
            ErrorCode::CorruptMessage
        );
    }

    #[test]
    fn zstd_needs_version_7() {
        let batch = batch(|builder| builder.compression(Compression::Zstd));
        assert_eq!(
            refused(batch.clone(), 6),
            ErrorCode::UnsupportedCompressionType
        );
        assert_eq!(refused(batch, 7), ErrorCode::None);
    }

    #[test]
    fn batches_of_one_frame_are_cut_out_without_copying() {
        let frame = BytesMut::from(&b"..aaa.bb"[..]).freeze();
        let start = frame.as_ptr() as usize;
        let mut records = FrameRecords::new(frame);
        let (first, second) = (records.take(2..5), records.take(6..8));
        assert_eq!((&first[..], &second[..]), (&b"aaa"[..], &b"bb"[..]));
        assert_eq!(first.as_ptr() as usize, start + 2);
        assert_eq!(second.as_ptr() as usize, start + 6);
    }

    #[test]
    fn batches_of_a_shared_frame_are_copied() {
        let frame = Bytes::from(b"..aaa".to_vec());
        let other = frame.clone();
        let mut first = FrameRecords::new(frame).take(2..5);
        first[0] = b'x';
        assert_eq!(&other[..], b"..aaa");
    }
}
