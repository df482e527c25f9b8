//! Consumers: each has a connection to every leader of the partitions that it reads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use broker_wire::message::FetchRequest;
use broker_wire::message::fetch::{FetchPartition, FetchTopic, PartitionData};
use broker_wire::record::batches;
use broker_wire::{ErrorCode, Records, Str};
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::{self, Bootstrap};
use crate::connection::Connection;
use crate::window::{Used, Window, WindowOptions};

const FETCH_VERSION: i16 = 12;
const WAIT_MS: i32 = 500;

#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: Bootstrap,
    #[command(flatten)]
    window: WindowOptions,
    #[arg(long, default_value_t = 1)]
    consumers: usize,
    /// Bytes of one partition in an answer
    #[arg(long, default_value_t = 1 << 20)]
    partition_bytes_max: i32,
    #[arg(long, value_enum, default_value_t = From::Start)]
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// The start, and there again after the end
    Start,
    /// The end, where producers append
    End,
}

/// What was consumed within the window.
#[derive(Serialize)]
pub(crate) struct Report {
    records: u64,
    bytes: u64,
    requests: u64,
    #[serde(flatten)]
    used: Used,
}

#[derive(Default)]
struct Totals {
    records: u64,
    bytes: u64,
    requests: u64,
}

/// Reads some partitions of one leader.
struct Reader {
    connection: Connection,
    topic: Str,
    partition_bytes_max: i32,
    from: From,
    positions: BTreeMap<i32, i64>,
}

pub(crate) async fn run(options: Options) -> Result<Report> {
    let leaders = cluster::leaders(&options.at).await?;
    let mut readers = Vec::new();
    for (address, partitions) in &leaders {
        for consumer in 0..options.consumers {
            let of_consumer = partitions
                .iter()
                .skip(consumer)
                .step_by(options.consumers)
                .map(|partition| (*partition, 0));
            let positions: BTreeMap<_, _> = of_consumer.collect();
            if positions.is_empty() {
                continue;
            }
            readers.push(Reader {
                connection: Connection::open(address).await?,
                topic: Str::from(options.at.topic.clone()),
                partition_bytes_max: options.partition_bytes_max,
                from: options.from,
                positions,
            });
        }
    }
    if options.from == From::End {
        for reader in &mut readers {
            reader.go_to_end().await?;
        }
    }
    let totals = RefCell::new(Totals::default());
    let window = options.window.open();
    let lanes = readers.iter_mut().map(|reader| reader.run(window, &totals));
    let load = async { futures::future::try_join_all(lanes).await.map(drop) };
    let used = options.window.measure(window, load).await?;
    let Totals {
        records,
        bytes,
        requests,
    } = totals.into_inner();
    Ok(Report {
        records,
        bytes,
        requests,
        used,
    })
}

impl Reader {
    async fn run(&mut self, window: Window, totals: &RefCell<Totals>) -> Result<()> {
        for _ in 0..window.requests_max {
            let (records, bytes) = self.fetch().await?;
            let now = Instant::now();
            if window.contains(now) {
                let mut totals = totals.borrow_mut();
                totals.records += records;
                totals.bytes += bytes;
                totals.requests += 1;
            }
            if now >= window.until {
                break;
            }
        }
        Ok(())
    }

    /// Fetches once and moves on; returns records and bytes.
    async fn fetch(&mut self) -> Result<(u64, u64)> {
        let (mut records, mut bytes) = (0, 0);
        for data in self.call(self.partition_bytes_max).await? {
            let partition = data.partition_index;
            let position = self.positions.entry(partition).or_default();
            if let Records::Bytes(fetched) = &data.records {
                bytes += fetched.len() as u64;
                // The last one may be cut off.
                for (header, _) in batches(fetched).flatten() {
                    records += u64::try_from(header.record_count)?;
                    *position = header.next_offset();
                }
            }
            if self.from == From::Start && *position >= data.high_watermark {
                *position = data.log_start_offset;
            }
        }
        Ok((records, bytes))
    }

    async fn go_to_end(&mut self) -> Result<()> {
        for data in self.call(1).await? {
            self.positions
                .insert(data.partition_index, data.high_watermark);
        }
        Ok(())
    }

    async fn call(&mut self, partition_bytes_max: i32) -> Result<Vec<PartitionData>> {
        let partitions = self
            .positions
            .iter()
            .map(|(partition, position)| FetchPartition {
                partition: *partition,
                fetch_offset: *position,
                partition_max_bytes: partition_bytes_max,
                ..FetchPartition::default()
            });
        let request = FetchRequest {
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: i32::MAX,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let response = self.connection.call(FETCH_VERSION, &request).await?;
        ensure!(
            response.error_code == ErrorCode::None,
            "fetch failed: {:?}",
            response.error_code
        );
        let topics = response.responses.into_iter();
        let partitions: Vec<_> = topics.flat_map(|topic| topic.partitions).collect();
        for data in &partitions {
            ensure!(
                data.error_code == ErrorCode::None,
                "partition {}: {:?}",
                data.partition_index,
                data.error_code
            );
        }
        Ok(partitions)
    }
}
