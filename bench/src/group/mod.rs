//! Consumer groups: members that join, send heartbeats and leave, and consume nothing.
//!
//! Each member has a connection, as a consumer has to its coordinator, and does what Java's does: it
//! subscribes, sends a heartbeat every [`HEARTBEAT_INTERVAL`] or as often as the broker says, follows
//! every rebalance at once, and says when it has what it was assigned.

mod classic;
mod consumer;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use broker_wire::Str;
use broker_wire::message::ApiVersionsRequest;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{self, Bootstrap};
use crate::connection::Connection;
use crate::coordinator;
use crate::usage::Usage;
use crate::window::{Used, WindowOptions};
use progress::{Place, Progress};

/// `heartbeat.interval.ms`, `session.timeout.ms` and `max.poll.interval.ms` of Kafka's consumer.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const RETRY_AFTER: Duration = Duration::from_millis(100);
const API_VERSIONS_VERSION: i16 = 0;

#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: Bootstrap,
    #[command(flatten)]
    window: WindowOptions,
    #[arg(long, value_enum, default_value_t = Protocol::Classic)]
    protocol: Protocol,
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// Members of each group
    #[arg(long, default_value_t = 1)]
    members: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Protocol {
    /// JoinGroup, SyncGroup, Heartbeat
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848)
    Consumer,
}

/// What it takes until every member has its part of the topic, and to stay there.
#[derive(Serialize)]
pub(crate) struct Report {
    /// From the first request until the groups are stable.
    form_seconds: f64,
    form_cpu_seconds: f64,
    /// One member more joins one of the groups.
    rebalance_seconds: f64,
    rebalance_cpu_seconds: f64,
    #[serde(flatten)]
    used: Used,
}

/// A member of a group, connected to its coordinator.
struct Member {
    connection: Connection,
    group: Str,
    topic: Str,
    partition_count: i32,
    place: Place,
    progress: Arc<Progress>,
    /// Set when it is to leave.
    stop: watch::Receiver<bool>,
}

impl Member {
    /// Waits until the next heartbeat is due. Whether the member is to leave instead.
    async fn rest(&mut self, interval: Duration) -> bool {
        tokio::select! {
            () = sleep(interval) => false,
            _ = self.stop.wait_for(|stop| *stop) => true,
        }
    }

    /// Until the first heartbeat: those of all members are spread evenly.
    fn first_interval(&self, interval: Duration) -> Duration {
        const STEPS: u32 = 64;
        let step = (self.place.group + self.place.member) as u32 % STEPS;
        interval * step / STEPS
    }
}

pub(crate) async fn run(options: Options) -> Result<Report> {
    let mut load = Load::prepare(&options).await?;
    let (form_seconds, form_cpu_seconds) =
        load.settle_with(options.groups * options.members).await?;
    let (rebalance_seconds, rebalance_cpu_seconds) = load.settle_with(1).await?;
    let used = load.steady(&options.window).await?;
    load.leave().await?;
    Ok(Report {
        form_seconds,
        form_cpu_seconds,
        rebalance_seconds,
        rebalance_cpu_seconds,
        used,
    })
}

/// Members that run, and those that have yet to join.
struct Load {
    protocol: Protocol,
    pids: Vec<u32>,
    waiting: Vec<Member>,
    running: JoinSet<Result<()>>,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Connects all members, and one more of the first group, which is to join last.
    async fn prepare(options: &Options) -> Result<Self> {
        let leaders = cluster::leaders(&options.at).await?;
        let partition_count = leaders.values().map(Vec::len).sum();
        let progress = Arc::new(Progress::new(options.groups, partition_count));
        let (stop, _) = watch::channel(false);
        let mut load = Self {
            protocol: options.protocol,
            pids: options.window.pids().to_vec(),
            waiting: Vec::new(),
            running: JoinSet::new(),
            progress,
            stop,
        };
        let mut any = options.at.connect().await?;
        let places = (0..options.members)
            .flat_map(|member| (0..options.groups).map(move |group| Place { group, member }));
        let last = Place {
            group: 0,
            member: options.members,
        };
        for place in [last].into_iter().chain(places) {
            let group = format!("{}-{}", options.at.topic, place.group);
            let address = coordinator::find(&mut any, &group).await?;
            let mut connection = Connection::open(&address).await?;
            let request = ApiVersionsRequest::default();
            connection.call(API_VERSIONS_VERSION, &request).await?;
            load.waiting.push(Member {
                connection,
                group: group.into(),
                topic: options.at.topic.clone().into(),
                partition_count: i32::try_from(partition_count)?,
                place,
                progress: Arc::clone(&load.progress),
                stop: load.stop.subscribe(),
            });
        }
        Ok(load)
    }

    /// So many members more join. How long it takes until all are stable, and the brokers' CPU time.
    async fn settle_with(&mut self, members: usize) -> Result<(f64, f64)> {
        let (before, start) = (Usage::of(&self.pids)?, Instant::now());
        for _ in 0..members {
            let member = self.waiting.pop().context("all members have joined")?;
            self.progress.expect(member.place);
            match self.protocol {
                Protocol::Classic => self.running.spawn(classic::run(member)),
                Protocol::Consumer => self.running.spawn(consumer::run(member)),
            };
        }
        let settled = tokio::select! {
            settled = self.progress.settle(&self.pids) => settled?,
            ended = self.running.join_next() => return Err(failure(ended)),
        };
        let seconds = (settled.at - start).as_secs_f64();
        Ok((seconds, settled.usage.cpu_seconds - before.cpu_seconds))
    }

    async fn steady(&mut self, options: &WindowOptions) -> Result<Used> {
        let window = options.open();
        let running = &mut self.running;
        let load = async {
            tokio::select! {
                () = sleep_until(window.until) => Ok(()),
                ended = running.join_next() => Err(failure(ended)),
            }
        };
        options.measure(window, load).await
    }

    async fn leave(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Members stay until they are told to leave.
fn failure(ended: Option<Result<Result<()>, JoinError>>) -> Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => anyhow!("no member is left"),
    }
}
