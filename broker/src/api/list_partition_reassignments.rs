//! ListPartitionReassignments (KIP-455): from the metadata that this broker has.

use broker_core::metadata::{PartitionImage, TopicImage};
use broker_core::{BrokerId, PartitionIndex};
use broker_wire::message::list_partition_reassignments::{
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use broker_wire::message::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = ctx.image();
    let topics: Vec<_> = match &request.topics {
        Some(topics) => topics
            .iter()
            .filter_map(|wanted| listed(image.topic_by_name(&wanted.name)?, wanted))
            .collect(),
        None => image.topics.values().filter_map(|t| all(t)).collect(),
    };
    ListPartitionReassignmentsResponse {
        topics,
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn listed(
    topic: &TopicImage,
    wanted: &ListPartitionReassignmentsTopics,
) -> Option<OngoingTopicReassignment> {
    let partitions = wanted.partition_indexes.iter().filter_map(|index| {
        let state = topic.partition(PartitionIndex(*index))?;
        ongoing(*index, state)
    });
    with_partitions(topic, partitions.collect())
}

fn all(topic: &TopicImage) -> Option<OngoingTopicReassignment> {
    let partitions = topic
        .iter()
        .filter_map(|(id, state)| ongoing(id.partition.0, state));
    with_partitions(topic, partitions.collect())
}

fn with_partitions(
    topic: &TopicImage,
    partitions: Vec<OngoingPartitionReassignment>,
) -> Option<OngoingTopicReassignment> {
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: (*topic.name).to_owned().into(),
        partitions,
    })
}

fn ongoing(partition_index: i32, state: &PartitionImage) -> Option<OngoingPartitionReassignment> {
    let raw = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
    state
        .is_reassigning()
        .then(|| OngoingPartitionReassignment {
            partition_index,
            replicas: raw(&state.replicas),
            adding_replicas: raw(&state.adding),
            removing_replicas: raw(&state.removing),
        })
}
