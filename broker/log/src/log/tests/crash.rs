//! The process or the machine stops at every single operation of the file system: what is found again
//! must be a prefix of what was there, and hold everything that was promised.

use proptest::prelude::*;

use super::owner::{Loss, Owner, Step, Stop};
use super::*;
use crate::fs::memory::{Fault, FaultSpan};
use crate::log::ScrubStep;

/// Draws of what a power failure leaves, for each operation.
const SEEDS: u64 = 4;

pub(super) fn append(count: usize, len: usize, timestamp: i64) -> Step {
    Step::Append {
        sizes: vec![(count, len)],
        timestamp,
    }
}

fn appends(n: usize) -> impl Iterator<Item = Step> {
    (0..n).map(|i| append(1 + i % 3, 20 + 37 * i % 110, 10 * i as i64))
}

/// A log that grows, is checkpointed, and whose broker is restarted.
pub(super) fn growing() -> Vec<Step> {
    let mut steps: Vec<_> = appends(8).collect();
    steps.push(Step::Flush);
    steps.push(Step::NewEpoch);
    steps.extend(appends(5));
    steps.push(Step::Checkpoint { meanwhile: true });
    steps.push(Step::Append {
        sizes: vec![(1, 200), (2, 150), (1, 90), (3, 60)],
        timestamp: 99,
    });
    steps.push(Step::Flush);
    steps.push(Step::Reopen(Stop::Killed));
    steps.extend(appends(4));
    steps.push(Step::Reopen(Stop::Clean));
    steps.push(Step::NewEpoch);
    steps.extend(appends(6));
    steps.push(Step::Checkpoint { meanwhile: false });
    steps
}

/// A follower whose leaders change: it is cut again and again.
pub(super) fn truncated() -> Vec<Step> {
    let mut steps: Vec<_> = appends(7).collect();
    steps.push(Step::Checkpoint { meanwhile: false });
    steps.push(Step::Truncate(60));
    steps.push(Step::AppendAsFollower { gap: 0 });
    steps.push(Step::Flush);
    steps.push(Step::Truncate(30));
    steps.extend(appends(6));
    steps.push(Step::Checkpoint { meanwhile: true });
    steps.push(Step::Truncate(95));
    steps.push(Step::Reopen(Stop::Killed));
    steps.push(Step::AppendAsFollower { gap: 3 });
    steps.push(Step::Truncate(1));
    steps.push(Step::Checkpoint { meanwhile: false });
    steps.push(Step::AppendAsFollower { gap: 0 });
    steps.push(Step::Flush);
    steps
}

/// A log that loses its front, and starts over.
pub(super) fn shortened() -> Vec<Step> {
    let mut steps: Vec<_> = appends(9).collect();
    steps.push(Step::Checkpoint { meanwhile: false });
    steps.push(Step::DeleteBefore(40));
    steps.extend(appends(3));
    steps.push(Step::Retain(700));
    steps.push(Step::WriteCheckpoints);
    steps.push(Step::Flush);
    steps.push(Step::DeleteBefore(100));
    steps.push(Step::StartOver(20));
    steps.push(Step::AppendAsFollower { gap: 0 });
    steps.push(Step::Flush);
    steps.push(Step::Reopen(Stop::Killed));
    steps.extend(appends(5));
    steps.push(Step::Checkpoint { meanwhile: true });
    steps.push(Step::Retain(0));
    steps.push(Step::StartOver(-3));
    steps.extend(appends(3));
    steps.push(Step::Flush);
    steps.push(Step::Reopen(Stop::Clean));
    steps.extend(appends(2));
    steps
}

/// Runs a history until the operation `after` fails, and stops there. Whether it was reached.
fn stopped(history: &[Step], seed: u64, after: u64, loss: Loss) -> (Owner, bool) {
    let mut owner = Owner::new(seed);
    owner
        .disk
        .fail_after(after, Fault::Crash, FaultSpan::Lasting);
    let done = owner.open().is_ok() && history.iter().all(|step| owner.apply(step).is_ok());
    owner.stop(loss);
    (owner, !done)
}

/// Stops at every operation.
fn stop_everywhere(history: &[Step]) {
    for loss in [Loss::Process, Loss::Power] {
        for seed in 1..=SEEDS {
            for after in 0.. {
                let (mut owner, reached) = stopped(history, seed, after, loss);
                owner.recover();
                owner.apply(&append(2, 50, 1000)).unwrap();
                owner.apply(&Step::Checkpoint { meanwhile: false }).unwrap();
                owner.stop(Loss::Power);
                owner.recover();
                if !reached {
                    break;
                }
            }
        }
    }
}

/// Stops at every operation, and at every operation of the recovery from that.
fn stop_recovery_everywhere(history: &[Step]) {
    for after in 0.. {
        let (owner, reached) = stopped(history, 1 + after, after, Loss::Power);
        for again in 0.. {
            let mut owner = owner.fork();
            owner
                .disk
                .fail_after(again, Fault::Crash, FaultSpan::Lasting);
            let recovered = owner.open().is_ok();
            owner.stop(Loss::Power);
            owner.recover();
            if recovered {
                break;
            }
        }
        if !reached {
            break;
        }
    }
}

#[test]
fn a_growing_log_survives_a_stop_at_every_operation() {
    stop_everywhere(&growing());
}

#[test]
fn a_truncated_log_survives_a_stop_at_every_operation() {
    stop_everywhere(&truncated());
}

#[test]
fn a_shortened_log_survives_a_stop_at_every_operation() {
    stop_everywhere(&shortened());
}

#[test]
fn every_recovery_survives_a_stop_at_every_operation() {
    for history in [growing(), truncated(), shortened()] {
        stop_recovery_everywhere(&history);
    }
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop::collection::vec((1..4usize, 0..150usize), 1..4);
    prop_oneof![
        12 => (sizes, 0..500i64).prop_map(|(sizes, timestamp)| Step::Append { sizes, timestamp }),
        2 => (0..4i64).prop_map(|gap| Step::AppendAsFollower { gap }),
        2 => Just(Step::NewEpoch),
        3 => Just(Step::Flush),
        3 => any::<bool>().prop_map(|meanwhile| Step::Checkpoint { meanwhile }),
        1 => Just(Step::WriteCheckpoints),
        2 => (0..100u8).prop_map(Step::Truncate),
        1 => (-9..9i64).prop_map(Step::StartOver),
        1 => (0..=100u8).prop_map(Step::DeleteBefore),
        1 => (0..2000u64).prop_map(Step::Retain),
        1 => Just(Step::Reopen(Stop::Killed)),
        1 => Just(Step::Reopen(Stop::Clean)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_survive_stops(
        seed in any::<u64>(),
        runs in prop::collection::vec(
            (prop::collection::vec(step(), 1..40), 0..400u64, any::<bool>()), 1..5),
    ) {
        let mut owner = Owner::new(seed);
        owner.open().unwrap();
        for (history, after, power) in &runs {
            owner.disk.fail_after(*after, Fault::Crash, FaultSpan::Lasting);
            let _ = history.iter().try_for_each(|step| owner.apply(step));
            owner.stop(if *power { Loss::Power } else { Loss::Process });
            owner.recover();
            scrub_all(owner.log());
        }
    }
}

/// Nothing is damaged, so nothing may be called damaged.
fn scrub_all(log: &Log) {
    let mut next = Offset(0);
    while let Some(mut scrub) = log.scrub_from(next) {
        next = scrub.end();
        while scrub.step(1 << 20).unwrap() == ScrubStep::More {}
    }
}
