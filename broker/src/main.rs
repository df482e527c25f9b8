//! `klamm-broker`: one broker (`run`), or one to nine of them on this machine (`dev`).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use klamm_broker::config::BrokerConfig;
use klamm_broker::{broker, dev, telemetry};

#[derive(Parser)]
#[command(name = "klamm-broker", version, about = "A Kafka-compatible broker")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one broker with a configuration file
    Run(RunArgs),
    /// Run brokers on this machine for development; Ctrl-C stops them
    Dev(dev::DevArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Properties file; keys are Kafka's
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, beating the file; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Log as one JSON object a line
    #[arg(long)]
    log_json: bool,
    /// Stop when the parent process ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Dev(args) => dev::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("klamm-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    if args.with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .context("can't tie this process to its parent")?;
    }
    telemetry::init(args.log_json);
    let config = BrokerConfig::load(args.config.as_deref(), &args.overrides)?;
    broker::run(config)
}
