//! The paths of a record through a broker, without network and clients, for callgrind to count the
//! instructions of: `cargo xtask instructions`.
//!
//! What is counted happens in [`measured`] alone, on one thread, with real logs and real metadata.
//! The same binary executes the same instructions to within a fraction of a percent.

mod brokers;
mod measured;
mod requests;

use std::path::PathBuf;

use anyhow::Result;
use bytes::Bytes;
use clap::{Parser, ValueEnum};

use brokers::{Brokers, Replicas};
use requests::{check_fetched, check_produced, fetch, produce};

/// Before anything is counted: caches, pools and tables reach their size.
const WARM_UP: usize = 100;
/// Of a batch, in bytes.
const BATCH_BYTES: usize = 16 << 10;
const RECORD_BYTES: usize = 1 << 10;
const SMALL_RECORD_BYTES: usize = 100;
/// Partitions of a request with many small batches.
const SPREAD: i32 = 8;
/// Batches of an answer to a consumer that is behind.
const BACKLOG: usize = 60;

#[derive(Parser)]
#[command(about = "Takes one path of a record through a broker, again and again")]
struct Arguments {
    /// What to do
    #[arg(value_enum)]
    path: Path,
    /// An empty directory for the logs
    #[arg(long)]
    directory: PathBuf,
    /// How often
    #[arg(long, default_value_t = 1000)]
    operations: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Path {
    /// A request with a batch of 16 KiB
    ProduceBatch,
    /// A request with one record of 100 bytes
    ProduceSingle,
    /// A request with a record for each of eight partitions
    ProduceSpread,
    /// An answer with one batch of 16 KiB
    FetchBatch,
    /// An answer with 60 of them
    FetchBacklog,
    /// A follower copies a batch of 16 KiB; the counted work is that of both brokers
    Replicate,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let replicas = match arguments.path {
        Path::Replicate => Replicas::Two,
        _ => Replicas::One,
    };
    let brokers = Brokers::start(&arguments.directory, replicas)?;
    let batch = requests::batch(RECORD_BYTES, BATCH_BYTES)?;
    let single = requests::batch(SMALL_RECORD_BYTES, 0)?;
    let backlog = produce(0..1, &batch);
    for _ in 0..BACKLOG {
        check_produced(&brokers.produce(backlog.clone())?)?;
        brokers.replicate()?;
    }
    let operations = arguments.operations;
    match arguments.path {
        Path::ProduceBatch => count_produce(&brokers, &backlog, operations),
        Path::ProduceSingle => count_produce(&brokers, &produce(0..1, &single), operations),
        Path::ProduceSpread => count_produce(&brokers, &produce(0..SPREAD, &single), operations),
        Path::FetchBatch => count_fetch(&brokers, batch.len(), operations),
        Path::FetchBacklog => count_fetch(&brokers, BACKLOG * batch.len(), operations),
        Path::Replicate => count_replicate(&brokers, &backlog, operations),
    }
}

fn count_produce(brokers: &Brokers, frame: &Bytes, operations: usize) -> Result<()> {
    for _ in 0..WARM_UP {
        check_produced(&brokers.produce(frame.clone())?)?;
    }
    for _ in 0..operations {
        measured::produce(brokers, frame.clone())?;
    }
    Ok(())
}

fn count_fetch(brokers: &Brokers, bytes: usize, operations: usize) -> Result<()> {
    let frame = fetch(bytes);
    for _ in 0..WARM_UP {
        check_fetched(&brokers.fetch(frame.clone())?, bytes)?;
    }
    for _ in 0..operations {
        measured::fetch(brokers, frame.clone())?;
    }
    Ok(())
}

fn count_replicate(brokers: &Brokers, frame: &Bytes, operations: usize) -> Result<()> {
    for operation in 0..WARM_UP + operations {
        brokers.produce(frame.clone())?;
        if operation < WARM_UP {
            brokers.replicate()?;
        } else {
            measured::replicate(brokers)?;
        }
    }
    Ok(())
}
