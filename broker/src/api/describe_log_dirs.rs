//! DescribeLogDirs (KIP-113, KIP-827): what is in this broker's log directories, and how much room is
//! left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use broker_wire::message::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use broker_wire::message::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use broker_wire::{ErrorCode, Str};
use rustix::fs::statvfs;

use super::context::{Context, RequestInfo};
use crate::partition::{PartitionManager, PlacedLog};

pub(super) async fn handle(
    ctx: &Context,
    _: &RequestInfo,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let partitions = std::sync::Arc::clone(&ctx.partitions);
    let wanted = request.topics.map(Wanted::from);
    let described = tokio::task::spawn_blocking(move || describe(&partitions, wanted.as_ref()));
    match described.await {
        Ok(results) => DescribeLogDirsResponse {
            results,
            ..DescribeLogDirsResponse::default()
        },
        Err(error) => {
            tracing::error!(%error, "log directories not described");
            DescribeLogDirsResponse {
                error_code: ErrorCode::UnknownServerError,
                ..DescribeLogDirsResponse::default()
            }
        }
    }
}

/// The partitions that were asked for.
struct Wanted(BTreeSet<(String, i32)>);

impl From<Vec<DescribableLogDirTopic>> for Wanted {
    fn from(topics: Vec<DescribableLogDirTopic>) -> Self {
        let of_topic = |topic: DescribableLogDirTopic| {
            let name = topic.topic.to_string();
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| (name.clone(), partition))
        };
        Self(topics.into_iter().flat_map(of_topic).collect())
    }
}

/// Blocks on the disks.
fn describe(partitions: &PartitionManager, wanted: Option<&Wanted>) -> Vec<DescribeLogDirsResult> {
    let mut by_dir: BTreeMap<_, Vec<PlacedLog>> = BTreeMap::new();
    for log in partitions.placed_logs() {
        let key = (log.topic.to_string(), log.partition.0);
        if wanted.is_none_or(|wanted| wanted.0.contains(&key)) {
            by_dir.entry(log.dir.clone()).or_default().push(log);
        }
    }
    let dirs = partitions.dirs();
    let failed = dirs.failed_paths();
    dirs.paths()
        .into_iter()
        .map(|path| {
            if failed.contains(&path) {
                return DescribeLogDirsResult {
                    error_code: ErrorCode::KafkaStorageError,
                    log_dir: absolute(&path),
                    ..DescribeLogDirsResult::default()
                };
            }
            let (total_bytes, usable_bytes) = room(&path).unwrap_or((-1, -1));
            DescribeLogDirsResult {
                error_code: ErrorCode::None,
                log_dir: absolute(&path),
                topics: topics(by_dir.remove(&path).unwrap_or_default()),
                total_bytes,
                usable_bytes,
            }
        })
        .collect()
}

fn topics(logs: Vec<PlacedLog>) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for log in logs {
        let partition = DescribeLogDirsPartition {
            partition_index: log.partition.0,
            partition_size: i64::try_from(log.size_bytes).unwrap_or(i64::MAX),
            offset_lag: log.offset_lag,
            is_future_key: log.is_future,
        };
        topics.entry(log.topic).or_default().push(partition);
    }
    let topic = |(name, mut partitions): (std::sync::Arc<str>, Vec<_>)| {
        partitions.sort_by_key(|partition: &DescribeLogDirsPartition| partition.partition_index);
        DescribeLogDirsTopic {
            name: name.to_string().into(),
            partitions,
        }
    };
    topics.into_iter().map(topic).collect()
}

/// Clients name directories as they are told here.
fn absolute(path: &Path) -> Str {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned().into()
}

/// Total and usable bytes of the file system.
fn room(path: &Path) -> Option<(i64, i64)> {
    let stat = statvfs(path).ok()?;
    let bytes =
        |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX);
    Some((bytes(stat.f_blocks), bytes(stat.f_bavail)))
}
