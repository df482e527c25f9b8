//! `cargo xtask chaos`: faults on real broker processes. How to run it and read its report:
//! `docs/chaos.md`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{announce, run};
use crate::workspace::{cargo, target_directory};

const PACKAGE: &str = "klamm-chaos";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// How long faults are injected
    #[arg(long, default_value_t = 5)]
    pub(crate) minutes: u64,
    /// Repeat the choices of a run
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Only these nemeses
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) nemesis: Vec<String>,
    /// Where the report goes; `chaos` in Cargo's target directory unless given
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// Fails when an anomaly was found.
pub(crate) fn run_chaos(options: &Options) -> Result<()> {
    run(cargo().args(["build", "--locked", "--package", PACKAGE]))?;
    // Linked dynamically, unlike the image's: only so does the library that moves clocks work.
    let broker = [
        "build",
        "--release",
        "--locked",
        "--package",
        "klamm-broker",
    ];
    run(cargo().args(broker))?;
    let target = target_directory()?;
    let report = options
        .report
        .clone()
        .unwrap_or_else(|| target.join("chaos"));
    announce(format!(
        "{} minutes of faults on five brokers",
        options.minutes
    ));
    let mut command = Command::new(target.join("debug").join(PACKAGE));
    command
        .args(["run", "--minutes", &options.minutes.to_string()])
        .arg("--report")
        .arg(report)
        .env("KLAMM_BROKER_BIN", target.join("release/klamm-broker"));
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if !options.nemesis.is_empty() {
        command.args(["--nemesis", &options.nemesis.join(",")]);
    }
    run(&mut command)
}
