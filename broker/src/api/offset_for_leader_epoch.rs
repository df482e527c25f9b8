//! OffsetForLeaderEpoch (KIP-101, KIP-320): where a leader epoch ends in the log.

use broker_core::{LeaderEpoch, PartitionIndex};
use broker_wire::ErrorCode;
use broker_wire::message::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use broker_wire::message::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::context::{Context, RequestInfo};
use super::error::KafkaError;
use super::lookup::find_partition;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let ends = topic
            .partitions
            .iter()
            .map(|wanted| epoch_end(ctx, &topic.topic, wanted));
        OffsetForLeaderTopicResult {
            partitions: ends.collect(),
            topic: topic.topic,
        }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn epoch_end(ctx: &Context, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let none = EpochEndOffset {
        partition: wanted.partition,
        ..EpochEndOffset::default()
    };
    let end = find_partition(ctx, topic, PartitionIndex(wanted.partition)).and_then(|partition| {
        partition
            .check_confirmed()
            .map_err(|_| ErrorCode::NotLeaderOrFollower)?;
        let current = Some(LeaderEpoch(wanted.current_leader_epoch));
        let end = partition.epoch_end(current, LeaderEpoch(wanted.leader_epoch));
        end.map_err(|error| error.error_code())
    });
    match end {
        Ok(Some((epoch, offset))) => EpochEndOffset {
            leader_epoch: epoch.0,
            end_offset: offset.0,
            ..none
        },
        Ok(None) => none,
        Err(error_code) => EpochEndOffset { error_code, ..none },
    }
}
