//! Producers: each has a connection to every leader, as Kafka's have, with some requests in flight.
//!
//! At a rate, requests are due at fixed times whether earlier ones are answered or not, and their
//! latency counts from when they were due: a broker that stalls is charged with all that had to
//! wait (coordinated omission). Without a rate, latency counts from the write.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Result, bail};
use broker_wire::message::produce::{PartitionProduceData, TopicProduceData};
use broker_wire::message::{ProduceRequest, ProduceResponse};
use broker_wire::{ErrorCode, Str, decode_response};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::batch::{Batch, BatchOptions};
use crate::cluster::{self, Bootstrap, TopicOptions};
use crate::connection::{Connection, Frames, request_frame};
use crate::window::{Used, Window, WindowOptions};

const PRODUCE_VERSION: i16 = 9;
const TIMEOUT_MS: i32 = 30_000;
/// A partition that was just made may refuse records for so long.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Significant decimal digits of latencies.
const DIGITS: u8 = 3;

#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: Bootstrap,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    window: WindowOptions,
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    #[arg(long, default_value_t = 1)]
    producers: usize,
    /// Unanswered requests of a connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    in_flight: u32,
    /// Partitions that get a batch by one request
    #[arg(long, default_value_t = 1)]
    batches_per_request: usize,
    /// Records per second of all producers together; as many as possible by default
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Acks {
    #[value(name = "1")]
    Leader,
    All,
}

/// What was acknowledged within the window.
#[derive(Serialize)]
pub(crate) struct Report {
    records: u64,
    payload_bytes: u64,
    requests: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    #[serde(flatten)]
    used: Used,
}

/// Time until the first record was acknowledged.
#[derive(Serialize)]
pub(crate) struct First {
    seconds: f64,
}

/// A request to one leader.
#[derive(Clone)]
struct Load {
    frame: Bytes,
    records: u64,
    payload_bytes: u64,
}

struct Totals {
    records: u64,
    payload_bytes: u64,
    requests: u64,
    latency_us: Histogram<u64>,
}

/// The requests of a connection, and when they are due.
struct Schedule {
    window: Window,
    /// Between requests; `None`: as fast as answers come.
    interval: Option<Duration>,
    start: Instant,
}

pub(crate) async fn run(options: Options) -> Result<Report> {
    let leaders = cluster::leaders(&options.at).await?;
    let batch = options.batch.build(1)?;
    for (address, partitions) in &leaders {
        settle(address, &options.at.topic, partitions).await?;
    }
    let totals = RefCell::new(Totals::new()?);
    let connections = options.producers * leaders.len();
    let mut lanes = Vec::new();
    for (address, partitions) in &leaders {
        let loads = loads(&options, partitions, &batch);
        for producer in 0..options.producers {
            let mut loads = loads.clone();
            // Producers begin with different partitions.
            loads.rotate_left(producer % partitions.len());
            lanes.push((Connection::open(address).await?, loads));
        }
    }
    let window = options.window.open();
    let lanes = lanes.into_iter().enumerate().map(|(lane, (to, loads))| {
        let interval = options.rate.map(|rate| {
            let each = loads[0].records as f64 * connections as f64 / rate;
            Duration::from_secs_f64(each)
        });
        let schedule = Schedule {
            window,
            interval,
            start: window.opened + interval.unwrap_or_default() * lane as u32 / connections as u32,
        };
        drive(to, loads, schedule, options.in_flight as usize, &totals)
    });
    let load = async { all(lanes).await };
    let used = options.window.measure(window, load).await?;
    Ok(totals.into_inner().report(used))
}

/// Runs the connections side by side; fails with the first that does.
async fn all(lanes: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    let lanes: Vec<_> = lanes.map(Box::pin).collect();
    futures::future::try_join_all(lanes).await.map(drop)
}

/// One request for each of the partitions, which it names first.
fn loads(options: &Options, partitions: &[i32], batch: &Batch) -> Vec<Load> {
    let count = options.batches_per_request.clamp(1, partitions.len());
    let acks = match options.acks {
        Acks::Leader => 1,
        Acks::All => -1,
    };
    let starts = 0..partitions.len();
    starts
        .map(|start| {
            let named = partitions.iter().cycle().skip(start).take(count);
            let request = request(&options.at.topic, acks, named, &batch.bytes);
            Load {
                frame: request_frame(PRODUCE_VERSION, &request),
                records: batch.records * count as u64,
                payload_bytes: batch.payload_bytes * count as u64,
            }
        })
        .collect()
}

fn request<'a>(
    topic: &str,
    acks: i16,
    partitions: impl Iterator<Item = &'a i32>,
    batch: &Bytes,
) -> ProduceRequest {
    let partition_data = partitions.map(|index| PartitionProduceData {
        index: *index,
        records: Some(batch.clone()),
    });
    ProduceRequest {
        acks,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic.to_owned()),
            partition_data: partition_data.collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// Produces a record to every partition until each takes it.
async fn settle(address: &str, topic: &str, partitions: &[i32]) -> Result<()> {
    let options = BatchOptions::single_record();
    let batch = options.build(0)?;
    let mut connection = Connection::open(address).await?;
    let deadline = Instant::now() + SETTLE_LIMIT;
    for partition in partitions {
        let request = request(topic, -1, [partition].into_iter(), &batch.bytes);
        while let Err(error) = refused(&connection.call(PRODUCE_VERSION, &request).await?) {
            if Instant::now() > deadline {
                return Err(error.context(format!("{topic}-{partition} takes no records")));
            }
            sleep(RETRY_AFTER).await;
        }
    }
    Ok(())
}

fn refused(response: &ProduceResponse) -> Result<()> {
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            if partition.error_code != ErrorCode::None {
                let message = partition.error_message.as_deref().unwrap_or_default();
                let code = partition.error_code;
                bail!("partition {}: {code:?} {message}", partition.index);
            }
        }
    }
    Ok(())
}

/// Sends and receives on one connection until the window is over and all is answered.
async fn drive(
    connection: Connection,
    loads: Vec<Load>,
    schedule: Schedule,
    in_flight: usize,
    totals: &RefCell<Totals>,
) -> Result<()> {
    let (reader, writer) = connection.stream.into_split();
    let (sent, unanswered) = mpsc::channel(in_flight);
    let window = schedule.window;
    tokio::try_join!(
        send(writer, &loads, &schedule, sent),
        receive(reader, &loads, window, unanswered, totals),
    )?;
    Ok(())
}

/// The start of each request goes into `sent`, which has room for those in flight.
async fn send(
    mut writer: OwnedWriteHalf,
    loads: &[Load],
    schedule: &Schedule,
    sent: mpsc::Sender<Instant>,
) -> Result<()> {
    let mut due = schedule.start;
    for (load, _) in loads.iter().cycle().zip(0..schedule.window.requests_max) {
        if let Some(interval) = schedule.interval {
            if Instant::now() < due {
                sleep_until(due).await;
            }
            due += interval;
        }
        let Ok(slot) = sent.reserve().await else {
            break;
        };
        let now = Instant::now();
        if now >= schedule.window.until {
            break;
        }
        slot.send(schedule.interval.map_or(now, |interval| due - interval));
        writer.write_all(&load.frame).await?;
    }
    Ok(())
}

async fn receive(
    mut reader: OwnedReadHalf,
    loads: &[Load],
    window: Window,
    mut unanswered: mpsc::Receiver<Instant>,
    totals: &RefCell<Totals>,
) -> Result<()> {
    let mut frames = Frames::default();
    for load in loads.iter().cycle() {
        let Some(started) = unanswered.recv().await else {
            break;
        };
        let frame = frames.next(&mut reader).await?;
        let (_, response) = decode_response::<ProduceRequest>(frame, PRODUCE_VERSION)?;
        refused(&response)?;
        let now = Instant::now();
        if window.contains(now) {
            totals.borrow_mut().add(load, now - started);
        }
    }
    Ok(())
}

impl Totals {
    fn new() -> Result<Self> {
        Ok(Self {
            records: 0,
            payload_bytes: 0,
            requests: 0,
            latency_us: Histogram::new(DIGITS)?,
        })
    }

    fn add(&mut self, load: &Load, latency: Duration) {
        self.records += load.records;
        self.payload_bytes += load.payload_bytes;
        self.requests += 1;
        self.latency_us += u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    }

    fn report(self, used: Used) -> Report {
        let ms = |microseconds: u64| microseconds as f64 / 1000.0;
        let latency = &self.latency_us;
        Report {
            records: self.records,
            payload_bytes: self.payload_bytes,
            requests: self.requests,
            p50_ms: ms(latency.value_at_quantile(0.5)),
            p99_ms: ms(latency.value_at_quantile(0.99)),
            p999_ms: ms(latency.value_at_quantile(0.999)),
            max_ms: ms(latency.max()),
            used,
        }
    }
}

/// Repeats everything that may fail while a cluster starts.
pub(crate) async fn first(options: &TopicOptions) -> Result<First> {
    let start = Instant::now();
    while let Err(error) = try_first(options).await {
        if start.elapsed() > SETTLE_LIMIT {
            return Err(error);
        }
        sleep(RETRY_AFTER).await;
    }
    Ok(First {
        seconds: start.elapsed().as_secs_f64(),
    })
}

async fn try_first(options: &TopicOptions) -> Result<()> {
    let mut connection = options.at.connect().await?;
    cluster::create_on(&mut connection, options).await?;
    for (address, partitions) in cluster::leaders(&options.at).await? {
        settle(&address, &options.at.topic, &partitions[..1]).await?;
    }
    Ok(())
}
