//! Operations that fail while the process lives on.

use super::crash::{append as append_step, growing, shortened, truncated};
use super::model::check_structure;
use super::owner::{Loss, Owner, Step};
use super::*;
use crate::error::{AppendError, StorageError};
use crate::fs::memory::{Fault, FaultSpan, MemoryFs};

fn memory_log(config: LogConfig) -> (MemoryFs, Arc<dyn Fs>, Log) {
    let disk = MemoryFs::new(3);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    fs.create_dir(dir().parent().unwrap()).unwrap();
    let (log, _) = open_with(&fs, config, FRESH).unwrap();
    (disk, fs, log)
}

fn append(log: &mut Log, seed: u8) -> Result<Vec<u8>, AppendError> {
    let mut records = [batch(2, 90, seed, 5), batch(3, 90, seed, 6)].concat();
    log.append_as_leader(&mut records, EPOCH, NOW)?;
    Ok(records)
}

#[test]
fn a_full_disk_refuses_appends_and_loses_nothing() {
    for capacity in (1500..3000).step_by(7) {
        let (disk, fs, mut log) = memory_log(small());
        disk.set_capacity(capacity);
        let mut written = Vec::new();
        let error = loop {
            match append(&mut log, written.len() as u8) {
                Ok(records) => written.extend(records),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, AppendError::Storage(StorageError::NoSpace)),
            "{error}"
        );
        assert_eq!(
            read_all(&log, Offset(0)).concat(),
            written,
            "at capacity {capacity}"
        );
        disk.set_capacity(u64::MAX);
        written.extend(append(&mut log, 200).unwrap());
        assert_eq!(read_all(&log, Offset(0)).concat(), written);
        check_structure(&log);
        drop(log);
        let (log, _) = open_with(&fs, small(), FRESH).unwrap();
        assert_eq!(read_all(&log, Offset(0)).concat(), written);
    }
}

#[test]
fn a_failed_write_is_undone_and_ends_all_writing() {
    for after in 0..40 {
        let (disk, fs, mut log) = memory_log(small());
        disk.fail_after(after, Fault::Io, FaultSpan::Once);
        let mut written = Vec::new();
        let mut refused = None;
        for seed in 0..10 {
            match append(&mut log, seed) {
                Ok(records) => written.extend(records),
                Err(error) => refused = Some(error),
            }
        }
        // Index entries may fail: they are hints, and left out.
        assert_eq!(refused.is_some(), log.is_failed());
        let read = read_all(&log, Offset(0)).concat();
        assert!(read.starts_with(&written), "at operation {after}");
        drop(log);
        let (log, _) = open_with(&fs, small(), FRESH).unwrap();
        assert!(read_all(&log, Offset(0)).concat().starts_with(&written));
        check_structure(&log);
    }
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (disk, _, mut log) = memory_log(small());
    let written = append(&mut log, 1).unwrap();
    disk.fail_after(0, Fault::Io, FaultSpan::Once);
    assert!(matches!(log.sync_handle().sync(), Err(StorageError::Io(_))));
    assert!(log.is_failed());
    assert!(matches!(
        log.sync_handle().sync(),
        Err(StorageError::Failed)
    ));
    let refused = append(&mut log, 2);
    assert!(matches!(
        refused,
        Err(AppendError::Storage(StorageError::Failed))
    ));
    assert!(matches!(
        log.truncate_to(Offset(1)),
        Err(StorageError::Failed)
    ));
    assert_eq!(log.durable_end(), Offset(0));
    assert_eq!(read_all(&log, Offset(0)).concat(), written, "reads go on");
}

#[test]
fn a_truncation_in_the_middle_of_a_batch_forgot_where_the_log_starts() {
    let (_, fs, mut log) = memory_log(LogConfig::default());
    for seed in 0..3 {
        append(&mut log, seed).unwrap();
    }
    log.delete_before(Offset(7)).unwrap().remove().unwrap();
    log.checkpointed(log.checkpoint());
    let mut reopened_after = |to, end| {
        log.truncate_to(Offset(to)).unwrap();
        assert_eq!(log.end_offset(), Offset(end), "truncated to {to}");
        let options = OpenOptions {
            log_start: Offset(7),
            ..FRESH
        };
        let (again, _) = open_with(&fs, LogConfig::default(), options).unwrap();
        assert_eq!(
            (again.start_offset(), again.end_offset()),
            (Offset(7), Offset(end))
        );
        log = again;
    };
    reopened_after(13, 12);
    // Of the batch from 7 to 9 nothing stays.
    reopened_after(8, 7);
}

#[test]
fn a_truncation_below_a_start_that_is_not_checkpointed_forgot_the_one_that_is() {
    let (_, fs, mut log) = memory_log(LogConfig::default());
    for seed in 0..3 {
        append(&mut log, seed).unwrap();
    }
    log.delete_before(Offset(4)).unwrap().remove().unwrap();
    log.checkpointed(log.checkpoint());
    log.delete_before(Offset(8)).unwrap().remove().unwrap();
    log.truncate_to(Offset(9)).unwrap();
    assert_eq!(log.end_offset(), Offset(7), "the batch goes as a whole");
    drop(log);
    let options = OpenOptions {
        log_start: Offset(4),
        ..FRESH
    };
    let (log, _) = open_with(&fs, LogConfig::default(), options).unwrap();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset(4), Offset(7))
    );
}

#[test]
fn damage_to_durable_records_is_reported_and_left_alone() {
    let (disk, fs, mut log) = memory_log(LogConfig::default());
    append(&mut log, 1).unwrap();
    append(&mut log, 2).unwrap();
    let recovery_point = log.close().unwrap();
    let path = dir().join("00000000000000000000.log");
    disk.corrupt(&path, 300, b"xxxx").unwrap();
    // Another four bytes of the header, so that the walk to the recovery point meets them.
    disk.corrupt(&path, 16, b"x").unwrap();
    let len = fs
        .open(&path, crate::fs::OpenMode::Existing)
        .unwrap()
        .len()
        .unwrap();
    let options = OpenOptions {
        recovery_point,
        ..FRESH
    };
    let refused = open_with(&fs, LogConfig::default(), options).err().unwrap();
    assert!(
        matches!(
            refused,
            OpenError::LostDurable {
                valid_end: Offset(0),
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(
        fs.open(&path, crate::fs::OpenMode::Existing)
            .unwrap()
            .len()
            .unwrap(),
        len
    );
}

#[test]
fn a_damaged_index_is_rebuilt_and_a_misleading_one_is_not_believed() {
    let config = LogConfig {
        segment_bytes: 2000,
        ..small()
    };
    let (disk, fs, mut log) = memory_log(config.clone());
    let written: Vec<u8> = (0..12)
        .flat_map(|seed| append(&mut log, seed).unwrap())
        .collect();
    let recovery_point = log.close().unwrap();
    let clean = OpenOptions {
        clean_shutdown: true,
        recovery_point,
        log_start: Offset(0),
        disk_failed: false,
    };
    fs.remove(&dir().join("00000000000000000000.timeindex"))
        .unwrap();
    let (log, report) = open_with(&fs, config, clean).unwrap();
    assert_eq!(report.indexes_rebuilt, 1);
    let entry_of = log
        .segments
        .iter()
        .find(|s| s.offsets.entries().len() > 0)
        .unwrap();
    let path = entry_of.offsets.entries().path().to_owned();
    disk.corrupt(&path, 4, &[0, 0, 0, 7]).unwrap();
    assert_eq!(read_all(&log, Offset(0)).concat(), written);
}

/// Lets every operation of a history fail in turn while the process lives on.
fn fail_everywhere(history: &[Step], fault: Fault, span: FaultSpan) {
    let history: Vec<_> = history
        .iter()
        .filter(|step| !matches!(step, Step::Reopen(_)))
        .collect();
    for after in 0.. {
        let mut owner = Owner::new(1 + after);
        owner.disk.fail_after(after, fault, span);
        let opened = owner.open().is_ok();
        if opened {
            let refused: Vec<_> = history
                .iter()
                .filter_map(|step| owner.apply(step).err())
                .collect();
            owner.disk.heal();
            if !owner.log().is_failed() {
                owner.check();
            }
            let after_fault = owner.apply(&append_step(2, 40, 5));
            match after_fault {
                Ok(()) => assert!(!owner.log().is_failed()),
                Err(error) => assert!(
                    matches!(error, StorageError::Failed) && !refused.is_empty(),
                    "at operation {after}: {error}, before {refused:?}"
                ),
            }
            if fault == Fault::NoSpace && !owner.log().is_failed() {
                owner.apply(&Step::Checkpoint { meanwhile: true }).unwrap();
            }
        }
        owner.stop(Loss::Power);
        owner.recover();
        if opened && owner.disk.operations() < after {
            break;
        }
    }
}

#[test]
fn every_operation_may_fail_for_good_and_nothing_promised_is_lost() {
    for history in [growing(), truncated(), shortened()] {
        for span in [FaultSpan::Once, FaultSpan::Lasting] {
            fail_everywhere(&history, Fault::Io, span);
        }
    }
}

#[test]
fn every_operation_may_find_the_disk_full_and_nothing_promised_is_lost() {
    for history in [growing(), truncated(), shortened()] {
        for span in [FaultSpan::Once, FaultSpan::Lasting] {
            fail_everywhere(&history, Fault::NoSpace, span);
        }
    }
}
