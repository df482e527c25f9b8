//! `klamm`: topics, records, groups and configurations of a Klamm or any other Kafka cluster, from
//! the command line.
//!
//! Tables are for people, `-o json` for programs. What is asked for goes to standard output,
//! everything else to standard error; the exit status tells whether it was done.

mod cluster;
mod configs;
mod consume;
mod groups;
mod output;
mod produce;
mod tls;
mod topics;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use klamm_client::Cluster;

use output::Output;
use tls::TlsArguments;

#[derive(Parser)]
#[command(
    name = "klamm",
    version,
    about = "Works with a Klamm cluster, or any other that speaks Kafka's protocol"
)]
struct Arguments {
    /// Brokers to begin with, HOST:PORT with commas between
    #[arg(
        long,
        short,
        global = true,
        default_value = "localhost:9092",
        value_name = "ADDRESSES"
    )]
    bootstrap: String,
    /// Tables for people, JSON for programs
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List, describe, create, change and delete topics
    #[command(subcommand)]
    Topics(topics::Command),
    /// Append a record for each line of standard input
    Produce(produce::Arguments),
    /// Print records, as a member of a group
    Consume(consume::Arguments),
    /// Consumer groups, their members, and how far behind they are
    #[command(subcommand)]
    Groups(groups::Command),
    /// Show and change configurations
    #[command(subcommand)]
    Configs(configs::Command),
    /// Brokers, and whether every partition has its leader and all replicas
    Cluster,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("klamm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut cluster = Cluster::new(&arguments.bootstrap, "klamm")?;
    if let Some(tls) = arguments.tls.read()? {
        cluster = cluster.with_tls(tls);
    }
    let output = arguments.output;
    // What is not there is told at once; what goes away later is waited for.
    cluster.metadata(Some(&[])).await?;
    match arguments.command {
        Command::Topics(command) => topics::run(&cluster, output, command).await?,
        Command::Produce(arguments) => produce::run(&cluster, output, arguments).await?,
        Command::Consume(arguments) => consume::run(&cluster, output, arguments).await?,
        Command::Groups(command) => groups::run(&cluster, output, command).await?,
        Command::Configs(command) => configs::run(&cluster, output, command).await?,
        Command::Cluster => return cluster::run(&cluster, output).await,
    }
    Ok(ExitCode::SUCCESS)
}
