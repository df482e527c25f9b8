//! The indexes of aborted transactions, kept by an owner that enters what it knows.

use std::path::Path;

use broker_core::ProducerId;
use broker_wire::record::{ControlRecordType, EndTransactionMarker, RecordBatch};

use super::*;
use crate::compaction::{Pace, Stopped};
use crate::config::CompactionConfig;
use crate::fs::OpenMode;
use crate::fs::memory::MemoryFs;
use crate::txn_index::AbortedTransaction;

const CLEAN: OpenOptions = OpenOptions {
    clean_shutdown: true,
    ..FRESH
};

fn aborted(first: i64, marker: i64) -> AbortedTransaction {
    AbortedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(first),
        last_offset: Offset(marker),
        last_stable_offset: Offset(marker + 1),
    }
}

fn append(log: &mut Log) -> i64 {
    let mut bytes = batch(1, 100, 1, 0);
    let info = log.append_as_leader(&mut bytes, EPOCH, NOW).unwrap();
    info.first_offset.0
}

/// Transactions of two records each, the last one their marker; three segments or more.
fn filled(fs: &Arc<dyn Fs>) -> Log {
    let (mut log, _) = open_with(fs, small(), FRESH).unwrap();
    for _ in 0..8 {
        let first = append(&mut log);
        let marker = append(&mut log);
        log.note_aborted(&aborted(first, marker)).unwrap();
    }
    assert!(log.segment_count() > 2);
    log
}

fn firsts(log: &Log, from: i64, upto: i64) -> Vec<i64> {
    let found = log.aborted_transactions(Offset(from), Offset(upto));
    found
        .unwrap()
        .iter()
        .map(|entry| entry.first_offset.0)
        .collect()
}

#[test]
fn an_entry_has_kafkas_format() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let (mut log, _) = open_with(&fs, small(), FRESH).unwrap();
    log.note_aborted(&aborted(3, 5)).unwrap();
    let file = fs.open(
        &dir().join("00000000000000000000.txnindex"),
        OpenMode::Existing,
    );
    let mut bytes = [0; 34];
    file.unwrap().read_exact_at(&mut bytes, 0).unwrap();
    let numbers = [7i64, 3, 5, 6].map(i64::to_be_bytes).concat();
    assert_eq!(bytes[..], [&[0, 0][..], &numbers].concat());
}

#[test]
fn transactions_are_found_by_the_records_that_they_overlap() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let mut log = filled(&fs);
    assert_eq!(firsts(&log, 0, 16), [0, 2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(firsts(&log, 5, 9), [4, 6, 8]);
    assert_eq!(firsts(&log, 6, 6), [] as [i64; 0]);
    let spanning = append(&mut log);
    for _ in 0..9 {
        append(&mut log);
    }
    log.note_aborted(&aborted(spanning, 25)).unwrap();
    assert_eq!(firsts(&log, 17, 18), [spanning], "its marker is far behind");
    let slice = log
        .read(Offset(4), log.end_offset(), 1, MinOneBatch::Yes)
        .unwrap()
        .unwrap();
    let within = log.aborted_within(Offset(4), &slice, log.end_offset());
    assert!(within.unwrap().len() <= 3, "not all that follow");
}

#[test]
fn a_truncation_takes_the_transactions_along_whose_markers_are_cut() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let mut log = filled(&fs);
    log.truncate_to(Offset(9)).unwrap();
    assert_eq!(firsts(&log, 0, 16), [0, 2, 4, 6]);
    log.truncate_fully_and_start_at(Offset(100)).unwrap();
    assert_eq!(firsts(&log, 100, 200), [] as [i64; 0]);
    let names = fs.list(&dir()).unwrap().into_iter().map(|entry| entry.name);
    assert!(names.into_iter().all(|name| !name.ends_with(".txnindex")));
}

#[test]
fn deleted_segments_take_their_transactions_along() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let mut log = filled(&fs);
    let base = log.active_segment_base();
    log.delete_before(base).unwrap().remove().unwrap();
    let expected: Vec<i64> = (0..16).step_by(2).filter(|at| at + 1 >= base.0).collect();
    assert_eq!(firsts(&log, base.0, 16), expected);
    let indexes = fs.list(&dir()).unwrap().into_iter();
    let indexes = indexes.filter(|entry| entry.name.contains(".txnindex"));
    assert_eq!(indexes.count(), 1);
}

#[test]
fn what_an_open_finds_is_kept_as_far_as_it_is_sound() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let log = filled(&fs);
    let base = log.active_segment_base();
    let recovery_point = log.close().unwrap();
    let options = OpenOptions {
        recovery_point,
        ..CLEAN
    };
    let (log, _) = open_with(&fs, small(), options).unwrap();
    assert_eq!(firsts(&log, 0, 16).len(), 8);
    assert!(log.knows_aborted());
    drop(log);
    let path = dir().join(format!("{:020}.txnindex", base.0));
    let file = fs.open(&path, OpenMode::Existing).unwrap();
    let len = file.len().unwrap();
    file.write_at(&[0; 50], len).unwrap();
    let (mut log, _) = open_with(&fs, small(), options).unwrap();
    assert_eq!(firsts(&log, 0, 16).len(), 8, "what is torn is cut off");
    assert_eq!(file.len().unwrap(), len);
    assert!(!log.knows_aborted(), "it may have named a marker");
    log.forget_aborted_from(Offset(4)).unwrap();
    assert_eq!(firsts(&log, 0, 16), [0, 2]);
    assert!(!log.knows_aborted());
    log.forget_aborted_from(Offset(0)).unwrap();
    assert!(log.knows_aborted());
}

#[test]
fn a_power_failure_keeps_the_transactions_below_a_checkpoint() {
    for seed in 0..8 {
        let fs = MemoryFs::new(seed);
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        shared.create_dir(Path::new("/data")).unwrap();
        shared.sync_dir(Path::new("/")).unwrap();
        let mut log = filled(&shared);
        let synced = log.checkpoint_handle().sync().unwrap();
        log.synced(synced);
        let recovery_point = log.recovery_point();
        for _ in 0..3 {
            let first = append(&mut log);
            let marker = append(&mut log);
            log.note_aborted(&aborted(first, marker)).unwrap();
        }
        drop(log);
        fs.crash();
        let options = OpenOptions {
            recovery_point,
            ..FRESH
        };
        let (log, _) = open_with(&shared, small(), options).unwrap();
        assert_eq!(firsts(&log, 0, recovery_point.0).len(), 8, "seed {seed}");
    }
}

#[test]
fn a_copy_takes_over_the_transactions_of_the_records_that_it_has() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let original = filled(&fs);
    let other: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let (mut copy, _) = open_with(&other, small(), FRESH).unwrap();
    for batch in read_all(&original, Offset(0)) {
        copy.append_as_follower(&batch, NOW).unwrap();
        copy.adopt_aborted(&original).unwrap();
        let end = copy.end_offset().0;
        assert_eq!(firsts(&copy, 0, 16).len() as i64, end / 2);
    }
    copy.adopt_aborted(&original).unwrap();
    assert_eq!(firsts(&copy, 0, 16), firsts(&original, 0, 16));
}

struct Unhurried;

impl Pace for Unhurried {
    fn spend(&mut self, _bytes: usize) -> Result<(), Stopped> {
        Ok(())
    }
}

#[test]
fn compaction_gathers_the_transactions_of_segments_that_become_one() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let compacted = LogConfig {
        compaction: Some(CompactionConfig {
            min_cleanable_dirty_ppm: 0,
            ..CompactionConfig::default()
        }),
        ..small()
    };
    let (mut log, _) = open_with(&fs, compacted.clone(), FRESH).unwrap();
    for i in 0..24 {
        let mut builder = BatchBuilder::new(0);
        if i % 6 == 5 {
            builder = builder.producer(7, 0, i).transactional();
        }
        builder.append(&NewRecord {
            timestamp: 0,
            key: Some(b"k"),
            value: Some(&[1; 60]),
            headers: &[],
        });
        let mut bytes = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut bytes, EPOCH, NOW).unwrap();
        if i % 6 == 5 {
            log.note_aborted(&aborted(i.into(), i.into())).unwrap();
        }
    }
    let synced = log.checkpoint_handle().sync().unwrap();
    log.synced(synced);
    let (before, found) = (log.segment_count(), firsts(&log, 0, 24));
    // Segments become one in the pass after the one that made them small.
    for _ in 0..2 {
        let mut pass = log.begin_compaction(NOW, log.end_offset()).unwrap();
        pass.read_keys(1 << 20, &mut Unhurried).unwrap();
        while let Some(cleaned) = pass.next_group(&mut Unhurried).unwrap() {
            log.replace(cleaned).unwrap().finish().unwrap();
        }
    }
    assert!(log.segment_count() < before);
    assert_eq!(firsts(&log, 0, 24), found);
    let options = OpenOptions {
        recovery_point: log.close().unwrap(),
        ..CLEAN
    };
    let (log, _) = open_with(&fs, compacted, options).unwrap();
    assert_eq!(firsts(&log, 0, 24), found);
}

/// A tombstone that goes must not bring back what a transaction wrote before, nor may an aborted record
/// take the place of one that counts.
#[test]
fn compaction_knows_the_records_of_committed_transactions_and_drops_those_of_aborted_ones() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let config = LogConfig {
        compaction: Some(CompactionConfig {
            min_cleanable_dirty_ppm: 0,
            delete_retention_ms: 0,
            ..CompactionConfig::default()
        }),
        ..small()
    };
    let (mut log, _) = open_with(&fs, config, FRESH).unwrap();
    let append = |log: &mut Log, producer: Option<i64>, key: &[u8], value: Option<&[u8]>| {
        let mut builder = BatchBuilder::new(0);
        if let Some(producer) = producer {
            builder = builder.producer(producer, 0, 0).transactional();
        }
        builder.append(&NewRecord {
            timestamp: 0,
            key: Some(key),
            value,
            headers: &[],
        });
        let mut bytes = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut bytes, EPOCH, NOW).unwrap();
    };
    let end = |log: &mut Log, kind| {
        let marker = EndTransactionMarker {
            kind,
            producer_id: 7,
            producer_epoch: 0,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        let mut bytes = marker.build(0).unwrap().to_vec();
        let appended = log.append_as_leader(&mut bytes, EPOCH, NOW);
        appended.unwrap().first_offset.0
    };
    append(&mut log, None, b"kept", Some(b"1"));
    append(&mut log, Some(7), b"gone", Some(b"1"));
    append(&mut log, Some(7), b"won", Some(b"1"));
    end(&mut log, ControlRecordType::Commit);
    append(&mut log, None, b"gone", None);
    append(&mut log, Some(7), b"kept", Some(b"2"));
    let marker = end(&mut log, ControlRecordType::Abort);
    log.note_aborted(&aborted(5, marker)).unwrap();
    for _ in 0..20 {
        append(&mut log, None, b"filler", Some(&[0; 60]));
    }
    let synced = log.checkpoint_handle().sync().unwrap();
    log.synced(synced);
    // The first pass sets the tombstone's horizon, a later one drops it.
    for now in [NOW.0, NOW.0 + 1, NOW.0 + 2] {
        let now = Timestamp(now);
        let mut pass = log.begin_compaction(now, log.end_offset()).unwrap();
        pass.read_keys(1 << 20, &mut Unhurried).unwrap();
        while let Some(cleaned) = pass.next_group(&mut Unhurried).unwrap() {
            log.replace(cleaned).unwrap().finish().unwrap();
        }
    }
    let mut found = Vec::new();
    for bytes in read_all(&log, Offset(0)) {
        let batch = RecordBatch::open(&bytes, 1 << 20).unwrap();
        if !batch.header().is_control() {
            let records = batch.records().map(Result::unwrap);
            found.extend(records.map(|record| (record.key.unwrap().to_vec(), record.offset)));
        }
    }
    found.retain(|(key, _)| key != b"filler");
    assert_eq!(found, [(b"kept".to_vec(), 0), (b"won".to_vec(), 2)]);
}

/// What a group commits in transactions is superseded by its next commit; only the last one's marker
/// has something left to decide.
#[test]
fn compaction_drops_the_markers_of_commits_of_which_nothing_is_left() {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(0));
    let config = LogConfig {
        compaction: Some(CompactionConfig {
            min_cleanable_dirty_ppm: 0,
            delete_retention_ms: 10,
            ..CompactionConfig::default()
        }),
        ..small()
    };
    let (mut log, _) = open_with(&fs, config, FRESH).unwrap();
    for _ in 0..20 {
        let mut builder = BatchBuilder::new(0).producer(7, 0, -1).transactional();
        builder.append(&NewRecord {
            timestamp: 0,
            key: Some(b"group"),
            value: Some(b"1"),
            headers: &[],
        });
        let mut bytes = builder.build().unwrap().to_vec();
        log.append_as_leader(&mut bytes, EPOCH, NOW).unwrap();
        let marker = EndTransactionMarker {
            kind: ControlRecordType::Commit,
            producer_id: 7,
            producer_epoch: 0,
            coordinator_epoch: 0,
            timestamp: 0,
        };
        let mut bytes = marker.build(0).unwrap().to_vec();
        log.append_as_leader(&mut bytes, EPOCH, NOW).unwrap();
    }
    let synced = log.checkpoint_handle().sync().unwrap();
    log.synced(synced);
    let end = log.active_segment_base();
    // The passes drop records, set horizons, drop markers, and then the headers that ended segments.
    for (now, drops) in [
        (0, false),
        (1, false),
        (5, false),
        (20, true),
        (40, true),
        (41, false),
    ] {
        let now = Timestamp(NOW.0 + now);
        let mut pass = log.begin_compaction(now, log.end_offset()).unwrap();
        pass.read_keys(1 << 20, &mut Unhurried).unwrap();
        let mut dropped = false;
        while let Some(cleaned) = pass.next_group(&mut Unhurried).unwrap() {
            dropped |= cleaned.drops_markers();
            log.replace(cleaned).unwrap().finish().unwrap();
        }
        assert_eq!(dropped, drops, "{now:?}");
    }
    let (mut markers, mut records) = (Vec::new(), Vec::new());
    for bytes in read_all(&log, Offset(0)) {
        let batch = RecordBatch::open(&bytes, 1 << 20).unwrap();
        let kind = match batch.header().is_control() {
            true => &mut markers,
            false => &mut records,
        };
        kind.extend(batch.records().map(|record| record.unwrap().offset));
    }
    let left: Vec<i64> = (records[0]..40).step_by(2).collect();
    assert!(records[0] < end.0 && end.0 - records[0] <= 2);
    assert_eq!(records, left, "the last one of the compacted part");
    let ends: Vec<i64> = left.iter().map(|at| at + 1).collect();
    assert_eq!(markers, ends, "they have their records before them");
    assert_eq!(log.segment_count(), 2);
}
