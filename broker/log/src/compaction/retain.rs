//! What stays of a batch. Pure.
//!
//! Of the records below [`Retain::upto`] the last one of each key stays; one without a value, a
//! tombstone, until the batch's delete horizon has passed (KIP-534). Records of aborted transactions go;
//! markers stay as they are, those of commits until nothing is left before them and their horizon has
//! passed. A batch that loses its last record stays as a header where something hangs on it, see
//! [`HeaderNeed`].

use std::collections::BTreeMap;
use std::iter;

use broker_core::{Offset, Timestamp};
use broker_wire::record::{BatchHeader, BuildError, Record, RecordBatch, RecordError, rewrite};

use super::fate::Fate;
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
    pub(crate) fn judge(
        &self,
        bytes: &[u8],
        fate: Fate,
        need: HeaderNeed,
    ) -> Result<Retained, RetainError> {
        let header = BatchHeader::parse(bytes).map_err(RecordError::Batch)?;
        if header.base_offset >= self.upto.0 {
            return Ok(Retained::AsItIs);
        }
        match fate {
            Fate::Marker => return Ok(Retained::AsItIs),
            Fate::Spent => return self.judge_spent(&header, bytes, need),
            Fate::Counts | Fate::Aborted => {}
        }
        let batch = RecordBatch::open(bytes, DECOMPRESSED_BYTES_MAX)?;
        let (mut kept, mut tombstones) = (Vec::new(), false);
        for record in batch.records() {
            let record = record?;
            let stays = fate == Fate::Counts && self.keeps(&header, &record);
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

    /// A marker that nobody needs goes when its horizon has passed: until then followers and readers of
    /// the log as it was may come by.
    fn judge_spent(
        &self,
        header: &BatchHeader,
        bytes: &[u8],
        need: HeaderNeed,
    ) -> Result<Retained, RetainError> {
        let is_whole = header.record_count > 0;
        if is_whole && header.delete_horizon_ms().is_none() {
            let batch = RecordBatch::open(bytes, DECOMPRESSED_BYTES_MAX)?;
            let horizon = Some(self.delete_horizon_ms());
            let records = batch.records().flatten();
            return Ok(Retained::Rewritten(rewrite(header, records, horizon)?));
        }
        if is_whole && !self.horizon_passed(header) {
            return Ok(Retained::AsItIs);
        }
        match self.needs(header, need) {
            false => Ok(Retained::Nothing),
            true if is_whole => Ok(Retained::Rewritten(rewrite(header, iter::empty(), None)?)),
            true => Ok(Retained::AsItIs),
        }
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

#[cfg(test)]
mod tests {
    use broker_core::ProducerId;
    use broker_wire::record::{BatchBuilder, ControlRecordType, EndTransactionMarker, NewRecord};

    use super::super::fate::Fates;
    use super::*;
    use crate::txn_index::AbortedTransaction;

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
        aborted: Vec<AbortedTransaction>,
        spent: bool,
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
            let header = BatchHeader::parse(bytes).unwrap();
            let fate = match self.spent {
                true => Fate::Spent,
                false => Fates::new(&self.aborted).of(&header),
            };
            retain.judge(bytes, fate, need).unwrap()
        }
    }

    const CASE: Case = Case {
        last: &[("a", 12), ("b", 11), ("c", 90)],
        upto: 100,
        now: NOW,
        producer_end: 99,
        aborted: Vec::new(),
        spent: false,
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
    fn what_a_transaction_wrote_counts_unless_it_was_aborted() {
        let transactional = |producer| {
            let mut builder = BatchBuilder::new(10)
                .producer(producer, 0, 0)
                .transactional();
            for key in [b"a", b"d"] {
                builder.append(&NewRecord {
                    key: Some(key),
                    value: Some(b"1"),
                    ..NewRecord::default()
                });
            }
            builder.build().unwrap()
        };
        let case = |first, marker| Case {
            aborted: vec![AbortedTransaction {
                producer_id: ProducerId(5),
                first_offset: Offset(first),
                last_offset: Offset(marker),
                last_stable_offset: Offset(marker + 1),
            }],
            ..CASE
        };
        let judge = |case: Case, producer| case.judge(&transactional(producer), HeaderNeed::None);
        assert_eq!(offsets(&judge(CASE, 5)), [11]);
        assert_eq!(offsets(&judge(case(3, 9), 5)), [11], "an earlier one");
        assert_eq!(offsets(&judge(case(12, 20), 5)), [11], "a later one");
        assert_eq!(offsets(&judge(case(10, 20), 6)), [11], "another producer's");
        assert_eq!(judge(case(10, 20), 5), Retained::Nothing);
        assert_eq!(judge(case(3, 20), 5), Retained::Nothing);
        let last = Case {
            producer_end: 12,
            ..case(10, 20)
        };
        assert!(offsets(&judge(last, 5)).is_empty(), "its header");
    }

    #[test]
    fn the_marker_of_a_commit_goes_when_nothing_is_left_before_it_and_its_horizon_has_passed() {
        let marker = EndTransactionMarker {
            kind: ControlRecordType::Commit,
            producer_id: 5,
            producer_epoch: 0,
            coordinator_epoch: 3,
            timestamp: 1,
        };
        let bytes = marker.build(10).unwrap();
        assert_eq!(CASE.judge(&bytes, HeaderNeed::None), Retained::AsItIs);
        let case = |now| Case {
            now: Timestamp(now),
            spent: true,
            ..CASE
        };
        let Retained::Rewritten(first) = case(NOW.0).judge(&bytes, HeaderNeed::None) else {
            panic!("it gets a horizon");
        };
        assert_eq!(EndTransactionMarker::read(&first).unwrap(), Some(marker));
        let early = case(NOW.0 + 99).judge(&first, HeaderNeed::None);
        assert_eq!(early, Retained::AsItIs);
        let late = case(NOW.0 + 100);
        assert_eq!(late.judge(&first, HeaderNeed::None), Retained::Nothing);
        let Retained::Rewritten(empty) = late.judge(&first, HeaderNeed::Structure) else {
            panic!("its header stays");
        };
        assert_eq!(EndTransactionMarker::read(&empty).unwrap(), None);
        let kept = late.judge(&empty, HeaderNeed::Structure);
        assert_eq!(kept, Retained::AsItIs);
        assert_eq!(late.judge(&empty, HeaderNeed::None), Retained::Nothing);
    }
}
