//! `cargo xtask operator-sim`: builds the simulation of the operator and runs seeds. Not for release:
//! arithmetic stays checked, and the planners are optimised in every profile.

use anyhow::Result;

use crate::process::run;
use crate::workspace::cargo;

const CI_SEEDS: u64 = 300;
/// A broken rule that shows in none of so many seeds is not noticed.
const MUTATION_SEEDS_MAX: u64 = 10_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Only this seed
    #[arg(long, conflicts_with_all = ["seeds", "start", "mutations"])]
    seed: Option<u64>,
    /// Show all that happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Break one rule of the planners after the other, and see that it is noticed
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    mutations: bool,
}

pub(crate) fn run_operator_sim(arguments: &Arguments) -> Result<()> {
    if arguments.mutations {
        let seeds = MUTATION_SEEDS_MAX.to_string();
        let args = ["--mutations".to_owned(), "--seeds".to_owned(), seeds];
        return simulation(&["--features", "mutations"], &args);
    }
    let Some(seed) = arguments.seed else {
        return run_seeds(arguments.start, arguments.seeds);
    };
    let mut args = vec!["--seed".to_owned(), seed.to_string()];
    if arguments.trace {
        args.push("--trace".to_owned());
    }
    simulation(&[], &args)
}

/// What the step `sim` of the tests does.
pub(crate) fn run_for_ci() -> Result<()> {
    run_seeds(0, CI_SEEDS)
}

fn run_seeds(start: u64, seeds: u64) -> Result<()> {
    let (start, seeds) = (start.to_string(), seeds.to_string());
    simulation(
        &[],
        &["--start".to_owned(), start, "--seeds".to_owned(), seeds],
    )
}

fn simulation(build: &[&str], args: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "--package", "operator-sim"]);
    run(command.args(build).arg("--").args(args))
}
