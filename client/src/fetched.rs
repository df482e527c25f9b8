//! The records in an answer to a fetch, those of aborted transactions left out (read_committed).

use broker_wire::message::fetch::PartitionData;
use broker_wire::record::{RecordBatch, batches};
use bytes::Bytes;

use crate::error::ClientError;

/// A decompressed batch is no longer.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Where it is.
    pub topic: String,
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
    /// Milliseconds since 1970, of its creation or of its append.
    pub timestamp: i64,
    /// What belongs together.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Transactions that were aborted: from which offset on each producer's records are skipped.
pub(crate) struct Aborted {
    waiting: Vec<(i64, i64)>,
    skipped: Vec<i64>,
}

impl Aborted {
    pub(crate) fn new(data: &PartitionData) -> Self {
        let aborted = data.aborted_transactions.iter().flatten();
        let mut waiting: Vec<_> = aborted.map(|t| (t.first_offset, t.producer_id)).collect();
        waiting.sort_unstable();
        Self {
            waiting,
            skipped: Vec::new(),
        }
    }

    /// Whether the batch belongs to one of them. Batches are shown in the order of the log.
    fn contains(&mut self, batch: &RecordBatch<'_>) -> bool {
        let header = batch.header();
        let begun = self
            .waiting
            .partition_point(|(first, _)| *first <= header.last_offset());
        self.skipped
            .extend(self.waiting.drain(..begun).map(|(_, producer)| producer));
        if header.is_control() {
            // A marker ends its producer's transaction.
            self.skipped
                .retain(|producer| *producer != header.producer_id);
        }
        header.is_transactional() && self.skipped.contains(&header.producer_id)
    }
}

/// Takes the records from `position` on; returns where to read on.
pub(crate) fn read(
    place: &(String, i32),
    bytes: &Bytes,
    mut position: i64,
    mut aborted: Aborted,
    records: &mut Vec<Consumed>,
) -> Result<i64, ClientError> {
    let broken = |cause| ClientError::Record {
        place: format!("{}-{}", place.0, place.1),
        cause,
    };
    // The last batch may be cut off: it comes whole with the next answer.
    for (header, batch) in batches(bytes).flatten() {
        let batch = RecordBatch::open(batch, BATCH_BYTES_MAX).map_err(broken)?;
        if !aborted.contains(&batch) && !header.is_control() {
            for record in batch.records() {
                let record = record.map_err(broken)?;
                if record.offset < position {
                    continue;
                }
                let headers = record.headers.map(|header| {
                    let key = String::from_utf8_lossy(header.key).into_owned();
                    (key, header.value.map(Bytes::copy_from_slice))
                });
                records.push(Consumed {
                    topic: place.0.clone(),
                    partition: place.1,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(Bytes::copy_from_slice),
                    value: record.value.map(Bytes::copy_from_slice),
                    headers: headers.collect(),
                });
            }
        }
        position = position.max(header.next_offset());
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use broker_wire::message::fetch::AbortedTransaction;
    use broker_wire::record::{BatchBuilder, NewRecord};

    use super::*;

    fn batch(base: i64, producer: Option<i64>, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(base);
        if let Some(producer) = producer {
            builder = builder.producer(producer, 0, base as i32).transactional();
        }
        for value in values {
            builder.append(&NewRecord {
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            });
        }
        builder.build().unwrap().to_vec()
    }

    fn values(bytes: Vec<u8>, position: i64, data: &PartitionData) -> (Vec<String>, i64) {
        let mut records = Vec::new();
        let place = ("t".to_owned(), 0);
        let aborted = Aborted::new(data);
        let next = read(&place, &bytes.into(), position, aborted, &mut records).unwrap();
        let text = |r: Consumed| String::from_utf8(r.value.unwrap().to_vec()).unwrap();
        (records.into_iter().map(text).collect(), next)
    }

    #[test]
    fn reading_begins_in_the_middle_of_a_batch_and_ends_before_one_that_is_cut_off() {
        let mut bytes = batch(0, None, &["a", "b", "c"]);
        let cut = batch(3, None, &["d"]);
        bytes.extend(&cut[..cut.len() - 1]);
        let data = PartitionData::default();
        assert_eq!(values(bytes, 1, &data), (vec!["b".into(), "c".into()], 3));
    }

    #[test]
    fn records_of_aborted_transactions_are_skipped_and_those_of_others_are_not() {
        let mut bytes = batch(0, Some(7), &["committed before"]);
        bytes.extend(batch(1, Some(8), &["aborted"]));
        bytes.extend(batch(2, None, &["plain"]));
        bytes.extend(batch(3, Some(7), &["of another"]));
        let data = PartitionData {
            aborted_transactions: Some(vec![AbortedTransaction {
                producer_id: 8,
                first_offset: 1,
            }]),
            ..PartitionData::default()
        };
        let (found, next) = values(bytes, 0, &data);
        assert_eq!(found, ["committed before", "plain", "of another"]);
        assert_eq!(next, 4);
    }
}
