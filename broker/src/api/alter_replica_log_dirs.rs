//! AlterReplicaLogDirs (KIP-113): moves this broker's replicas between its log directories, or names
//! the directory in which replicas are made that are still to come. The answer does not wait for the
//! moves; DescribeLogDirs tells how far they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{PartitionIndex, TopicPartition};
use broker_wire::ErrorCode;
use broker_wire::message::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use broker_wire::message::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::context::{Context, RequestInfo};
use super::error::KafkaError;
use crate::partition::PartitionManager;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let partitions = Arc::clone(&ctx.partitions);
    let image = ctx.image();
    let dirs = request.dirs;
    let requested = dirs.clone();
    let moved = tokio::task::spawn_blocking(move || move_all(&partitions, &image, &requested));
    let results = moved.await.unwrap_or_else(|error| {
        tracing::error!(%error, "moving replicas ended abnormally");
        with_each(&dirs, |_, _, _| ErrorCode::UnknownServerError)
    });
    AlterReplicaLogDirsResponse {
        results,
        ..AlterReplicaLogDirsResponse::default()
    }
}

fn move_all(
    partitions: &PartitionManager,
    image: &Image,
    dirs: &[AlterReplicaLogDir],
) -> Vec<AlterReplicaLogDirTopicResult> {
    with_each(dirs, |dir, topic, partition| {
        let id = image.topic_ids.get(topic);
        let id = id.map(|topic| TopicPartition {
            topic: *topic,
            partition,
        });
        match partitions.move_replica(id, topic, partition, Path::new(dir)) {
            Ok(()) => ErrorCode::None,
            Err(error) => {
                tracing::warn!(topic, %partition, dir, %error, "replica not moved");
                error.error_code()
            }
        }
    })
}

/// Results by topic, whatever the directories.
fn with_each(
    dirs: &[AlterReplicaLogDir],
    mut outcome: impl FnMut(&str, &str, PartitionIndex) -> ErrorCode,
) -> Vec<AlterReplicaLogDirTopicResult> {
    let mut topics: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for dir in dirs {
        for topic in &dir.topics {
            let results = topics.entry(topic.name.to_string()).or_default();
            for index in &topic.partitions {
                results.push(AlterReplicaLogDirPartitionResult {
                    partition_index: *index,
                    error_code: outcome(&dir.path, &topic.name, PartitionIndex(*index)),
                });
            }
        }
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
            topic_name: topic_name.into(),
            partitions,
        })
        .collect()
}
