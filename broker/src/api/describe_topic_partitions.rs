//! DescribeTopicPartitions (KIP-966): topics in the order of their names, page by page.

use std::collections::BTreeSet;

use broker_core::BrokerId;
use broker_core::metadata::{Image, PartitionImage, ReplicaHealth, TopicImage};
use broker_wire::message::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use broker_wire::message::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use broker_wire::{ErrorCode, Str};

use super::authorized_operations;
use super::context::{Context, RequestInfo, wire_id};

/// Partitions on a page, whatever the client asks for.
const PAGE_PARTITIONS_MAX: usize = 2000;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    page(&ctx.image(), &info.listener, &request)
}

fn page(
    image: &Image,
    listener: &str,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topic_ids.keys().map(|name| &**name).collect()
    } else {
        request
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect()
    };
    let (first_name, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut room = asked.clamp(1, PAGE_PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(first_name..) {
        let start = if *name == first_name {
            usize::try_from(first_partition).unwrap_or(0)
        } else {
            0
        };
        let Some(topic) = image.topic_by_name(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let end = topic.partitions.len().min(start.saturating_add(room));
        if start < end {
            response
                .topics
                .push(described(image, listener, topic, start..end));
            room -= end - start;
        }
        if end < topic.partitions.len() {
            response.next_cursor = Some(Cursor {
                topic_name: Str::from((*name).to_owned()),
                partition_index: i32::try_from(end).unwrap_or(i32::MAX),
            });
            break;
        }
    }
    response
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition,
        name: Some(Str::from(name.to_owned())),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn described(
    image: &Image,
    listener: &str,
    topic: &TopicImage,
    range: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = range
        .filter_map(|index| Some((i32::try_from(index).ok()?, topic.partitions.get(index)?)))
        .map(|(index, state)| partition(image, listener, index, state));
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None,
        name: Some(Str::from(topic.name.to_string())),
        topic_id: wire_id(topic.id),
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: authorized_operations::TOPIC,
    }
}

fn partition(
    image: &Image,
    listener: &str,
    partition_index: i32,
    state: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let broker = |id: &BrokerId| image.brokers.get(id).filter(|broker| !broker.fenced);
    let (error_code, leader_id) = match state.leader.as_ref().and_then(broker) {
        None => (ErrorCode::LeaderNotAvailable, -1),
        Some(leader) if leader.endpoint(listener).is_none() => (ErrorCode::ListenerNotFound, -1),
        Some(leader) => (ErrorCode::None, leader.id.0),
    };
    let offline = state
        .replicas
        .iter()
        .filter(|id| broker(id).is_none() || state.health(**id) == ReplicaHealth::Offline);
    DescribeTopicPartitionsResponsePartition {
        error_code,
        partition_index,
        leader_id,
        leader_epoch: state.leader_epoch.0,
        replica_nodes: ids(&state.replicas),
        isr_nodes: ids(&state.isr),
        eligible_leader_replicas: Some(ids(&state.elr)),
        last_known_elr: Some(ids(&state.last_known_elr)),
        offline_replicas: offline.map(|id| id.0).collect(),
    }
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use broker_core::TopicId;
    use broker_core::metadata::{Partition, Record, Topic};
    use broker_wire::message::describe_topic_partitions::TopicRequest;

    use super::*;

    fn image(topics: &[(&str, i32)]) -> Image {
        let mut image = Image::default();
        for (number, (name, partitions)) in (1..).zip(topics) {
            let topic_id = TopicId([number; 16]).into();
            let topic = Topic {
                topic_id,
                name: (*name).to_owned(),
            };
            image.apply(&Record::Topic(topic)).unwrap();
            for partition in 0..*partitions {
                let replicas = vec![7];
                let leader = -1;
                let state = Partition {
                    topic_id,
                    partition,
                    replicas,
                    leader,
                    ..Partition::default()
                };
                image.apply(&Record::Partition(state)).unwrap();
            }
        }
        image
    }

    /// All pages of at most `limit` partitions, as (topic, partition); -1 for an unknown topic.
    fn pages(image: &Image, limit: i32, topics: &[&'static str]) -> Vec<Vec<(String, i32)>> {
        let mut pages = Vec::new();
        let mut cursor = None;
        loop {
            let request = DescribeTopicPartitionsRequest {
                topics: topics
                    .iter()
                    .map(|name| TopicRequest {
                        name: (*name).into(),
                    })
                    .collect(),
                response_partition_limit: limit,
                cursor,
            };
            let response = page(image, "L", &request);
            let rows = response.topics.iter().flat_map(|topic| {
                let name = topic.name.as_ref().unwrap().to_string();
                let unknown = topic.error_code.is_error().then_some(-1);
                let indexes = topic
                    .partitions
                    .iter()
                    .map(|partition| partition.partition_index);
                let indexes: Vec<i32> = indexes.chain(unknown).collect();
                indexes.into_iter().map(move |index| (name.clone(), index))
            });
            pages.push(rows.collect());
            cursor = response.next_cursor;
            if cursor.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn pages_end_at_the_limit_and_go_on_at_the_cursor() {
        let image = image(&[("b", 3), ("a", 2)]);
        let row = |name: &str, index| (name.to_owned(), index);
        let all = [
            row("a", 0),
            row("a", 1),
            row("b", 0),
            row("b", 1),
            row("b", 2),
        ];
        for limit in [1, 2, 3, 4, 5, 2000, i32::MAX] {
            let pages = pages(&image, limit, &[]);
            assert_eq!(pages.concat(), all, "{limit}");
            let limit = usize::try_from(limit).unwrap();
            assert_eq!(pages.len(), all.len().div_ceil(limit), "{limit}");
        }
        assert_eq!(
            pages(&image, -1, &["b"]).len(),
            3,
            "at least one partition on a page"
        );
        assert_eq!(
            pages(&image, 1, &["b", "a", "x"]).concat().last(),
            Some(&row("x", -1)),
            "an unknown topic is said to be so"
        );
    }

    #[test]
    fn a_partition_without_live_replicas_says_so() {
        let image = image(&[("a", 1)]);
        let response = page(&image, "L", &DescribeTopicPartitionsRequest::default());
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::LeaderNotAvailable);
        assert_eq!(
            (partition.leader_id, &partition.offline_replicas),
            (-1, &vec![7])
        );
    }
}
