//! Batches written by ours and read by `kafka-protocol`, and the other way round, in every codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;

use super::*;

const LEN_MAX: usize = 1 << 20;

const CODECS: [(Compression, theirs::Compression); 5] = [
    (Compression::None, theirs::Compression::None),
    (Compression::Gzip, theirs::Compression::Gzip),
    (Compression::Snappy, theirs::Compression::Snappy),
    (Compression::Lz4, theirs::Compression::Lz4),
    (Compression::Zstd, theirs::Compression::Zstd),
];

/// Timestamp, key and value of 200 records; long enough for several xerial blocks.
fn contents() -> Vec<(i64, Option<Bytes>, Option<Bytes>)> {
    let content = |index: i64| {
        let key = (index % 3 != 0).then(|| Bytes::from(format!("key-{index}")));
        let value = (index % 7 != 0).then(|| Bytes::from(format!("{index} ").repeat(80)));
        (1_700_000_000_000 + index * 13, key, value)
    };
    (0..200).map(content).collect()
}

#[test]
fn theirs_reads_what_ours_builds() {
    for (codec, their_codec) in CODECS {
        let mut builder = BatchBuilder::new(0)
            .compression(codec)
            .producer(9, 2, 100)
            .transactional();
        let headers = [
            RecordHeader {
                key: b"a",
                value: Some(b"1"),
            },
            RecordHeader {
                key: b"b",
                value: None,
            },
        ];
        for (timestamp, key, value) in &contents() {
            builder.append(&NewRecord {
                timestamp: *timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            });
        }
        let mut batch = builder.build().unwrap();
        let set = theirs::RecordBatchDecoder::decode(&mut batch).unwrap();
        assert_eq!(set.compression, their_codec);
        assert_eq!(set.records.len(), contents().len());
        for (index, (record, content)) in set.records.iter().zip(contents()).enumerate() {
            assert_eq!(
                (record.offset, record.sequence),
                (index as i64, 100 + index as i32)
            );
            assert_eq!((record.producer_id, record.producer_epoch), (9, 2));
            assert!(record.transactional && !record.control);
            let read = (record.timestamp, record.key.clone(), record.value.clone());
            assert_eq!(read, content);
            assert_eq!(record.headers[&b"a"[..]], Some(Bytes::from_static(b"1")));
            assert_eq!(record.headers[&b"b"[..]], None);
        }
    }
}

#[test]
fn ours_reads_what_theirs_builds() {
    for (codec, their_codec) in CODECS {
        let written: Vec<_> = contents()
            .into_iter()
            .enumerate()
            .map(|(index, (timestamp, key, value))| theirs::Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 4,
                producer_id: 9,
                producer_epoch: 2,
                timestamp_type: theirs::TimestampType::Creation,
                offset: index as i64,
                sequence: index as i32,
                timestamp,
                key,
                value,
                headers: [(StrBytes::from_static_str("a"), None)]
                    .into_iter()
                    .collect(),
            })
            .collect();
        let options = theirs::RecordEncodeOptions {
            version: 2,
            compression: their_codec,
        };
        let mut log = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut log, &written, &options).unwrap();

        let mut read = Vec::new();
        for batch in batches(&log) {
            let (header, batch) = batch.unwrap();
            verify_crc(batch).unwrap();
            assert_eq!(header.compression(), codec);
            assert_eq!((header.producer_id, header.partition_leader_epoch), (9, 4));
            let opened = RecordBatch::open(batch, LEN_MAX).unwrap();
            for record in opened.records().map(Result::unwrap) {
                assert_eq!(record.offset, read.len() as i64);
                assert_eq!(record.headers.count(), 1);
                let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
                read.push((record.timestamp, owned(record.key), owned(record.value)));
            }
        }
        assert_eq!(read, contents());
    }
}
