//! `klamm consume`

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use klamm_client::{Bytes, Cluster, Consumed, Consumer, ConsumerOptions, DEFAULT_GROUP, Start};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::output::{Output, print_line};
use crate::topics::find;

const POLL: Duration = Duration::from_millis(500);
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(required = true)]
    topics: Vec<String>,
    /// The group that shares the topics' partitions and remembers how far it is
    #[arg(long, short, default_value = DEFAULT_GROUP)]
    group: String,
    /// Read this partition of one topic, outside of any group; can be given several times
    #[arg(long, short, conflicts_with = "group")]
    partition: Vec<i32>,
    /// Where to begin in partitions of which the group knows nothing: `earliest`, `latest`, or, with
    /// --partition, an offset
    #[arg(long, short = 's', default_value = "latest", value_parser = start)]
    from: Start,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    /// End when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Print this between key and value; without it keys are left out
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Print partition and offset in front, with tabs behind them
    #[arg(long)]
    offsets: bool,
}

#[derive(Serialize)]
struct Shown {
    topic: String,
    partition: i32,
    offset: i64,
    /// RFC 3339.
    timestamp: String,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" | "start" => Ok(Start::Earliest),
        "latest" | "end" => Ok(Start::Latest),
        offset => match offset.parse() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            _ => Err("give earliest, latest, or an offset".to_owned()),
        },
    }
}

pub(crate) async fn run(cluster: &Cluster, output: Output, arguments: Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut consumer = consumer(cluster, &arguments).await?;
    let outcome = tokio::select! {
        outcome = print_records(&mut consumer, output, &arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    // What was not printed is not committed either.
    if outcome.is_ok() {
        let closed = timeout(CLOSE_LIMIT, consumer.close()).await;
        closed.context("the group did not answer; records may be printed again")??;
    }
    outcome
}

async fn consumer<'a>(cluster: &'a Cluster, arguments: &Arguments) -> Result<Consumer<'a>> {
    let topics: Vec<_> = arguments.topics.iter().map(String::as_str).collect();
    let metadata = cluster.metadata(Some(&topics)).await?;
    for topic in &topics {
        find(&metadata, topic)?;
    }
    let options = ConsumerOptions {
        start: arguments.from,
    };
    let (&[topic], false) = (&topics[..], arguments.partition.is_empty()) else {
        if !arguments.partition.is_empty() {
            bail!("--partition is of one topic; name just one");
        }
        if matches!(arguments.from, Start::Offset(_)) {
            bail!("an offset is of a partition; name one with --partition");
        }
        let topics = arguments.topics.clone();
        return Ok(Consumer::in_group(
            cluster,
            &arguments.group,
            topics,
            options,
        ));
    };
    let partitions = arguments
        .partition
        .iter()
        .map(|partition| (topic.to_owned(), *partition));
    let partitions: Vec<_> = partitions.collect();
    Ok(Consumer::of_partitions(cluster, &partitions, options).await?)
}

async fn print_records(
    consumer: &mut Consumer<'_>,
    output: Output,
    arguments: &Arguments,
) -> Result<()> {
    let mut left = arguments.count.unwrap_or(u64::MAX);
    let idle = arguments.idle.map(Duration::from_secs);
    let mut last = Instant::now();
    let mut partitions = None;
    while left > 0 {
        let records_max = usize::try_from(left).unwrap_or(usize::MAX);
        let records = consumer.poll(POLL, records_max).await?;
        if consumer.partitions() != partitions {
            partitions = consumer.partitions();
            let count = partitions.unwrap_or(0);
            eprintln!("partitions to read: {count}");
            // Joining a group is no idleness.
            last = Instant::now();
        }
        if !records.is_empty() {
            last = Instant::now();
        } else if idle.is_some_and(|idle| last.elapsed() >= idle) {
            return Ok(());
        }
        for record in records {
            print_record(record, output, arguments)?;
            left -= 1;
        }
    }
    Ok(())
}

fn print_record(record: Consumed, output: Output, arguments: &Arguments) -> Result<()> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    if output == Output::Table {
        let mut line = String::new();
        if arguments.offsets {
            line = format!("{}\t{}\t", record.partition, record.offset);
        }
        if let Some(separator) = &arguments.key_separator {
            line += &record.key.map_or_else(String::new, text);
            line += separator;
        }
        line += &record.value.map_or_else(String::new, text);
        return print_line(&line);
    }
    let timestamp = jiff::Timestamp::from_millisecond(record.timestamp);
    let headers = record.headers.into_iter();
    print_line(&serde_json::to_string(&Shown {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: timestamp.map_or_else(|_| record.timestamp.to_string(), |t| t.to_string()),
        key: record.key.map(text),
        value: record.value.map(text),
        headers: headers.map(|(key, value)| (key, value.map(text))).collect(),
    })?)
}
