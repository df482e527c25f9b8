//! Cuts a failing run down to what it needs to fail in the same way.

use crate::plan::{Cut, Plan};
use crate::{Outcome, Recording, simulate};

/// Runs that are tried.
const ATTEMPTS_MAX: usize = 300;

/// The shortest failing run that was found, with its trace; `None` when the seed does not fail.
#[must_use]
pub fn shrink(seed: u64) -> Option<(Cut, Outcome)> {
    let full = simulate(seed, &Cut::default(), Recording::Off);
    let invariant = full.violation.as_ref()?.invariant;
    let mut best = (Cut::default(), full.events);
    let mut attempts = 0;
    loop {
        let before = best.0.clone();
        for cut in further_cuts(seed, &before) {
            attempts += 1;
            let outcome = simulate(seed, &cut, Recording::Off);
            let fails = outcome
                .violation
                .is_some_and(|found| found.invariant == invariant);
            if fails && outcome.events <= best.1 {
                best = (cut, outcome.events);
                break;
            }
        }
        if best.0 == before || attempts > ATTEMPTS_MAX {
            break;
        }
    }
    let outcome = simulate(seed, &best.0, Recording::On);
    Some((best.0, outcome))
}

/// The cuts that leave out one thing more, the largest things first.
fn further_cuts(seed: u64, cut: &Cut) -> Vec<Cut> {
    let plan = Plan::new(seed, &Cut::default());
    let mut cuts = Vec::new();
    if !cut.noise {
        cuts.push(Cut {
            noise: true,
            ..cut.clone()
        });
    }
    if cut.topics + 1 < plan.topics.len() {
        cuts.push(Cut {
            topics: cut.topics + 1,
            ..cut.clone()
        });
    }
    if cut.producers + 1 < plan.producers.len() {
        cuts.push(Cut {
            producers: cut.producers + 1,
            ..cut.clone()
        });
    }
    for fault in (0..plan.faults.len()).filter(|fault| !cut.faults.contains(fault)) {
        let mut next = cut.clone();
        next.faults.push(fault);
        cuts.push(next);
    }
    cuts
}
