//! From what a request names to the partition on this broker.

use std::sync::Arc;

use broker_core::controller::PartitionRef;
use broker_core::metadata::Image;
use broker_core::{PartitionIndex, TopicPartition};
use broker_wire::ErrorCode;

use super::context::Context;
use super::create_topics::Refusal;
use crate::partition::Partition;

/// The partition of a topic by name.
pub(super) fn find_partition(
    ctx: &Context,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Arc<Partition>, ErrorCode> {
    let image = ctx.image();
    let topic = *image
        .topic_ids
        .get(topic)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    find_hosted(ctx, &image, TopicPartition { topic, partition })
}

/// The partition if this broker has a replica; otherwise, whether the client is to look elsewhere.
pub(super) fn find_hosted(
    ctx: &Context,
    image: &Image,
    id: TopicPartition,
) -> Result<Arc<Partition>, ErrorCode> {
    ctx.partitions
        .get(id)
        .ok_or_else(|| match image.partition(id) {
            // Until the controller knows and has another leader.
            Some(state) if state.leader == Some(ctx.config.id) && ctx.partitions.is_offline(id) => {
                ErrorCode::KafkaStorageError
            }
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        })
}

/// The partition of a topic by name, for the controller.
pub(super) fn partition_ref(
    image: &Image,
    topic: &str,
    partition: i32,
) -> Result<PartitionRef, Refusal> {
    let known = image.topic_by_name(topic).filter(|topic| {
        let index = PartitionIndex(partition);
        topic.partition(index).is_some()
    });
    let topic = known.ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no partition {topic}-{partition}"),
        )
    })?;
    Ok(PartitionRef {
        topic_id: topic.id.into(),
        partition,
    })
}
