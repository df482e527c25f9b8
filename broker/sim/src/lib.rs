//! The whole replication protocol in one thread: brokers of real replicas, logs and controller
//! decisions, on disks, networks and clocks that fail as a seed says.
//!
//! The same seed gives the same run, byte for byte: nothing here reads a clock, starts a thread or
//! iterates over a hash table. `docs/simulation.md` says what is modelled and what is not.

mod check;
mod client;
mod env;
mod event;
mod network;
mod node;
mod plan;
mod quorum;
mod random;
mod shrink;
mod trace;
mod world;

pub use check::Violation;
pub use plan::Cut;
pub use shrink::shrink;

use plan::Plan;
use trace::Trace;

/// What one seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// Events of the run.
    pub events: u64,
    /// Records that were committed.
    pub committed: u64,
    /// What happened, when it was recorded.
    pub lines: Vec<String>,
}

/// Whether a run writes down what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    Off,
    On,
}

/// Runs what the seed stands for, without what `cut` leaves out.
#[must_use]
pub fn simulate(seed: u64, cut: &Cut, recording: Recording) -> Outcome {
    let trace = match recording {
        Recording::Off => Trace::default(),
        Recording::On => Trace::recording(),
    };
    let finished = world::run(Plan::new(seed, cut), trace);
    Outcome {
        violation: finished.violation,
        events: finished.events,
        committed: finished.committed,
        lines: finished.lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run_byte_for_byte() {
        for seed in [3, 7, 11] {
            let first = simulate(seed, &Cut::default(), Recording::On);
            let second = simulate(seed, &Cut::default(), Recording::On);
            assert!(first.lines.len() > 20, "seed {seed} does next to nothing");
            assert_eq!(first.lines, second.lines);
            let unrecorded = simulate(seed, &Cut::default(), Recording::Off);
            assert_eq!(unrecorded.events, first.events);
        }
    }

    #[test]
    fn a_few_seeds_hold_every_invariant() {
        let mut committing = 0;
        for seed in 0..30 {
            let outcome = simulate(seed, &Cut::default(), Recording::Off);
            assert_eq!(outcome.violation, None, "seed {seed}");
            committing += usize::from(outcome.committed > 0);
        }
        // Faults may last until the workload is over, but not often.
        assert!(committing >= 25, "only {committing} seeds commit anything");
    }
}
