//! Encodes anew what log compaction keeps of a batch.
//!
//! The batch keeps its place: base offset, last offset delta, sequence numbers, producer and leader
//! epoch stay, so that offsets are found and producers recognised as before. What changes is the
//! number of records, their timestamps' base when a delete horizon is set (KIP-534), and the CRC.

use super::batch::{
    BATCH_HEADER_LEN, BatchHeader, COMPRESSION_MASK, DELETE_HORIZON, LENGTH_PREFIX_LEN,
    TimestampType, patch_crc,
};
use super::builder::{BuildError, NewRecord, put_record};
use super::compression::compress;
use super::records::Record;

/// Builds the batch that holds `kept` of the one with this header, in order.
///
/// `delete_horizon_ms` is when its tombstones may be removed, in milliseconds since the Unix epoch; a
/// horizon that the batch has already stays. A batch without records is valid: it is only a header.
///
/// # Errors
/// [`BuildError`].
pub fn rewrite<'a>(
    original: &BatchHeader,
    kept: impl Iterator<Item = Record<'a>>,
    delete_horizon_ms: Option<i64>,
) -> Result<Vec<u8>, BuildError> {
    let mut header = *original;
    if let Some(horizon) = original.delete_horizon_ms().or(delete_horizon_ms) {
        header.attributes |= DELETE_HORIZON;
        header.base_timestamp = horizon;
    }
    header.record_count = 0;
    let mut max_timestamp = None;
    let (mut records, mut body, mut headers) = (Vec::new(), Vec::new(), Vec::new());
    for record in kept {
        header.record_count += 1;
        max_timestamp = max_timestamp.max(Some(record.timestamp));
        headers.clear();
        headers.extend(record.headers);
        let delta = i32::try_from(record.offset - header.base_offset).expect("offset in batch");
        let record = NewRecord {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: &headers,
        };
        put_record(&mut records, &mut body, &header, delta, &record);
    }
    if let (Some(max), TimestampType::CreateTime) = (max_timestamp, original.timestamp_type()) {
        header.max_timestamp = max;
    }
    let mut batch = vec![0; BATCH_HEADER_LEN];
    if header.record_count > 0 {
        compress(original.compression(), &records, &mut batch)?;
    } else {
        header.attributes &= !COMPRESSION_MASK;
    }
    header.batch_length = i32::try_from(batch.len() - LENGTH_PREFIX_LEN)
        .map_err(|_| BuildError::TooLarge(batch.len()))?;
    let mut head = Vec::with_capacity(BATCH_HEADER_LEN);
    header.write(&mut head);
    batch[..BATCH_HEADER_LEN].copy_from_slice(&head);
    patch_crc(&mut batch);
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{
        BatchBuilder, Compression, NewRecord, RecordBatch, RecordHeader, patch_leader_epoch,
        patch_max_timestamp_log_append, verify_crc,
    };
    use super::*;

    fn batch(compression: Compression) -> Vec<u8> {
        let headers = [RecordHeader {
            key: b"h",
            value: None,
        }];
        let mut builder = BatchBuilder::new(40)
            .compression(compression)
            .producer(9, 2, 7);
        for (i, value) in [Some(&b"a"[..]), None, Some(b"c")].into_iter().enumerate() {
            builder.append(&NewRecord {
                timestamp: 1_000 - i as i64,
                key: Some(&[i as u8]),
                value,
                headers: &headers,
            });
        }
        let mut batch = builder.build().unwrap().to_vec();
        patch_leader_epoch(&mut batch, 3);
        batch
    }

    fn rewritten(bytes: &[u8], keep: impl Fn(i64) -> bool, horizon: Option<i64>) -> Vec<u8> {
        let batch = RecordBatch::open(bytes, 1 << 20).unwrap();
        let kept = batch.records().flatten().filter(|r| keep(r.offset));
        let rewritten = rewrite(batch.header(), kept, horizon).unwrap();
        verify_crc(&rewritten).unwrap();
        rewritten
    }

    #[test]
    fn what_is_kept_stays_as_it_was_with_every_codec() {
        use Compression::{Gzip, Lz4, None, Snappy, Zstd};
        for codec in [None, Gzip, Snappy, Lz4, Zstd] {
            let before = batch(codec);
            let after = rewritten(&before, |offset| offset != 40, Some(77_000));
            let (before, after) = (
                RecordBatch::open(&before, 1 << 20).unwrap(),
                RecordBatch::open(&after, 1 << 20).unwrap(),
            );
            let (old, new) = (before.header(), after.header());
            assert_eq!((new.base_offset, new.last_offset_delta), (40, 2));
            assert_eq!(
                (new.producer_id, new.producer_epoch, new.base_sequence),
                (9, 2, 7)
            );
            assert_eq!(new.partition_leader_epoch, 3);
            assert_eq!(new.compression(), codec);
            assert_eq!(new.record_count, 2);
            assert_eq!(new.max_timestamp, 999);
            assert_eq!(
                (old.delete_horizon_ms(), new.delete_horizon_ms()),
                (Option::None, Some(77_000))
            );
            let owned = |batch: &RecordBatch<'_>| -> Vec<_> {
                let records = batch.records().map(Result::unwrap);
                let own = |bytes: &[u8]| bytes.to_vec();
                records
                    .map(|r| {
                        let headers = r.headers.map(|h| (own(h.key), h.value.map(own)));
                        let headers: Vec<_> = headers.collect();
                        let (key, value) = (r.key.map(own), r.value.map(own));
                        (r.offset, r.timestamp, key, value, headers)
                    })
                    .collect()
            };
            assert_eq!(owned(&after), owned(&before)[1..]);
        }
    }

    #[test]
    fn a_horizon_stays_when_the_batch_is_written_again() {
        let first = rewritten(&batch(Compression::None), |_| true, Some(5_000));
        let again = rewritten(&first, |_| true, Some(9_000));
        assert_eq!(first, again);
    }

    #[test]
    fn an_empty_batch_is_a_header() {
        let empty = rewritten(&batch(Compression::Gzip), |_| false, None);
        assert_eq!(empty.len(), BATCH_HEADER_LEN);
        let header = BatchHeader::parse(&empty).unwrap();
        assert_eq!((header.record_count, header.last_offset()), (0, 42));
        assert_eq!(
            header.max_timestamp, 1_000,
            "it still ages with its producer"
        );
        assert_eq!(RecordBatch::open(&empty, 0).unwrap().records().count(), 0);
    }

    #[test]
    fn the_time_of_append_holds_for_what_is_kept() {
        let mut appended = batch(Compression::None);
        patch_max_timestamp_log_append(&mut appended, 5_555);
        let after = rewritten(&appended, |offset| offset == 42, None);
        let after = RecordBatch::open(&after, 1 << 20).unwrap();
        let timestamps: Vec<_> = after.records().map(|r| r.unwrap().timestamp).collect();
        assert_eq!(timestamps, [5_555]);
    }
}
