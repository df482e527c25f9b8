//! The Klamm operator: keeps clusters and topics as their `KafkaCluster` and `Topic` objects say.
//!
//! It decides nothing itself: `operator-plan` does. Here things are observed, plans carried out and
//! results reported. One replica works at a time (`lease`); brokers run on without any.

mod apply;
mod broker_admin;
mod context;
mod events;
mod http;
mod kafka_cluster;
mod lease;
mod metrics;
mod run;
mod topic;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "klamm-operator",
    version,
    about = "Runs Klamm clusters on Kubernetes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Manage KafkaClusters and Topics until stopped.
    Run(run::Settings),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Print the version.
    Version,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(settings) => {
            let filter =
                EnvFilter::try_from_env("KLAMM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(false)
                .init();
            run::run(settings).await
        }
        Command::Crds => {
            print!("{}", klamm_crds::definitions_yaml());
            Ok(())
        }
        Command::Version => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
