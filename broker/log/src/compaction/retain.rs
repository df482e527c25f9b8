//! What stays of a batch. Pure.
//!
//! Of the records below [`Retain::upto`] the last one of each key stays; one without a value, a
//! tombstone, until the batch's delete horizon has passed (KIP-534). Control batches and transactional
//! ones stay as they are. A batch that loses its last record stays as a header where something hangs
//! on it, see [`HeaderNeed`].

use std::collections::BTreeMap;

use broker_core::{Offset, Timestamp};
use broker_wire::record::{BatchHeader, BuildError, Record, RecordBatch, RecordError, rewrite};

use super::key_map::KeyMap;

/// Largest batch after decompression.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Whether a batch stays as a header when no record of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderNeed {
    /// It is the first of its leader epoch, which replicas and a rebuilt history read from it, or the
    /// last of its segment, by which recovery sees that nothing is missing.
    Structure,
    /// Unless it is its producer's last, by which duplicates are recognised.
    None,
}

/// What is decided of all records of a log alike.
pub(crate) struct Retain<'a> {
    pub(crate) keys: &'a KeyMap,
    /// The keys of records below are known; those from here on stay.
    pub(crate) upto: Offset,
    pub(crate) now: Timestamp,
    pub(crate) delete_retention_ms: u64,
    /// The offset where each producer's last batch ends.
    pub(crate) last_of_producer: &'a BTreeMap<i64, Offset>,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Retained {
    AsItIs,
    Rewritten(Vec<u8>),
    Nothing,
}

/// Why a batch can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// It can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What stays of it can't be encoded.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Retain<'_> {
    /// Decides on the batch at the start of `bytes`.
    pub(crate) fn judge(&self, bytes: &[u8], need: HeaderNeed) -> Result<Retained, RetainError> {
        let header = BatchHeader::parse(bytes).map_err(RecordError::Batch)?;
        if is_opaque(&header) || header.base_offset >= self.upto.0 {
            return Ok(Retained::AsItIs);
        }
        let batch = RecordBatch::open(bytes, DECOMPRESSED_BYTES_MAX)?;
        let (mut kept, mut tombstones) = (Vec::new(), false);
        for record in batch.records() {
            let record = record?;
            let stays = self.keeps(&header, &record);
            tombstones |= stays && record.value.is_none();
            kept.push(stays);
        }
        let stays = |kept: &&bool| **kept;
        let count = kept.iter().filter(stays).count();
        if count == 0 && !self.needs(&header, need) {
            return Ok(Retained::Nothing);
        }
        let horizon = (tombstones && header.next_offset() <= self.upto.0)
            .then(|| self.delete_horizon_ms())
            .filter(|_| header.delete_horizon_ms().is_none());
        if count == kept.len() && horizon.is_none() {
            return Ok(Retained::AsItIs);
        }
        let records = batch.records().flatten().zip(&kept);
        let records = records.filter(|(_, kept)| **kept).map(|(record, _)| record);
        Ok(Retained::Rewritten(rewrite(&header, records, horizon)?))
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        if record.offset >= self.upto.0 {
            return true;
        }
        let Some(key) = record.key else {
            // It came before the topic was compacted; nobody can name it.
            return false;
        };
        let is_last = self
            .keys
            .get(key)
            .is_none_or(|last| record.offset >= last.0);
        is_last && (record.value.is_some() || !self.horizon_passed(header))
    }

    fn horizon_passed(&self, header: &BatchHeader) -> bool {
        header
            .delete_horizon_ms()
            .is_some_and(|horizon| self.now.0 >= horizon)
    }

    fn delete_horizon_ms(&self) -> i64 {
        let retention_ms = i64::try_from(self.delete_retention_ms).unwrap_or(i64::MAX);
        self.now.0.saturating_add(retention_ms)
    }

    fn needs(&self, header: &BatchHeader, need: HeaderNeed) -> bool {
        let last = self.last_of_producer.get(&header.producer_id);
        need == HeaderNeed::Structure
            || (header.producer_id >= 0 && last == Some(&Offset(header.next_offset())))
    }
}

/// Whether a batch stays as it is and its keys do not count: what a transaction wrote is known only
/// with its end.
pub(crate) fn is_opaque(header: &BatchHeader) -> bool {
    header.is_control() || header.is_transactional()
}

#[cfg(test)]
mod tests {
    use broker_wire::record::{BatchBuilder, NewRecord};

    use super::*;

    const NOW: Timestamp = Timestamp(50_000);

    /// A batch at offset 10 of records with these keys and values.
    fn batch(records: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(10).producer(5, 0, 0);
        for (key, value) in records {
            builder.append(&NewRecord {
                timestamp: 1,
                key: key.map(str::as_bytes),
                value: value.map(str::as_bytes),
                headers: &[],
            });
        }
        builder.build().unwrap().to_vec()
    }

    struct Case {
        last: &'static [(&'static str, i64)],
        upto: i64,
        now: Timestamp,
        producer_end: i64,
    }

    impl Case {
        fn judge(&self, bytes: &[u8], need: HeaderNeed) -> Retained {
            let mut keys = KeyMap::new(10, 1 << 10);
            for (key, offset) in self.last {
                keys.put(key.as_bytes(), Offset(*offset)).unwrap();
            }
            let retain = Retain {
                keys: &keys,
                upto: Offset(self.upto),
                now: self.now,
                delete_retention_ms: 100,
                last_of_producer: &BTreeMap::from([(5, Offset(self.producer_end))]),
            };
            retain.judge(bytes, need).unwrap()
        }
    }

    const CASE: Case = Case {
        last: &[("a", 12), ("b", 11), ("c", 90)],
        upto: 100,
        now: NOW,
        producer_end: 99,
    };

    fn offsets(retained: &Retained) -> Vec<i64> {
        let Retained::Rewritten(bytes) = retained else {
            panic!("not rewritten: {retained:?}");
        };
        let batch = RecordBatch::open(bytes, 1 << 20).unwrap();
        batch.records().map(|r| r.unwrap().offset).collect()
    }

    #[test]
    fn the_last_record_of_each_key_stays() {
        let records = [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("d", "1")];
        let bytes = batch(&records.map(|(key, value)| (Some(key), Some(value))));
        let retained = CASE.judge(&bytes, HeaderNeed::None);
        assert_eq!(offsets(&retained), [11, 12, 14]);
        let short = Case { upto: 12, ..CASE };
        assert_eq!(
            offsets(&short.judge(&bytes, HeaderNeed::None)),
            [11, 12, 13, 14],
            "what lies beyond the keys stays"
        );
        let before = Case { upto: 10, ..CASE };
        assert_eq!(before.judge(&bytes, HeaderNeed::None), Retained::AsItIs);
    }

    #[test]
    fn records_without_a_key_go() {
        let bytes = batch(&[(None, Some("1")), (Some("b"), Some("1"))]);
        assert_eq!(offsets(&CASE.judge(&bytes, HeaderNeed::None)), [11]);
    }

    #[test]
    fn a_tombstone_stays_until_its_horizon_has_passed() {
        let bytes = batch(&[(Some("x"), Some("1")), (Some("b"), None)]);
        let Retained::Rewritten(first) = CASE.judge(&bytes, HeaderNeed::None) else {
            panic!("it gets a horizon");
        };
        let header = BatchHeader::parse(&first).unwrap();
        assert_eq!(header.delete_horizon_ms(), Some(NOW.0 + 100));
        assert_eq!(header.record_count, 2);
        for (now, tombstone_stays) in [(NOW.0 + 99, true), (NOW.0 + 100, false)] {
            let later = Case {
                now: Timestamp(now),
                ..CASE
            };
            match later.judge(&first, HeaderNeed::None) {
                Retained::AsItIs => assert!(tombstone_stays),
                changed => {
                    assert!(!tombstone_stays);
                    assert_eq!(offsets(&changed), [10]);
                }
            }
        }
    }

    #[test]
    fn a_tombstone_whose_older_values_were_not_looked_for_gets_no_horizon() {
        let bytes = batch(&[(Some("b"), None), (Some("b"), None)]);
        let short = Case { upto: 11, ..CASE };
        let retained = short.judge(&bytes, HeaderNeed::None);
        let Retained::Rewritten(bytes) = retained else {
            panic!("the first goes");
        };
        assert_eq!(
            BatchHeader::parse(&bytes).unwrap().delete_horizon_ms(),
            None
        );
    }

    #[test]
    fn an_empty_batch_stays_where_something_hangs_on_it() {
        let bytes = batch(&[(Some("c"), Some("1"))]);
        assert_eq!(CASE.judge(&bytes, HeaderNeed::None), Retained::Nothing);
        let kept = CASE.judge(&bytes, HeaderNeed::Structure);
        assert_eq!(offsets(&kept), Vec::<i64>::new());
        let last = Case {
            producer_end: 11,
            ..CASE
        };
        let Retained::Rewritten(empty) = last.judge(&bytes, HeaderNeed::None) else {
            panic!("the producer's last batch stays");
        };
        assert_eq!(last.judge(&empty, HeaderNeed::None), Retained::AsItIs);
        assert_eq!(CASE.judge(&empty, HeaderNeed::None), Retained::Nothing);
    }

    #[test]
    fn what_a_transaction_wrote_stays() {
        let mut builder = BatchBuilder::new(10).producer(5, 0, 0).transactional();
        builder.append(&NewRecord {
            key: Some(b"c"),
            ..NewRecord::default()
        });
        let bytes = builder.build().unwrap();
        assert_eq!(CASE.judge(&bytes, HeaderNeed::None), Retained::AsItIs);
    }
}
