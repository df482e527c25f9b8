//! Reading sealed segments again finds every damage of theirs, and makes indexes anew.

use super::*;
use crate::fs::OpenMode;
use crate::fs::memory::MemoryFs;
use crate::log::{IndexVerdict, ScrubError, ScrubStep};

const STRIDE: usize = 5;
/// Where a batch's checksum begins.
const CHECKED_FROM: usize = 21;

fn durable_log() -> (Arc<dyn Fs>, Log) {
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(1));
    let (mut log, _) = open_with(&fs, small(), FRESH).unwrap();
    for i in 0..30 {
        let mut records = batch(2, 60, i, i64::from(i));
        log.append_as_leader(&mut records, EPOCH, NOW).unwrap();
    }
    let synced = log.checkpoint_handle().sync().unwrap();
    log.synced(synced);
    assert!(log.segment_count() > 4);
    (fs, log)
}

/// Base offset of every segment that was looked at, with what was found.
fn scrub(log: &mut Log) -> Vec<(Offset, Result<IndexVerdict, ScrubError>)> {
    let mut found = Vec::new();
    let mut next = Offset(0);
    while let Some(mut scrub) = log.scrub_from(next) {
        next = scrub.end();
        let outcome = loop {
            match scrub.step(200) {
                Ok(ScrubStep::More) => {}
                Ok(ScrubStep::Done(verdict)) => break Ok(verdict),
                Err(error) => break Err(error),
            }
        };
        if let Ok(IndexVerdict::Damaged) = outcome {
            let new = scrub.write_indexes().unwrap();
            assert!(log.replace_indexes(&scrub, new).unwrap());
        }
        found.push((scrub.base(), outcome));
    }
    found
}

fn flip(fs: &Arc<dyn Fs>, name: &str, at: usize) {
    let file = fs.open(&dir().join(name), OpenMode::Existing).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ 0x10], at as u64).unwrap();
}

fn len(fs: &Arc<dyn Fs>, name: &str) -> usize {
    let file = fs.open(&dir().join(name), OpenMode::Existing).unwrap();
    file.len().unwrap() as usize
}

/// A sealed segment in the middle.
fn name(log: &Log, suffix: &str) -> String {
    format!("{:020}.{suffix}", log.segments[1].base.0)
}

#[test]
fn sealed_durable_segments_are_read_and_found_sound() {
    let (_, mut log) = durable_log();
    let sealed = log.segment_count() - 1;
    let found = scrub(&mut log);
    assert_eq!(found.len(), sealed);
    for (base, outcome) in found {
        assert_eq!(outcome.unwrap(), IndexVerdict::Sound, "{base}");
    }
}

#[test]
fn a_flipped_bit_under_a_checksum_and_a_cut_segment_are_found() {
    let (fs, mut log) = durable_log();
    let (name, base) = (name(&log, "log"), log.segments[1].base);
    let size = len(&fs, &name);
    for at in (CHECKED_FROM..size / 2).step_by(STRIDE) {
        let batch_len = batch(2, 60, 0, 0).len();
        if at % batch_len < CHECKED_FROM {
            continue;
        }
        flip(&fs, &name, at);
        let found = scrub(&mut log);
        let damaged: Vec<_> = found.iter().filter(|(_, found)| found.is_err()).collect();
        assert!(
            matches!(damaged[..], [(at, _)] if *at == base),
            "{at}: {found:?}"
        );
        flip(&fs, &name, at);
    }
    let file = fs.open(&dir().join(&name), OpenMode::Existing).unwrap();
    file.set_len(size as u64 - 1).unwrap();
    assert!(scrub(&mut log).iter().any(|(_, found)| found.is_err()));
}

#[test]
fn a_flipped_bit_of_a_leader_epoch_was_never_found() {
    let (fs, mut log) = durable_log();
    let (name, base) = (name(&log, "log"), log.segments[1].base);
    let batch_len = batch(2, 60, 0, 0).len();
    for at in batch_len..batch_len + CHECKED_FROM {
        flip(&fs, &name, at);
        let found = scrub(&mut log);
        let damaged: Vec<_> = found.iter().filter(|(_, found)| found.is_err()).collect();
        assert!(
            matches!(damaged[..], [(at, _)] if *at == base),
            "{at}: {found:?}"
        );
        flip(&fs, &name, at);
    }
}

#[test]
fn damaged_cut_and_deleted_indexes_are_made_anew() {
    for suffix in ["index", "timeindex"] {
        let (fs, mut log) = durable_log();
        let expected = read_all(&log, Offset(0));
        let name = name(&log, suffix);
        let flips = len(&fs, &name);
        assert!(flips > 0);
        for at in 0..flips + 2 {
            let path = dir().join(&name);
            match at.checked_sub(flips) {
                None => flip(&fs, &name, at),
                Some(0) => fs.remove(&path).unwrap(),
                Some(_) => {
                    let file = fs.open(&path, OpenMode::Existing).unwrap();
                    file.set_len(flips as u64 - 1).unwrap();
                }
            }
            let renewed = |found: Vec<(Offset, Result<IndexVerdict, ScrubError>)>| {
                let found = found.into_iter().map(|(_, found)| found.unwrap());
                found
                    .filter(|found| *found == IndexVerdict::Damaged)
                    .count()
            };
            assert_eq!(renewed(scrub(&mut log)), 1, "{name} {at}");
            assert_eq!(renewed(scrub(&mut log)), 0, "{name} {at}");
            assert!(read_all(&log, Offset(0)) == expected, "{name} {at}");
        }
    }
}

#[test]
fn a_segment_that_went_meanwhile_is_not_touched() {
    let (_, mut log) = durable_log();
    let mut first = log.scrub_from(Offset(0)).unwrap();
    while first.step(200).unwrap() == ScrubStep::More {}
    let new = first.write_indexes().unwrap();
    log.delete_before(first.end()).unwrap().remove().unwrap();
    assert!(!log.holds(&first));
    assert!(!log.replace_indexes(&first, new).unwrap());
}

#[test]
fn a_segment_whose_file_was_deleted_is_missing() {
    let (fs, log) = durable_log();
    assert_eq!(log.segment_files().first_missing().unwrap(), None);
    let path = dir().join(name(&log, "log"));
    fs.remove(&path).unwrap();
    assert_eq!(log.segment_files().first_missing().unwrap(), Some(path));
}

#[test]
fn reads_go_on_without_an_index_that_was_deleted_or_cut() {
    for is_cut in [false, true] {
        let expected = read_all(&durable_log().1, Offset(0));
        let (fs, log) = durable_log();
        let path = dir().join(name(&log, "index"));
        if is_cut {
            let file = fs.open(&path, OpenMode::Existing).unwrap();
            file.set_len(0).unwrap();
        } else {
            fs.remove(&path).unwrap();
        }
        assert!(read_all(&log, Offset(0)) == expected);
    }
}
