//! Fault injection on real processes: five brokers in network namespaces and on disks that fail,
//! Kafka clients at work, one fault after the other, and a checker of what the clients saw. How it
//! is run and read: `docs/chaos.md`.

mod admin;
mod broker;
mod check;
mod clock;
mod cluster;
mod delay;
mod disk;
mod history;
mod kafka;
mod nemesis;
mod network;
mod report;
mod round;
mod schedule;
mod workload;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use klamm_e2e::random::Random;

use cluster::Cluster;
use nemesis::Nemesis;
use report::Report;

#[derive(Parser)]
#[command(
    name = "klamm-chaos",
    about = "Injects faults into five brokers and checks what clients saw"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run against the broker that KLAMM_BROKER_BIN names; needs root
    Run(RunArguments),
    /// Run within namespaces that were made for it
    #[command(hide = true)]
    RunInside(RunArguments),
    /// Delay the packets of a network namespace
    #[command(hide = true)]
    Delay {
        /// At most so long, in milliseconds
        most_ms: u64,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// How long faults are injected
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Repeats the choices of a run; from the clock unless given
    #[arg(long)]
    seed: Option<u64>,
    /// Only these, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    nemesis: Vec<String>,
    /// Where the report goes, and the brokers' files when something was found
    #[arg(long, value_name = "DIR")]
    report: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Run(arguments) => check_arguments(&arguments).and_then(|()| enter_namespaces()),
        Task::RunInside(arguments) => run(&arguments),
        Task::Delay { most_ms } => {
            delay::run(Duration::from_millis(most_ms)).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn check_arguments(arguments: &RunArguments) -> Result<()> {
    selected(&arguments.nemesis)?;
    klamm_e2e::dev_cluster::broker_binary()?;
    if !rustix::process::geteuid().is_root() {
        bail!("namespaces and FUSE need root");
    }
    workload::prepare_clients()
}

/// Network, mounts and processes of their own: whatever happens, they end with this process.
fn enter_namespaces() -> Result<ExitCode> {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .arg("run-inside")
        .args(std::env::args_os().skip(2));
    Err(command.exec()).context("can't start unshare")
}

fn selected(names: &[String]) -> Result<Vec<&'static Nemesis>> {
    let all = nemesis::ALL.iter();
    let known: Vec<_> = all.clone().map(|nemesis| nemesis.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!(
            "there is no nemesis {unknown:?}; there are {}",
            known.join(", ")
        );
    }
    let wanted =
        |nemesis: &&Nemesis| names.is_empty() || names.iter().any(|name| name == nemesis.name);
    Ok(all.filter(wanted).collect())
}

fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let nemeses = selected(&arguments.nemesis)?;
    let seed = arguments.seed.unwrap_or_else(clock::now_us);
    println!("seed {seed}; --seed {seed} repeats the choices of this run");
    let work = prepare(&arguments.report)?;
    let mut report = Report::new(seed, &arguments.report);
    let time = Duration::from_secs(60 * arguments.minutes);
    let outcome = rounds(
        &work,
        &nemeses,
        &mut Random::from_seed(seed),
        time,
        &mut report,
    );
    if let Err(error) = &outcome {
        report.fail(error);
    }
    let file = report.write(&nemeses)?;
    println!("{}", report.nemesis_table(&nemeses)?);
    println!(
        "{} anomalies; report: {}",
        report.anomalies(),
        file.display()
    );
    if report.anomalies() == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("logs and data of the brokers: {}", work.display());
    Ok(ExitCode::FAILURE)
}

/// An empty directory for the brokers, on which nothing of an earlier run is mounted: mounts ended
/// with the namespace of that run.
fn prepare(report: &Path) -> Result<PathBuf> {
    fs::create_dir_all(report).with_context(|| format!("can't create {}", report.display()))?;
    let work = report.canonicalize()?.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir(&work)?;
    Ok(work)
}

fn rounds(
    work: &Path,
    nemeses: &[&'static Nemesis],
    random: &mut Random,
    time: Duration,
    report: &mut Report,
) -> Result<()> {
    let mut cluster = Cluster::start(work)?;
    let start = Instant::now();
    let deadline = start + time;
    let mut number = 0;
    while Instant::now() < deadline {
        for round in schedule::cycle(nemeses, random) {
            if Instant::now() >= deadline {
                break;
            }
            let past = start.elapsed().as_secs();
            println!("round {number}, after {past} of {} s", time.as_secs());
            let outcome = round::run(&mut cluster, &round, number, random, deadline)?;
            println!(
                "round {number}: {} messages acknowledged, {} anomalies",
                outcome.operations.acknowledged,
                outcome.anomalies.len()
            );
            for anomaly in outcome.anomalies.iter().take(5) {
                println!("    {}: {}", anomaly.invariant, anomaly.what);
            }
            report.add(outcome)?;
            number += 1;
        }
    }
    Ok(())
}
