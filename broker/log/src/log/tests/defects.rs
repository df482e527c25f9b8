//! Defects that were found by stopping and failing at every operation, each with the shortest history
//! that shows it.

use super::crash::append;
use super::owner::{Loss, Owner, Step, Stop};
use super::*;
use crate::error::StorageError;
use crate::fs::OpenMode;
use crate::fs::memory::{Fault, FaultSpan};

/// Power failures that are drawn; each leaves something else.
const DRAWS: u64 = 40;

/// Runs a history, then stops with the loss of all that is not promised, as often as there are draws.
fn after_power_failures(history: &[Step], check: impl Fn(&mut Owner)) {
    for seed in 1..=DRAWS {
        let mut owner = Owner::new(seed);
        owner.open().unwrap();
        for step in history {
            owner.apply(step).unwrap();
        }
        owner.stop(Loss::Power);
        owner.recover();
        check(&mut owner);
    }
}

#[test]
fn a_new_data_directory_survives_a_power_failure() {
    after_power_failures(&[append(2, 50, 1), Step::Flush], |owner| {
        assert_eq!(owner.log().end_offset(), Offset(2));
    });
}

#[test]
fn a_deleted_segment_that_comes_back_takes_no_flushed_records_with_it() {
    let big = || append(1, 400, 1);
    let history = [big(), big(), big(), Step::DeleteBefore(67), Step::Flush];
    after_power_failures(&history, |owner| {
        assert_eq!(owner.log().end_offset(), Offset(3));
    });
}

#[test]
fn a_deleted_segment_that_comes_back_torn_is_not_taken_for_lost_records() {
    let big = || append(1, 400, 1);
    let history = [
        big(),
        big(),
        big(),
        Step::DeleteBefore(67),
        Step::WriteCheckpoints,
    ];
    after_power_failures(&history, |_| {});
}

#[test]
fn a_truncation_does_not_bring_deleted_records_back() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    for step in [
        append(10, 5, 1),
        append(1, 5, 1),
        Step::Checkpoint { meanwhile: false },
        Step::DeleteBefore(40),
        Step::WriteCheckpoints,
        Step::Truncate(99),
        Step::Reopen(Stop::Killed),
    ] {
        owner.apply(&step).unwrap();
    }
    assert_eq!(owner.log().start_offset(), Offset(4));
}

#[test]
fn a_truncation_that_failed_was_forgotten_with_the_next_checkpoint() {
    for after in 0..20 {
        let mut owner = Owner::new(1);
        owner.open().unwrap();
        for step in [
            append(3, 50, 1),
            append(3, 50, 1),
            Step::Checkpoint { meanwhile: false },
        ] {
            owner.apply(&step).unwrap();
        }
        owner.disk.fail_after(after, Fault::Io, FaultSpan::Once);
        let _ = owner.apply(&Step::Truncate(60));
        let _ = owner.apply(&Step::WriteCheckpoints);
        owner.stop(Loss::Process);
        owner.recover();
    }
}

#[test]
fn starting_over_below_the_checkpointed_start_keeps_what_is_flushed_there() {
    let history = [
        append(3, 50, 1),
        append(3, 50, 1),
        Step::DeleteBefore(100),
        Step::WriteCheckpoints,
        Step::StartOver(-3),
        Step::AppendAsFollower { gap: 0 },
        Step::Flush,
    ];
    after_power_failures(&history, |owner| {
        assert_eq!(owner.log().start_offset(), Offset(3));
        assert_eq!(owner.log().end_offset(), Offset(6));
    });
}

#[test]
fn starting_over_that_was_cut_short_is_not_taken_for_lost_records() {
    for after in 0..20 {
        let mut owner = Owner::new(1);
        owner.open().unwrap();
        for step in [
            append(3, 50, 1),
            Step::Checkpoint { meanwhile: false },
            Step::DeleteBefore(100),
        ] {
            owner.apply(&step).unwrap();
        }
        owner
            .disk
            .fail_after(after, Fault::Crash, FaultSpan::Lasting);
        let _ = owner.apply(&Step::StartOver(20));
        owner.stop(Loss::Process);
        owner.recover();
    }
}

#[test]
fn epochs_that_were_forgotten_before_the_start_was_checkpointed_are_read_again() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    for step in [
        append(2, 50, 1),
        Step::NewEpoch,
        append(2, 50, 1),
        append(2, 50, 1),
        Step::DeleteBefore(80),
        // Writes the epochs, and is cut short before it writes the start.
        Step::Checkpoint { meanwhile: false },
        Step::Reopen(Stop::Killed),
    ] {
        owner.apply(&step).unwrap();
    }
    owner.stop(Loss::Process);
    let fs: Arc<dyn Fs> = Arc::new(owner.disk.clone());
    let (log, _) = open_with(&fs, small(), FRESH).unwrap();
    assert_eq!(log.epochs().epoch_of(Offset(0)), Some(LeaderEpoch(0)));
    assert_eq!(log.epochs().epoch_of(Offset(5)), Some(LeaderEpoch(1)));
}

#[test]
fn a_lost_or_outdated_epoch_file_is_rebuilt() {
    for contents in [None, Some("0\n1\n0 0\n"), Some("0\n2\n0 0\n3 4\n")] {
        let mut owner = Owner::new(1);
        owner.open().unwrap();
        for step in [append(2, 50, 1), Step::NewEpoch, append(2, 50, 1)] {
            owner.apply(&step).unwrap();
        }
        owner.apply(&Step::Checkpoint { meanwhile: true }).unwrap();
        owner.stop(Loss::Process);
        let fs: Arc<dyn Fs> = Arc::new(owner.disk.clone());
        let path = dir().join("leader-epoch-checkpoint");
        match contents {
            None => fs.remove(&path).unwrap(),
            Some(text) => {
                let file = fs.open(&path, OpenMode::Truncate).unwrap();
                file.write_at(text.as_bytes(), 0).unwrap();
            }
        }
        owner.recover();
    }
}

#[test]
fn a_cut_that_a_killed_process_began_is_not_undone_by_a_power_failure() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    for step in [append(1, 100, 1), append(1, 100, 1), Step::Flush] {
        owner.apply(&step).unwrap();
    }
    owner.stop(Loss::Process);
    for after in 0..12 {
        for draw in 0..DRAWS {
            let mut owner = owner.fork();
            (0..draw).for_each(|_| owner.disk.draw());
            owner.open().unwrap();
            owner
                .disk
                .fail_after(after, Fault::Crash, FaultSpan::Lasting);
            let _ = owner.apply(&Step::Truncate(60));
            owner.stop(Loss::Process);
            owner.recover();
            owner.apply(&append(1, 70, 9)).unwrap();
            owner.stop(Loss::Power);
            owner.recover();
        }
    }
}

#[test]
fn half_an_append_is_taken_back_though_the_disk_is_full() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    owner.apply(&append(1, 300, 1)).unwrap();
    owner.apply(&Step::Checkpoint { meanwhile: false }).unwrap();
    let end = owner.log().end_offset();
    let two_segments = Step::Append {
        sizes: vec![(1, 100), (1, 400)],
        timestamp: 1,
    };
    let mut refusals = 0;
    for capacity in (400..2000).step_by(3) {
        owner.disk.set_capacity(capacity);
        match owner.apply(&two_segments) {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, StorageError::NoSpace), "{error}"),
        }
        assert_eq!(owner.log().end_offset(), end, "at capacity {capacity}");
        owner.check();
        refusals += 1;
    }
    assert!(refusals > 10, "{refusals}");
    owner.disk.set_capacity(u64::MAX);
    owner.apply(&two_segments).unwrap();
    owner.check();
}

#[test]
fn a_segment_that_cannot_be_renamed_leaves_no_hole() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    for _ in 0..4 {
        owner.apply(&append(1, 400, 1)).unwrap();
    }
    owner.apply(&Step::Flush).unwrap();
    owner.disk.fail_after(0, Fault::NoSpace, FaultSpan::Once);
    let refused = owner.apply(&Step::DeleteBefore(50));
    assert!(matches!(refused, Err(StorageError::NoSpace)), "{refused:?}");
    owner.apply(&Step::DeleteBefore(80)).unwrap();
    owner.stop(Loss::Process);
    owner.recover();
    assert_eq!(owner.log().end_offset(), Offset(4));
}

#[test]
fn a_failed_sync_at_a_roll_is_not_tried_again() {
    let mut owner = Owner::new(1);
    owner.open().unwrap();
    owner.apply(&append(1, 100, 1)).unwrap();
    owner.apply(&append(1, 100, 2)).unwrap();
    owner.apply(&Step::Checkpoint { meanwhile: false }).unwrap();
    // The entry that seals the index, then the sync.
    owner.disk.fail_after(1, Fault::NoSpace, FaultSpan::Once);
    let refused = owner.apply(&append(1, 500, 3));
    assert!(matches!(refused, Err(StorageError::Io(_))), "{refused:?}");
    assert!(owner.log().is_failed());
}

#[test]
fn records_that_a_failed_sync_dropped_are_written_again_by_the_next_process() {
    for failing in 0..2 {
        let mut owner = Owner::new(1);
        owner.open().unwrap();
        let big = || append(1, 400, 1);
        for step in [big(), big(), Step::Checkpoint { meanwhile: false }, big()] {
            owner.apply(&step).unwrap();
        }
        owner.apply(&big()).unwrap();
        owner.disk.fail_after(failing, Fault::Io, FaultSpan::Once);
        owner.apply(&Step::Flush).unwrap_err();
        owner.stop(Loss::Process);
        owner.open().unwrap();
        owner.apply(&Step::Checkpoint { meanwhile: false }).unwrap();
        owner.stop(Loss::Power);
        owner.recover();
        assert_eq!(owner.log().end_offset(), Offset(4));
    }
}

#[test]
fn a_torn_write_that_a_full_disk_keeps_takes_no_later_segment_with_it() {
    for seed in 1..=DRAWS {
        let mut owner = Owner::new(seed);
        owner.open().unwrap();
        owner.apply(&append(1, 100, 1)).unwrap();
        owner.disk.fail_after(0, Fault::NoSpace, FaultSpan::Lasting);
        let refused = owner.apply(&append(1, 300, 1));
        assert!(matches!(refused, Err(StorageError::NoSpace)), "{refused:?}");
        owner.disk.heal();
        owner.apply(&append(1, 10, 1)).unwrap();
        owner.apply(&append(1, 500, 1)).unwrap();
        owner.stop(Loss::Process);
        owner.recover();
        assert_eq!(owner.log().end_offset(), Offset(3));
    }
}
