use super::*;
use crate::error::AppendError;
use crate::fs::RealFs;
use crate::fs::memory::MemoryFs;
use crate::{DeletionReason, TimestampedOffset};

fn memory_log(config: LogConfig) -> (Arc<dyn Fs>, Log) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(1));
    fs.create_dir(dir().parent().unwrap()).unwrap();
    let (log, _) = open_with(&fs, config, FRESH).unwrap();
    (fs, log)
}

fn append(log: &mut Log, records: &mut [u8]) {
    log.append_as_leader(records, EPOCH, NOW).unwrap();
}

#[test]
fn appended_batches_get_dense_offsets_and_come_back_byte_for_byte() {
    let (_, mut log) = memory_log(small());
    let mut written = Vec::new();
    for i in 0..20 {
        let mut records = batch(3, 20, i, i64::from(i));
        let info = log.append_as_leader(&mut records, EPOCH, NOW).unwrap();
        assert_eq!(info.first_offset, Offset(3 * i64::from(i)));
        assert_eq!(info.last_offset, Offset(3 * i64::from(i) + 2));
        assert_eq!(info.max_timestamp, Timestamp(i64::from(i) + 2));
        assert_eq!(info.end_offset, log.end_offset());
        written.push(records);
    }
    assert!(
        log.segment_count() > 3,
        "600 bytes for each segment were to be exceeded"
    );
    assert_eq!(read_all(&log, Offset(0)), written);
    assert_eq!(read_all(&log, Offset(31)), written[10..]);
}

#[test]
fn a_log_on_the_real_file_system_reopens_after_close_without_a_scan() {
    let temp = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let open = |options| {
        let path = temp.path().join("events-0");
        Log::open(
            fs.clone(),
            path,
            small(),
            options,
            &RecoveryProgress::default(),
        )
        .unwrap()
    };
    let (mut log, _) = open(FRESH);
    let mut written = Vec::new();
    for i in 0..20 {
        let mut records = batch(2, 30, i, i64::from(i));
        append(&mut log, &mut records);
        written.push(records);
    }
    let recovery_point = log.close().unwrap();
    let (log, report) = open(OpenOptions {
        clean_shutdown: true,
        recovery_point,
        log_start: Offset(0),
        disk_failed: false,
    });
    assert_eq!(report.bytes_scanned, 0);
    assert_eq!(read_all(&log, Offset(0)), written);
    let (log, report) = open(FRESH);
    assert_eq!(report.bytes_scanned, log.size_bytes());
    assert_eq!(read_all(&log, Offset(0)), written);
}

#[test]
fn only_what_lies_above_the_recovery_point_is_scanned() {
    let (fs, mut log) = memory_log(LogConfig {
        segment_bytes: 100_000,
        ..small()
    });
    for i in 0..50 {
        append(&mut log, &mut batch(1, 200, i, 0));
    }
    let synced = log.checkpoint_handle().sync().unwrap();
    log.synced(synced);
    let mut last = batch(1, 200, 99, 0);
    append(&mut log, &mut last);
    let options = OpenOptions {
        recovery_point: log.recovery_point(),
        ..FRESH
    };
    drop(log);
    let (log, report) = open_with(&fs, small(), options).unwrap();
    assert_eq!(report.bytes_scanned, last.len() as u64);
    assert_eq!(log.end_offset(), Offset(51));
}

#[test]
fn a_slice_stays_readable_when_its_segment_is_deleted() {
    let (_, mut log) = memory_log(LogConfig {
        retention_bytes: Some(0),
        ..small()
    });
    let mut records = batch(2, 30, 1, 0);
    append(&mut log, &mut records);
    let slice = log
        .read(Offset(0), Offset(2), 1000, MinOneBatch::Yes)
        .unwrap()
        .unwrap();
    let deleted = log.apply_retention(NOW, Offset(2)).unwrap();
    assert_eq!(deleted.segments()[0].reason, DeletionReason::Size);
    deleted.remove().unwrap();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset(2), Offset(2))
    );
    assert_eq!(slice.read_to_bytes().unwrap(), records);
}

#[test]
fn a_segment_is_rolled_by_the_age_of_its_first_batch() {
    let (_, mut log) = memory_log(LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    });
    for (timestamp, segments) in [(5000, 1), (6000, 1), (6001, 2), (5000, 2)] {
        append(&mut log, &mut batch(1, 10, 0, timestamp));
        assert_eq!(log.segment_count(), segments, "after {timestamp}");
    }
}

#[test]
fn a_record_is_found_by_its_timestamp() {
    let (_, mut log) = memory_log(small());
    for i in 0..10 {
        append(&mut log, &mut batch(4, 30, 0, 100 * i));
    }
    let slice = log
        .batch_for_timestamp(Timestamp(502), log.end_offset())
        .unwrap()
        .unwrap();
    let found = slice
        .first_at_or_after(Timestamp(502), Offset(0), 1 << 20)
        .unwrap();
    let expected = |offset, timestamp| {
        Some(TimestampedOffset {
            offset: Offset(offset),
            timestamp: Timestamp(timestamp),
            epoch: EPOCH,
        })
    };
    assert_eq!(found, expected(22, 502));
    let newest = log
        .batch_of_max_timestamp(log.end_offset())
        .unwrap()
        .unwrap();
    assert_eq!(newest.max_timestamp(1 << 20).unwrap(), expected(39, 903));
    assert!(
        log.batch_for_timestamp(Timestamp(904), log.end_offset())
            .unwrap()
            .is_none()
    );
    assert!(
        log.batch_for_timestamp(Timestamp(502), Offset(20))
            .unwrap()
            .is_none()
    );
}

#[test]
fn invalid_appends_are_refused_and_change_nothing() {
    let (_, mut log) = memory_log(small());
    append(&mut log, &mut batch(2, 10, 0, 0));
    let mut torn = batch(1, 10, 0, 0);
    torn.pop();
    let refused = log.append_as_leader(&mut torn, EPOCH, NOW);
    assert!(matches!(refused, Err(AppendError::InvalidBatch(_))));
    let refused = log.append_as_leader(&mut batch(1, 700, 0, 0), EPOCH, NOW);
    assert!(matches!(
        refused,
        Err(AppendError::TooLarge {
            segment_bytes: 600,
            ..
        })
    ));
    let refused = log.append_as_leader(&mut batch(1, 10, 0, 0), LeaderEpoch(-1), NOW);
    assert!(matches!(refused, Err(AppendError::EpochRegressed { .. })));
    let refused = log.append_as_leader(&mut [], EPOCH, NOW);
    assert!(matches!(refused, Err(AppendError::Empty)));
    let mut before_end = batch(2, 10, 0, 0);
    broker_wire::record::patch_base_offset(&mut before_end, 1);
    broker_wire::record::patch_leader_epoch(&mut before_end, 0);
    let refused = log.append_as_follower(&before_end, NOW);
    assert!(matches!(
        refused,
        Err(AppendError::OutOfOrder { end: Offset(2), .. })
    ));
    broker_wire::record::patch_base_offset(&mut before_end, 2);
    *before_end.last_mut().unwrap() ^= 1;
    let refused = log.append_as_follower(&before_end, NOW);
    assert!(matches!(refused, Err(AppendError::InvalidBatch(_))));
    assert_eq!(log.end_offset(), Offset(2));
}

#[test]
fn a_flush_is_due_by_messages_and_by_time() {
    let config = LogConfig {
        flush_messages: Some(3),
        flush_ms: Some(50),
        ..small()
    };
    let (_, mut log) = memory_log(config);
    let later = |ms| Timestamp(NOW.0 + ms);
    assert!(!log.flush_due(later(1000)), "nothing to flush");
    append(&mut log, &mut batch(2, 10, 0, 0));
    assert!(!log.flush_due(later(49)));
    assert!(log.flush_due(later(50)));
    append(&mut log, &mut batch(1, 10, 0, 0));
    assert!(log.flush_due(NOW));
    let synced = log.sync_handle().sync().unwrap();
    log.synced(synced);
    assert_eq!(
        (log.durable_end(), log.recovery_point()),
        (Offset(3), Offset(0))
    );
    assert!(!log.flush_due(later(1000)));
}
