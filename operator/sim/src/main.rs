//! Runs seeds: `cargo xtask operator-sim` builds this and starts it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use clap::Parser;
use operator_sim::{Recording, Violation, simulate};

/// Failing seeds that are printed.
const FAILURES_SHOWN_MAX: usize = 20;
const PROGRESS_EVERY: u64 = 1_000;

#[derive(Parser)]
#[command(
    name = "operator-sim",
    about = "Simulates the operator against a cluster under faults"
)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Only this one
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Print what happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Break one rule of the planners after the other, and see that it is noticed
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutations")]
    if arguments.mutations {
        return mutations::run(arguments.seeds);
    }
    match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => many(arguments.start, arguments.seeds),
    }
}

/// With the trace if that is asked for, or if it fails.
fn one(seed: u64, trace: bool) -> ExitCode {
    let outcome = simulate(seed, Recording::On);
    if trace || outcome.violation.is_some() {
        for line in &outcome.lines {
            println!("{line}");
        }
    }
    match &outcome.violation {
        None => println!("seed {seed} holds every invariant"),
        Some(violation) => println!("seed {seed}: {violation}"),
    }
    verdict(outcome.violation.is_none())
}

fn many(start: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let totals = run(start, count, |totals| {
        if let Some((seed, violation)) = totals.failures.last()
            && totals.failures.len() <= FAILURES_SHOWN_MAX
        {
            println!("seed {seed}: {violation}");
        }
        Next::GoOn
    });
    let seconds = began.elapsed().as_secs_f64();
    if let Some(first) = totals.failures.iter().map(|(seed, _)| *seed).min() {
        println!();
        one(first, true);
    }
    println!(
        "{count} seeds from {start}: {} violations, {:.0} seeds per second, {} simulated hours",
        totals.failures.len(),
        count as f64 / seconds,
        totals.simulated_seconds / 3600
    );
    verdict(totals.failures.is_empty())
}

#[derive(Default)]
struct Totals {
    failures: Vec<(u64, Violation)>,
    simulated_seconds: i64,
    runs: u64,
}

/// What to do after a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    #[cfg(feature = "mutations")]
    Stop,
}

/// Runs seeds on all cores. `violated` is called with every violation, the newest at the end.
fn run(start: u64, count: u64, violated: impl Fn(&Totals) -> Next + Sync) -> Totals {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let outcome = simulate(start + index, Recording::Off);
            let mut totals = totals.lock().expect("no run panics");
            totals.simulated_seconds += outcome.seconds;
            totals.runs += 1;
            if let Some(violation) = outcome.violation {
                totals.failures.push((start + index, violation));
                if violated(&totals) != Next::GoOn {
                    next.store(count, Ordering::Relaxed);
                }
            }
            if totals.runs.is_multiple_of(PROGRESS_EVERY) {
                let (runs, failures) = (totals.runs, totals.failures.len());
                println!("{runs} seeds, {failures} violations");
            }
        }
    };
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    totals.into_inner().expect("no run panics")
}

const fn verdict(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(feature = "mutations")]
mod mutations {
    use std::process::ExitCode;

    use operator_plan::mutation::{Mutation, activate};

    use super::{Next, verdict};

    /// Breaks each rule, and counts the seeds that it takes to notice.
    pub(super) fn run(seeds_max: u64) -> ExitCode {
        let mut unnoticed = 0;
        println!("{:<24} {:>6}  noticed as", "broken rule", "seeds");
        for mutation in Mutation::ALL {
            activate(Some(*mutation));
            let totals = super::run(0, seeds_max, |_| Next::Stop);
            let first = totals.failures.iter().min_by_key(|(seed, _)| *seed);
            let name = format!("{mutation:?}");
            match first {
                Some((seed, violation)) => {
                    println!("{name:<24} {:>6}  {}", seed + 1, violation.invariant);
                }
                None => {
                    unnoticed += 1;
                    println!("{name:<24} {:>6}  NOT NOTICED", totals.runs);
                }
            }
        }
        activate(None);
        verdict(unnoticed == 0)
    }
}
