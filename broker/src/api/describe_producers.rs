//! DescribeProducers: the idempotent producers of partitions that this broker has replicas of.

use broker_core::PartitionIndex;
use broker_core::partition;
use broker_wire::message::describe_producers::{
    DescribeProducersPartitionResponse, DescribeProducersTopicResponse, ProducerState,
};
use broker_wire::message::{DescribeProducersRequest, DescribeProducersResponse};

use super::context::{Context, RequestInfo};
use super::error::KafkaError;
use super::lookup::find_partition;

/// Producers in an answer about one partition.
const PRODUCERS_MAX: usize = 100_000;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter();
        DescribeProducersTopicResponse {
            partitions: partitions
                .map(|index| describe(ctx, &topic.name, *index))
                .collect(),
            name: topic.name,
        }
    });
    DescribeProducersResponse {
        topics: topics.collect(),
        ..DescribeProducersResponse::default()
    }
}

fn describe(ctx: &Context, topic: &str, index: i32) -> DescribeProducersPartitionResponse {
    let states = find_partition(ctx, topic, PartitionIndex(index)).and_then(|partition| {
        let states = partition.producer_states(PRODUCERS_MAX);
        states.map_err(|error| error.error_code())
    });
    let response = DescribeProducersPartitionResponse {
        partition_index: index,
        ..DescribeProducersPartitionResponse::default()
    };
    match states {
        Ok(states) => DescribeProducersPartitionResponse {
            active_producers: states.into_iter().map(state).collect(),
            ..response
        },
        Err(error_code) => DescribeProducersPartitionResponse {
            error_code,
            ..response
        },
    }
}

fn state(producer: partition::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp.0,
        coordinator_epoch: producer.coordinator_epoch.0,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |offset| offset.0),
    }
}
