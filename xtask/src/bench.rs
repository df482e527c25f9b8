//! `cargo xtask bench`: Klamm measured, beside Apache Kafka where asked. What each row means and how
//! to run it: `bench/README.md`.

use std::process::Command;

use anyhow::Result;

use crate::process::{announce, run};
use crate::workspace::{cargo, target_directory};

const GENERATOR: &str = "klamm-bench";
const RUNNER: &str = "klamm-bench-runner";
const BROKER: &str = "klamm-broker";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure another system the same way, in turn
    #[arg(long, value_parser = ["kafka"], value_name = "SYSTEM")]
    against: Option<String>,
    /// Two runs of each workload instead of five
    #[arg(long)]
    quick: bool,
    /// Only workloads with this in their name; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write the figures to docs/performance.md and docs/performance.svg
    #[arg(long)]
    write: bool,
}

pub(crate) fn run_bench(arguments: &Arguments) -> Result<()> {
    announce("building broker and load generator (release)");
    run(cargo().args(["build", "--release", "--locked"]).args([
        "--package",
        BROKER,
        "--package",
        GENERATOR,
    ]))?;
    run(cargo().args(["build", "--locked", "--package", RUNNER]))?;
    let target = target_directory()?;
    let mut command = Command::new(target.join("debug").join(RUNNER));
    command
        .env("KLAMM_BROKER_BIN", target.join("release").join(BROKER))
        .env("KLAMM_BENCH_BIN", target.join("release").join(GENERATOR));
    if let Some(system) = &arguments.against {
        command.args(["--against", system]);
    }
    for name in &arguments.only {
        command.args(["--only", name]);
    }
    for (flag, given) in [("--quick", arguments.quick), ("--write", arguments.write)] {
        if given {
            command.arg(flag);
        }
    }
    run(&mut command)
}
