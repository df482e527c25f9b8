//! Bit rot, truncation and deletion of every file of a log: noticed, or without effect; never other
//! records than those that were appended.

use super::owner::{Loss, Owner, Step, Stop};
use super::*;
use crate::SliceError;
use crate::error::ReadError;
use crate::fs::OpenMode;

/// Base offset and leader epoch lie outside of a batch's checksum: the leader writes them.
const UNCHECKED: [std::ops::Range<usize>; 2] = [0..8, 12..16];
const STRIDE: usize = 7;

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Gone,
}

/// A log of several segments that is durable to its end.
fn durable_log(stop: Stop) -> Owner {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    for i in 0..9 {
        let sizes = vec![(1 + i % 2, 60), (2, 50)];
        owner
            .apply(&Step::Append {
                sizes,
                timestamp: i as i64,
            })
            .unwrap();
        if i == 4 {
            owner.apply(&Step::NewEpoch).unwrap();
        }
    }
    owner.apply(&Step::Checkpoint { meanwhile: false }).unwrap();
    if stop == Stop::Clean {
        owner.close_cleanly().unwrap();
    }
    owner.stop(Loss::Process);
    owner
}

fn damage(owner: &Owner, name: &str, damage: Damage) {
    let fs: Arc<dyn Fs> = Arc::new(owner.disk.clone());
    let path = dir().join(name);
    let file = fs.open(&path, OpenMode::Existing).unwrap();
    match damage {
        Damage::Flip(at) => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_at(&[byte[0] ^ 0x10], at as u64).unwrap();
        }
        Damage::Cut(len) => file.set_len(len as u64).unwrap(),
        Damage::Gone => fs.remove(&path).unwrap(),
    }
}

/// Whether anybody was told. Otherwise all of the log is there as it was.
fn is_noticed(owner: &mut Owner, what: &str) -> bool {
    let written: Vec<u8> = owner
        .model
        .batches
        .iter()
        .flat_map(|b| b.bytes.clone())
        .collect();
    if owner.open().is_err() {
        return true;
    }
    let log = owner.log();
    let (mut next, end) = (log.start_offset(), log.end_offset());
    let mut read = Vec::new();
    while next < end {
        let slice = match log.read(next, end, 150, MinOneBatch::Yes) {
            Ok(Some(slice)) => slice,
            Ok(None) => break,
            Err(ReadError::Corrupt { .. }) => return true,
            Err(error) => panic!("{what}: {error}"),
        };
        match slice.read_verified() {
            Ok(bytes) => {
                let last = batches(&bytes).last().unwrap().unwrap().0;
                next = Offset(last.next_offset());
                read.extend_from_slice(&bytes);
            }
            Err(SliceError::Damaged { .. }) => return true,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert!(read == written, "{what}: other records than were appended");
    false
}

fn damage_everywhere(stop: Stop) {
    let owner = durable_log(stop);
    let fs: Arc<dyn Fs> = Arc::new(owner.disk.clone());
    let mut noticed = 0;
    for entry in fs.list(&dir()).unwrap() {
        let file = fs
            .open(&dir().join(&entry.name), OpenMode::Existing)
            .unwrap();
        let len = file.len().unwrap() as usize;
        let flips = (0..len).step_by(STRIDE).map(Damage::Flip);
        let cuts = (0..len).step_by(STRIDE).map(Damage::Cut);
        let is_log = entry.name.ends_with(".log");
        let unchecked: Vec<_> = (0..len)
            .filter(|at| is_log && is_unchecked(&*file, *at))
            .collect();
        // After a kill, the first segment may have been deleted since the last checkpoint.
        let is_first = entry.name.starts_with("00000000000000000000.");
        let gone = (stop == Stop::Clean || !is_first).then_some(Damage::Gone);
        for kind in flips.chain(cuts).chain(gone) {
            if matches!(kind, Damage::Flip(at) if unchecked.contains(&at)) {
                continue;
            }
            let mut owner = owner.fork();
            damage(&owner, &entry.name, kind);
            let what = format!("{} {kind:?} after {stop:?}", entry.name);
            let is_noticed = is_noticed(&mut owner, &what);
            assert!(is_noticed || !is_log, "{what} was not noticed");
            noticed += usize::from(is_noticed);
        }
    }
    assert!(noticed > 100);
}

fn is_unchecked(file: &dyn crate::fs::FsFile, at: usize) -> bool {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut start = 0;
    for batch in batches(&bytes) {
        let len = batch.unwrap().1.len();
        if (start..start + len).contains(&at) {
            return UNCHECKED.iter().any(|bytes| bytes.contains(&(at - start)));
        }
        start += len;
    }
    false
}

#[test]
fn damage_to_any_file_is_noticed_or_without_effect_after_a_clean_stop() {
    damage_everywhere(Stop::Clean);
}

#[test]
fn damage_to_any_file_is_noticed_or_without_effect_after_a_kill() {
    damage_everywhere(Stop::Killed);
}
