//! The operator in one thread: its planners against models of the API server, of Kubernetes and of the
//! brokers, which fail as a seed says.
//!
//! The same seed gives the same run, byte for byte: nothing here reads a clock, starts a thread or
//! iterates over a hash table. `docs/operator-simulation.md` says what is modelled and what is not.

mod admin;
mod api;
mod brokers;
mod check;
mod clock;
mod kubernetes;
mod operator;
mod random;
mod story;
mod trace;
mod world;

pub use check::Violation;

use story::Story;
use trace::Trace;

/// What one seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// Simulated seconds.
    pub seconds: i64,
    /// Changes of anything that an operator can see.
    pub changes: u64,
    /// What happened, when it was recorded.
    pub lines: Vec<String>,
}

/// Whether a run writes down what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    Off,
    On,
}

/// Runs what the seed stands for.
#[must_use]
pub fn simulate(seed: u64, recording: Recording) -> Outcome {
    let trace = match recording {
        Recording::Off => Trace::default(),
        Recording::On => Trace::recording(),
    };
    let finished = world::run(Story::new(seed), trace);
    Outcome {
        violation: finished.violation,
        seconds: finished.seconds,
        changes: finished.version,
        lines: finished.lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run_byte_for_byte() {
        for seed in [3, 7, 11] {
            let first = simulate(seed, Recording::On);
            let second = simulate(seed, Recording::On);
            assert!(first.lines.len() > 20, "seed {seed} does next to nothing");
            assert_eq!(first.lines, second.lines);
            let unrecorded = simulate(seed, Recording::Off);
            assert_eq!(unrecorded.changes, first.changes);
        }
    }

    #[test]
    fn a_few_seeds_hold_every_invariant() {
        for seed in 0..60 {
            let outcome = simulate(seed, Recording::Off);
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
    }
}
