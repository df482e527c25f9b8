//! DeleteRecords (KIP-107): the log of every live replica starts at the wanted offset or later when
//! the answer comes, or the request's time is over.

use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{BrokerId, Offset, PartitionIndex};
use broker_wire::ErrorCode;
use broker_wire::message::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use broker_wire::message::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::{Instant, timeout_at};

use super::context::{Context, RequestInfo};
use super::create_topics::deadline;
use super::error::KafkaError;
use super::lookup::find_partition;
use crate::config::{Dynamic, keys};
use crate::partition::Partition;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;
const NO_LOW_WATERMARK: i64 = -1;

/// A partition whose leader, this broker, has deleted the records.
struct Deleted {
    partition: Arc<Partition>,
    /// Where every log shall start.
    wanted: Offset,
}

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let deadline = deadline(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let deleted: Vec<_> = topic
            .partitions
            .iter()
            .map(|wanted| delete(ctx, &topic.name, wanted))
            .collect();
        topics.push((topic, deleted));
    }
    if topics
        .iter()
        .any(|(_, deleted)| deleted.iter().any(Result::is_ok))
    {
        let partitions = Arc::clone(&ctx.partitions);
        let written = tokio::task::spawn_blocking(move || partitions.checkpoint_log_starts());
        if let Err(error) = written.await {
            tracing::error!(%error, "log start offsets not written down");
        }
    }
    let mut results = Vec::with_capacity(topics.len());
    for (topic, deleted) in topics {
        let mut partitions = Vec::with_capacity(deleted.len());
        for (wanted, deleted) in topic.partitions.iter().zip(deleted) {
            let outcome = match deleted {
                Ok(deleted) => until_everywhere(ctx, &deleted, deadline).await,
                Err(error) => Err(error),
            };
            partitions.push(result(wanted.partition_index, outcome));
        }
        results.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        topics: results,
        ..DeleteRecordsResponse::default()
    }
}

fn delete(
    ctx: &Context,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<Deleted, ErrorCode> {
    let partition = find_partition(ctx, topic, PartitionIndex(wanted.partition_index))?;
    check_topic(ctx, &ctx.image(), topic)?;
    let before = (wanted.offset != HIGH_WATERMARK).then_some(Offset(wanted.offset));
    match partition.delete_records(before) {
        Ok(wanted) => Ok(Deleted { partition, wanted }),
        Err(error) => {
            tracing::debug!(%partition, %error, "records not deleted");
            Err(error.error_code())
        }
    }
}

/// What brokers keep there, and what compaction keeps, is not for clients to delete.
fn check_topic(ctx: &Context, image: &Image, topic: &str) -> Result<(), ErrorCode> {
    let topic = image
        .topic_by_name(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let key = keys::topic_key("cleanup.policy").ok_or(ErrorCode::UnknownServerError)?;
    let (policy, _) = ctx
        .config
        .topic_value(&topic.config, Dynamic::of(image, ctx.config.id), key);
    if policy.split(',').any(|one| one.trim() == "delete") {
        Ok(())
    } else {
        Err(ErrorCode::PolicyViolation)
    }
}

/// Waits until the logs of all live replicas start where they shall; returns the lowest start.
async fn until_everywhere(
    ctx: &Context,
    deleted: &Deleted,
    deadline: Instant,
) -> Result<Offset, ErrorCode> {
    let Deleted { partition, wanted } = deleted;
    let mut images = ctx.controller.watch();
    let everywhere = async {
        loop {
            let moved = partition.low_watermark_moved();
            let live = live_followers(ctx, &images.borrow_and_update(), partition);
            let low = partition
                .low_watermark(&live)
                .map_err(|_| ErrorCode::NotLeaderOrFollower)?;
            if low >= *wanted {
                return Ok(low);
            }
            tokio::select! {
                () = moved => {}
                changed = images.changed() => {
                    changed.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
                }
            }
        }
    };
    timeout_at(deadline, everywhere)
        .await
        .unwrap_or(Err(ErrorCode::RequestTimedOut))
}

fn live_followers(ctx: &Context, image: &Image, partition: &Partition) -> Vec<BrokerId> {
    let is_live = |id: &BrokerId| {
        let broker = image.brokers.get(id);
        *id != ctx.config.id && broker.is_some_and(|broker| !broker.fenced)
    };
    let state = image.partition(partition.id());
    let replicas = state.map_or(&[][..], |state| &state.replicas);
    replicas.iter().copied().filter(is_live).collect()
}

fn result(
    partition_index: i32,
    outcome: Result<Offset, ErrorCode>,
) -> DeleteRecordsPartitionResult {
    let (low_watermark, error_code) = match outcome {
        Ok(low) => (low.0, ErrorCode::None),
        Err(error_code) => (NO_LOW_WATERMARK, error_code),
    };
    DeleteRecordsPartitionResult {
        partition_index,
        low_watermark,
        error_code,
    }
}
