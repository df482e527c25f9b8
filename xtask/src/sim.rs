//! `cargo xtask sim`: builds the simulation for release and runs seeds.

use anyhow::Result;

use crate::process::run;
use crate::workspace::cargo;

const CI_SEEDS: u64 = 2_000;
/// Every broken rule is noticed within so many seeds.
const MUTATION_SEEDS_MAX: u64 = 10_000;

const MUTATIONS: [&str; 2] = ["--features", "mutations"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Only this seed; one that fails is cut down and shown
    #[arg(long, conflicts_with_all = ["seeds", "start", "mutations"])]
    seed: Option<u64>,
    /// Show all that happens, with --seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Break one rule of the protocol after the other, and see that it is noticed
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    mutations: bool,
}

pub(crate) fn run_sim(arguments: &Arguments) -> Result<()> {
    if arguments.mutations {
        return run_mutations();
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
    let seeds = ["--seeds".to_owned(), CI_SEEDS.to_string()];
    // The same build for both: no rule is broken unless one is asked for.
    simulation(&MUTATIONS, &seeds)?;
    run_mutations()
}

fn run_seeds(start: u64, seeds: u64) -> Result<()> {
    let (start, seeds) = (start.to_string(), seeds.to_string());
    simulation(
        &[],
        &["--start".to_owned(), start, "--seeds".to_owned(), seeds],
    )
}

fn run_mutations() -> Result<()> {
    let seeds = MUTATION_SEEDS_MAX.to_string();
    let args = ["--mutations".to_owned(), "--seeds".to_owned(), seeds];
    simulation(&MUTATIONS, &args)
}

fn simulation(build: &[&str], args: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--locked"]);
    command.args(["--package", "broker-sim"]).args(build);
    run(command.arg("--").args(args))
}
