//! Runs seeds: `cargo xtask sim` builds this and starts it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use broker_sim::{Cut, Outcome, Recording, Violation, shrink, simulate};
use clap::Parser;

/// Failing seeds that are printed.
const FAILURES_SHOWN_MAX: usize = 20;
const PROGRESS_EVERY: u64 = 10_000;

#[derive(Parser)]
#[command(
    name = "broker-sim",
    about = "Simulates the replication protocol under faults"
)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Only this one, cut down when it fails
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Print what happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Break one rule of the protocol after the other, and see that it is noticed
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

fn one(seed: u64, trace: bool) -> ExitCode {
    if trace {
        let outcome = simulate(seed, &Cut::default(), Recording::On);
        print_lines(&outcome);
        return verdict(outcome.violation.is_none());
    }
    let shortest = shrink(seed);
    match &shortest {
        None => println!("seed {seed} holds every invariant"),
        Some(shortest) => explain(seed, shortest),
    }
    verdict(shortest.is_none())
}

fn explain(seed: u64, (cut, outcome): &(Cut, Outcome)) {
    println!("\nseed {seed}, the shortest failing run, without {cut}:\n");
    print_lines(outcome);
}

fn print_lines(outcome: &Outcome) {
    for line in &outcome.lines {
        println!("{line}");
    }
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
    let first = totals.failures.iter().map(|(seed, _)| *seed).min();
    if let Some((seed, shortest)) = first.and_then(|seed| Some((seed, shrink(seed)?))) {
        explain(seed, &shortest);
    }
    println!(
        "{count} seeds from {start}: {} violations, {:.0} seeds per second, {} events, {} records committed",
        totals.failures.len(),
        count as f64 / seconds,
        totals.events,
        totals.committed
    );
    verdict(totals.failures.is_empty())
}

#[derive(Default)]
struct Totals {
    failures: Vec<(u64, Violation)>,
    events: u64,
    committed: u64,
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
            let outcome = simulate(start + index, &Cut::default(), Recording::Off);
            let mut totals = totals.lock().expect("no run panics");
            totals.events += outcome.events;
            totals.committed += outcome.committed;
            totals.runs += 1;
            if let Some(violation) = outcome.violation {
                totals.failures.push((start + index, violation));
                if violated(&totals) != Next::GoOn {
                    next.store(count, Ordering::Relaxed);
                }
            }
            if totals.runs.is_multiple_of(PROGRESS_EVERY) {
                println!(
                    "{} seeds, {} violations",
                    totals.runs,
                    totals.failures.len()
                );
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

    use broker_core::mutation::{Mutation, activate};

    use super::{Next, verdict};

    /// Breaks each rule, and counts the seeds that it takes to notice.
    pub(super) fn run(seeds_max: u64) -> ExitCode {
        let mut unnoticed = 0;
        println!("{:<27} {:>6}  noticed as", "broken rule", "seeds");
        for mutation in Mutation::ALL {
            activate(Some(*mutation));
            let totals = super::run(0, seeds_max, |_| Next::Stop);
            let first = totals.failures.iter().min_by_key(|(seed, _)| *seed);
            let name = format!("{mutation:?}");
            match first {
                Some((seed, violation)) => {
                    println!("{name:<27} {:>6}  {}", seed + 1, violation.invariant);
                }
                None => {
                    unnoticed += 1;
                    println!("{name:<27} {:>6}  NOT NOTICED", totals.runs);
                }
            }
        }
        activate(None);
        verdict(unnoticed == 0)
    }
}
