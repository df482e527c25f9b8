//! Committed offsets, and how long they are out of reach when their coordinator dies.
//!
//! All groups live in one partition of `__consumer_offsets`, so that one coordinator has them all. It is
//! not the active controller, whose death costs an election besides.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use broker_wire::message::describe_quorum::{
    DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use broker_wire::message::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use broker_wire::message::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use broker_wire::message::{DescribeQuorumRequest, OffsetCommitRequest, OffsetFetchRequest};
use broker_wire::{ErrorCode, Str};
use futures::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cluster::{self, Bootstrap};
use crate::connection::Connection;
use crate::coordinator;

const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_FETCH_VERSION: i16 = 8;
const DESCRIBE_QUORUM_VERSION: i16 = 0;
const OFFSETS_TOPIC: &str = "__consumer_offsets";
const METADATA_TOPIC: Str = Str::from_static("__cluster_metadata");
/// Connections that commit.
const COMMITTERS: usize = 16;
const GROUPS_PER_FETCH: usize = 100;
const RETRY_AFTER: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: Bootstrap,
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Commits of all partitions of the topic by every group
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Time for compaction between the last commit and the kill
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pause: u64,
    /// Processes of the brokers in the order of their addresses, with commas between
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    keys: usize,
    commits: usize,
    commit_seconds: f64,
    /// From the death of the coordinator until another one has told all offsets.
    failover_seconds: f64,
}

pub(crate) async fn run(options: Options) -> Result<Report> {
    let partition_count = cluster::leaders(&options.at)
        .await?
        .values()
        .flatten()
        .count();
    let home = Home::find(&options.at).await?;
    let commits = Commits {
        topic: options.at.topic.clone().into(),
        partition_count: i32::try_from(partition_count)?,
        groups: home.groups(options.groups),
    };
    let start = Instant::now();
    for round in 1..=options.rounds {
        commits.commit(&home.coordinator, i64::from(round)).await?;
    }
    let commit_seconds = start.elapsed().as_secs_f64();
    sleep(Duration::from_secs(options.pause)).await;
    let addresses = options.at.addresses();
    let others = addresses.filter(|address| !same_port(address, &home.coordinator));
    let mut others = try_join_all(others.map(Connection::open)).await?;
    let expected = i64::from(options.rounds);
    let start = Instant::now();
    kill(&options, &home.coordinator)?;
    commits.wait_for(&mut others, expected).await?;
    let keys = options.groups * partition_count;
    Ok(Report {
        keys,
        commits: keys * options.rounds as usize,
        commit_seconds,
        failover_seconds: start.elapsed().as_secs_f64(),
    })
}

fn same_port(a: &str, b: &str) -> bool {
    a.rsplit(':').next() == b.rsplit(':').next()
}

fn kill(options: &Options, address: &str) -> Result<()> {
    let mut addresses = options.at.addresses();
    let at = addresses.position(|other| same_port(other, address));
    let pid = at.and_then(|at| options.pids.get(at));
    let pid = pid.with_context(|| format!("no process of broker {address}"))?;
    let pid = Pid::from_raw(pid.cast_signed()).context("process 0")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// A partition of `__consumer_offsets` whose leader is not the active controller.
struct Home {
    partition: u32,
    partition_count: u32,
    coordinator: String,
}

impl Home {
    async fn find(at: &Bootstrap) -> Result<Self> {
        let mut connection = at.connect().await?;
        // Makes the topic, if need be.
        coordinator::find(&mut connection, "any").await?;
        let controller = controller(&mut connection).await?;
        let offsets = Bootstrap {
            topic: OFFSETS_TOPIC.to_owned(),
            ..at.clone()
        };
        let leaders = cluster::leaders(&offsets).await?;
        let partition_count = leaders.values().flatten().count();
        let controller = at.addresses().nth(controller).unwrap_or_default();
        let mut others = leaders.iter();
        let found = others.find(|(address, _)| !same_port(address, controller));
        let (coordinator, partitions) = found.context("the controller leads every partition")?;
        Ok(Self {
            partition: partitions
                .first()
                .copied()
                .unwrap_or_default()
                .cast_unsigned(),
            partition_count: u32::try_from(partition_count)?,
            coordinator: coordinator.clone(),
        })
    }

    /// So many groups that live there.
    fn groups(&self, count: usize) -> Vec<Str> {
        let names = (0_u64..).map(|number| format!("group-{number}"));
        let live_here = |name: &String| java_hash(name) % self.partition_count == self.partition;
        names.filter(live_here).take(count).map(Str::from).collect()
    }
}

/// `Utils.abs(String.hashCode())` of a name in ASCII.
fn java_hash(name: &str) -> u32 {
    let add = |hash: i32, byte: u8| hash.wrapping_mul(31).wrapping_add(i32::from(byte));
    let hash = name.bytes().fold(0, add);
    hash.checked_abs().unwrap_or(0).cast_unsigned()
}

/// The id of the active controller. Ids of brokers begin at 0.
async fn controller(connection: &mut Connection) -> Result<usize> {
    let request = DescribeQuorumRequest {
        topics: vec![DescribeQuorumRequestTopic {
            topic_name: METADATA_TOPIC,
            partitions: vec![DescribeQuorumRequestPartition::default()],
        }],
    };
    let quorum = connection.call(DESCRIBE_QUORUM_VERSION, &request).await?;
    let partition = quorum
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let leader = partition.context("no quorum in the answer")?.leader_id;
    usize::try_from(leader).context("the cluster has no controller")
}

/// What is committed.
struct Commits {
    topic: Str,
    partition_count: i32,
    groups: Vec<Str>,
}

impl Commits {
    /// Has every group commit `offset` for all partitions.
    async fn commit(&self, coordinator: &str, offset: i64) -> Result<()> {
        let shares = self
            .groups
            .chunks(self.groups.len().div_ceil(COMMITTERS).max(1));
        let committers = shares.map(|groups| async move {
            let mut connection = Connection::open(coordinator).await?;
            for group in groups {
                self.commit_group(&mut connection, group, offset).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
        try_join_all(committers).await?;
        Ok(())
    }

    async fn commit_group(
        &self,
        connection: &mut Connection,
        group: &Str,
        offset: i64,
    ) -> Result<()> {
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..OffsetCommitRequestPartition::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: self.topic.clone(),
                partitions: (0..self.partition_count).map(partition).collect(),
            }],
            ..OffsetCommitRequest::default()
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = connection.call(OFFSET_COMMIT_VERSION, &request).await?;
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let refused = partitions.find(|partition| partition.error_code != ErrorCode::None);
            match refused.map(|partition| partition.error_code) {
                None => return Ok(()),
                Some(error) if error.retriable() && Instant::now() < deadline => {
                    sleep(RETRY_AFTER).await;
                }
                Some(error) => bail!("a commit is refused: {error:?}"),
            }
        }
    }

    /// Waits until one of the brokers has told all offsets.
    async fn wait_for(&self, brokers: &mut [Connection], expected: i64) -> Result<()> {
        let mut left = self.groups.chunks(GROUPS_PER_FETCH).peekable();
        let deadline = Instant::now() + LIMIT;
        while let Some(groups) = left.peek() {
            let mut told = false;
            for broker in &mut *brokers {
                told = told || self.check(broker, groups, expected).await?;
            }
            if told {
                left.next();
                continue;
            }
            ensure!(Instant::now() < deadline, "no coordinator within {LIMIT:?}");
            sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    /// Whether the broker tells what the groups have committed.
    ///
    /// # Errors
    /// When it tells something else.
    async fn check(&self, broker: &mut Connection, groups: &[Str], expected: i64) -> Result<bool> {
        let groups = groups.iter().map(|group| OffsetFetchRequestGroup {
            group_id: group.clone(),
            ..OffsetFetchRequestGroup::default()
        });
        let request = OffsetFetchRequest {
            groups: groups.collect(),
            ..OffsetFetchRequest::default()
        };
        let answer = broker.call(OFFSET_FETCH_VERSION, &request).await?;
        for group in &answer.groups {
            match group.error_code {
                ErrorCode::None => self.check_group(group, expected)?,
                error if error.retriable() => return Ok(false),
                error => bail!("fetching offsets is refused: {error:?}"),
            }
        }
        Ok(true)
    }

    fn check_group(&self, group: &OffsetFetchResponseGroup, expected: i64) -> Result<()> {
        let partitions = || group.topics.iter().flat_map(|topic| &topic.partitions);
        let known = partitions()
            .filter(|partition| partition.committed_offset == expected)
            .count();
        ensure!(
            known == self.partition_count as usize && partitions().count() == known,
            "{known} of {} offsets of group {} are what was committed",
            self.partition_count,
            &*group.group_id
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_java_does() {
        assert_eq!(java_hash("group-1"), 293_427_299);
        assert_eq!(java_hash("polygenelubricants"), 0, "of i32::MIN");
    }
}
