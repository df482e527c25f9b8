use proptest::prelude::*;

use super::*;
use crate::record::{
    BatchBuilder, ControlRecordType, EndTransactionMarker, NewRecord, RecordBatch, RecordHeader,
};

const DECOMPRESSED_LEN_MAX: usize = 1 << 20;

fn batch_at(base_offset: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base_offset)
        .producer(7, 1, 40)
        .leader_epoch(3);
    let headers = [RecordHeader {
        key: b"trace",
        value: None,
    }];
    for timestamp in [1000, 1010, 990] {
        builder.append(&NewRecord {
            timestamp,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &headers,
        });
    }
    builder.build().unwrap().into()
}

#[test]
fn header_tells_what_was_built() {
    let header = BatchHeader::parse(&batch_at(100)).unwrap();
    assert_eq!(header.total_len(), batch_at(100).len());
    assert_eq!(
        (
            header.base_offset,
            header.last_offset(),
            header.next_offset()
        ),
        (100, 102, 103)
    );
    assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1010));
    assert_eq!((header.producer_id, header.producer_epoch), (7, 1));
    assert_eq!((header.base_sequence, header.last_sequence()), (40, 42));
    assert_eq!(header.partition_leader_epoch, 3);
    assert_eq!(header.compression(), Compression::None);
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert!(!header.is_transactional() && !header.is_control());
    assert_eq!(header.delete_horizon_ms(), None);
}

#[test]
fn sequences_wrap_to_zero() {
    let mut builder = BatchBuilder::new(0).producer(1, 0, i32::MAX - 1);
    for _ in 0..4 {
        builder.append(&NewRecord::default());
    }
    let header = BatchHeader::parse(&builder.build().unwrap()).unwrap();
    assert_eq!(header.last_sequence(), 1);
}

#[test]
fn offset_and_epoch_are_patched_outside_the_crc() {
    let mut batch = batch_at(0);
    patch_base_offset(&mut batch, 5_000_000_000);
    patch_leader_epoch(&mut batch, 9);
    verify_crc(&batch).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    assert_eq!(
        (header.base_offset, header.partition_leader_epoch),
        (5_000_000_000, 9)
    );
    assert_eq!(header.record_count, 3);
}

#[test]
fn log_append_time_holds_for_every_record() {
    let mut batch = batch_at(0);
    patch_max_timestamp_log_append(&mut batch, 77_000);
    verify_crc(&batch).unwrap();
    let opened = RecordBatch::open(&batch, 0).unwrap();
    assert_eq!(
        opened.header().timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(
        opened
            .records()
            .all(|record| record.unwrap().timestamp == 77_000)
    );
    assert_eq!(opened.records().count(), 3);
}

#[test]
fn every_flipped_byte_after_the_crc_is_noticed() {
    let batch = batch_at(0);
    for at in CRC_AT..batch.len() {
        let mut flipped = batch.clone();
        flipped[at] ^= 1;
        assert!(verify_crc(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn invalid_headers_are_refused() {
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = batch_at(0);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        BatchHeader::parse(&batch).unwrap_err()
    };
    let field = |error| match error {
        BatchError::InvalidField { field, .. } => field,
        error => panic!("{error}"),
    };
    assert_eq!(with(16, &[1]), BatchError::UnsupportedMagic(1));
    assert_eq!(field(with(8, &48i32.to_be_bytes())), "batch_length");
    assert_eq!(field(with(8, &(-1i32).to_be_bytes())), "batch_length");
    assert_eq!(field(with(0, &(-1i64).to_be_bytes())), "base_offset");
    assert_eq!(field(with(0, &i64::MAX.to_be_bytes())), "base_offset");
    assert_eq!(field(with(23, &(-1i32).to_be_bytes())), "last_offset_delta");
    assert_eq!(field(with(57, &(-1i32).to_be_bytes())), "record_count");
    assert_eq!(field(with(57, &4i32.to_be_bytes())), "record_count");
    assert_eq!(field(with(21, &7i16.to_be_bytes())), "attributes");
}

#[test]
fn batches_stop_at_a_torn_tail() {
    let mut log = batch_at(0);
    log.extend_from_slice(&batch_at(3));
    let whole_len = log.len();
    log.extend_from_slice(&batch_at(6));
    for len in whole_len..log.len() {
        let found: Vec<_> = batches(&log[..len]).collect();
        let whole: Vec<_> = found
            .iter()
            .flatten()
            .map(|(header, _)| header.base_offset)
            .collect();
        assert_eq!(whole, [0, 3]);
        if len == whole_len {
            assert_eq!(found.len(), 2);
        } else {
            assert!(matches!(found[2], Err(BatchError::Truncated { .. })));
            assert_eq!(found.len(), 3);
        }
    }
}

#[test]
fn truncated_records_are_errors_at_every_length() {
    let batch = batch_at(0);
    for len in BATCH_HEADER_LEN..batch.len() {
        let mut torn = batch[..len].to_vec();
        torn[8..12].copy_from_slice(&(len as i32 - 12).to_be_bytes());
        let opened = RecordBatch::open(&torn, 0).unwrap();
        assert!(
            opened.records().any(|record| record.is_err()),
            "length {len}"
        );
    }
}

#[test]
fn end_transaction_marker_is_a_control_batch() {
    let marker = EndTransactionMarker {
        kind: ControlRecordType::Commit,
        producer_id: 5,
        producer_epoch: 2,
        coordinator_epoch: 8,
        timestamp: 1,
    };
    let batch = marker.build(10).unwrap();
    verify_crc(&batch).unwrap();
    let opened = RecordBatch::open(&batch, 0).unwrap();
    assert!(opened.header().is_control() && opened.header().is_transactional());
    let record = opened.records().next().unwrap().unwrap();
    assert_eq!(
        ControlRecordType::from_key(record.key.unwrap()),
        Some(ControlRecordType::Commit)
    );
    assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 8][..]));
    assert_eq!(record.offset, 10);
}

type OwnedRecord = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let headers = proptest::collection::vec((any_bytes(), proptest::option::of(any_bytes())), 0..3);
    let nullable = || proptest::option::of(any_bytes());
    (0..i64::MAX, nullable(), nullable(), headers)
}

fn any_compression() -> impl Strategy<Value = Compression> {
    (0..5i16).prop_map(|id| Compression::from_id(id).unwrap())
}

proptest! {
    #[test]
    fn records_round_trip(
        records in proptest::collection::vec((1..1000i64, any_record()), 1..30),
        compression in any_compression(),
    ) {
        let mut builder = BatchBuilder::new(50).compression(compression);
        let mut offset = 50;
        let mut offsets = Vec::new();
        for (gap, (timestamp, key, value, headers)) in &records {
            offset += gap;
            offsets.push(offset);
            let headers: Vec<_> = headers
                .iter()
                .map(|(key, value)| RecordHeader { key, value: value.as_deref() })
                .collect();
            builder.append_at(offset, &NewRecord {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            });
        }
        let batch = builder.build().unwrap();
        verify_crc(&batch).unwrap();
        let opened = RecordBatch::open(&batch, DECOMPRESSED_LEN_MAX).unwrap();
        let read: Vec<_> = opened.records().map(Result::unwrap).collect();
        prop_assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets);
        for (read, (_, written)) in read.iter().zip(&records) {
            let headers = read.headers
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect();
            let read = (
                read.timestamp,
                read.key.map(<[u8]>::to_vec),
                read.value.map(<[u8]>::to_vec),
                headers,
            );
            prop_assert_eq!(&read, written);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for magic in [None, Some(2)] {
            if let (Some(magic), Some(byte)) = (magic, bytes.get_mut(16)) {
                *byte = magic;
            }
            for (_, batch) in batches(&bytes).flatten() {
                if let Ok(opened) = RecordBatch::open(batch, DECOMPRESSED_LEN_MAX) {
                    prop_assert!(opened.records().count() <= opened.header().record_count as usize + 1);
                }
            }
        }
    }
}
