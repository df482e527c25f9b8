//! `klamm-bench`: load for any Kafka-compatible cluster, and the limits of the machine beside it.
//!
//! One thread generates the load, from batches that were built and checksummed before, so that the
//! brokers are measured and not their client. Every command prints one JSON object.

mod batch;
mod cluster;
mod connection;
mod consume;
mod coordinator;
mod group;
mod idle;
mod limits;
mod offsets;
mod produce;
mod usage;
mod window;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;

use cluster::{Bootstrap, TopicOptions};

#[derive(Parser)]
#[command(name = "klamm-bench", version, about = "Load for Kafka clusters")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a topic and wait until every replica is in sync
    CreateTopic(TopicOptions),
    /// Delete a topic
    DeleteTopic(Bootstrap),
    /// Try to create a topic and produce one record until both succeed, as at a start
    FirstProduce(TopicOptions),
    /// Produce as fast as the acknowledgements come, or at a rate
    Produce(produce::Options),
    /// Consume from the start, over and over, or at the end of the log
    Consume(consume::Options),
    /// Ask for nothing, with connections that stay open
    Idle(idle::Options),
    /// Have consumer groups form, rebalance and send heartbeats
    Group(group::Options),
    /// Commit offsets, kill their coordinator, and wait for a new one that has all of them
    OffsetsFailover(offsets::Options),
    /// Measure what the machine can do: sendfile over loopback, memcpy, CRC-32C, fdatasync
    Limits {
        /// Where files are written
        #[arg(long, default_value = "/tmp")]
        directory: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Limits { directory } => print(&limits::measure(&directory)?),
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(run(command)),
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::CreateTopic(options) => cluster::create_topic(&options).await,
        Command::DeleteTopic(options) => cluster::delete_topic(&options).await,
        Command::FirstProduce(options) => print(&produce::first(&options).await?),
        Command::Produce(options) => print(&Box::pin(produce::run(options)).await?),
        Command::Consume(options) => print(&consume::run(options).await?),
        Command::Idle(options) => print(&idle::run(options).await?),
        Command::Group(options) => print(&Box::pin(group::run(options)).await?),
        Command::OffsetsFailover(options) => print(&Box::pin(offsets::run(options)).await?),
        Command::Limits { .. } => unreachable!("needs no runtime"),
    }
}

fn print(report: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(report)?);
    Ok(())
}
