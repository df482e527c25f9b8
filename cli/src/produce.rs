//! `klamm produce`

use std::io::{self, BufRead as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use klamm_client::{
    Acks, Appended, Bytes, Cluster, Compression, Producer, ProducerOptions, Record,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::output::{Output, print_line};

/// Lines that were read and not sent yet.
const LINES_MAX: usize = 1000;
/// Without a new line for so long, what there is is sent.
const LINGER: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    topic: String,
    /// The partition, instead of one by the key's hash or in turn
    #[arg(long, short)]
    partition: Option<i32>,
    /// What parts a line's key from its value; without it lines are values
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; can be given several times
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE", value_parser = crate::configs::key_value)]
    headers: Vec<(String, String)>,
    /// Who has to have a record before it counts
    #[arg(long, value_enum, default_value_t = AcksArgument::All)]
    acks: AcksArgument,
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    compression: Codec,
}

#[derive(Clone, Copy, ValueEnum)]
enum AcksArgument {
    /// Nobody: losses go unnoticed
    None,
    /// Its leader
    Leader,
    /// All in-sync replicas
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Serialize)]
struct Shown {
    topic: String,
    partition: i32,
    base_offset: Option<i64>,
    records: usize,
}

pub(crate) async fn run(cluster: &Cluster, output: Output, arguments: Arguments) -> Result<()> {
    let options = ProducerOptions {
        acks: match arguments.acks {
            AcksArgument::None => Acks::None,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::All => Acks::All,
        },
        compression: match arguments.compression {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        },
        ..ProducerOptions::default()
    };
    let mut producer = Producer::new(cluster, options);
    let mut lines = lines();
    let mut count = 0;
    loop {
        let line = match timeout(LINGER, lines.recv()).await {
            Ok(line) => line,
            Err(_) => {
                // What a person typed is not kept waiting.
                count += report(output, producer.flush().await?)?;
                lines.recv().await
            }
        };
        let Some(line) = line else { break };
        let record = record(&arguments, line.context("standard input can't be read")?)?;
        count += report(output, producer.send(record).await?)?;
    }
    count += report(output, producer.flush().await?)?;
    if output == Output::Table {
        eprintln!("{count} records appended to {}", arguments.topic);
    }
    Ok(())
}

/// Lines of standard input, read by a thread: it can't be waited for otherwise.
fn lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn record(arguments: &Arguments, line: Vec<u8>) -> Result<Record> {
    let (key, value) = match &arguments.key_separator {
        None => (None, line),
        Some(separator) => {
            let separator = separator.as_bytes();
            let found = line
                .windows(separator.len().max(1))
                .position(|window| window == separator);
            let Some(at) = found else {
                bail!(
                    "a line without key: {:?} has no {:?}",
                    String::from_utf8_lossy(&line),
                    String::from_utf8_lossy(separator)
                );
            };
            let value = line[at + separator.len()..].to_vec();
            (Some(Bytes::copy_from_slice(&line[..at])), value)
        }
    };
    let headers = arguments.headers.iter();
    Ok(Record {
        topic: arguments.topic.clone(),
        partition: arguments.partition,
        key,
        value: Some(value.into()),
        headers: headers
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect(),
    })
}

fn report(output: Output, appended: Vec<Appended>) -> Result<usize> {
    let mut count = 0;
    for batch in appended {
        count += batch.records;
        if output == Output::Json {
            print_line(&serde_json::to_string(&Shown {
                topic: batch.topic,
                partition: batch.partition,
                base_offset: batch.base_offset,
                records: batch.records,
            })?)?;
        }
    }
    Ok(count)
}
