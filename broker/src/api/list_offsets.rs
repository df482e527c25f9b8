//! ListOffsets (KIP-79, KIP-207, KIP-734): first, last, and by timestamp.

use std::collections::BTreeSet;

use broker_core::{LeaderEpoch, PartitionIndex, Timestamp};
use broker_wire::ErrorCode;
use broker_wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use broker_wire::message::{ListOffsetsRequest, ListOffsetsResponse};

use super::context::{Context, RequestInfo};
use super::error::KafkaError;
use super::fetch::isolation;
use super::lookup::find_partition;
use crate::partition::{FoundOffset, Isolation, OffsetQuery, ReadError};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

const MAX_TIMESTAMP_VERSION_MIN: i16 = 7;
const EARLIEST_LOCAL_VERSION_MIN: i16 = 8;
const LATEST_TIERED_VERSION_MIN: i16 = 9;
/// First version whose clients know [`ErrorCode::OffsetNotAvailable`] (KIP-207).
const OFFSET_NOT_AVAILABLE_VERSION_MIN: i16 = 5;

/// What a timestamp of the request asks for.
enum Lookup {
    Log(OffsetQuery),
    /// Nothing is tiered, so there is no such offset.
    Tiered,
}

fn lookup(timestamp: i64, version: i16) -> Option<Lookup> {
    let since = |version_min, query| (version >= version_min).then_some(query);
    match timestamp {
        LATEST => Some(Lookup::Log(OffsetQuery::Latest)),
        EARLIEST => Some(Lookup::Log(OffsetQuery::Earliest)),
        MAX_TIMESTAMP => since(
            MAX_TIMESTAMP_VERSION_MIN,
            Lookup::Log(OffsetQuery::MaxTimestamp),
        ),
        EARLIEST_LOCAL => since(
            EARLIEST_LOCAL_VERSION_MIN,
            Lookup::Log(OffsetQuery::Earliest),
        ),
        LATEST_TIERED => since(LATEST_TIERED_VERSION_MIN, Lookup::Tiered),
        0.. => Some(Lookup::Log(OffsetQuery::At(Timestamp(timestamp)))),
        _ => None,
    }
}

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = isolation(request.isolation_level);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut seen = BTreeSet::new();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let found = if seen.insert(wanted.partition_index) {
                find(ctx, &topic.name, &wanted, isolation, info.version).await
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            partitions.push(response(wanted.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    }
}

async fn find(
    ctx: &Context,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> Result<Option<FoundOffset>, ErrorCode> {
    let lookup = lookup(wanted.timestamp, version).ok_or(ErrorCode::UnsupportedVersion)?;
    let partition = find_partition(ctx, topic, PartitionIndex(wanted.partition_index))?;
    partition
        .check_confirmed()
        .map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    let epoch = Some(LeaderEpoch(wanted.current_leader_epoch));
    let found = match lookup {
        Lookup::Tiered => return Ok(None),
        Lookup::Log(query @ (OffsetQuery::Earliest | OffsetQuery::Latest)) => {
            partition.find_offset(query, epoch, isolation)
        }
        // Reads and decompresses a batch that may be on disk only.
        Lookup::Log(query) => {
            tokio::task::spawn_blocking(move || partition.find_offset(query, epoch, isolation))
                .await
                .map_err(|_| ErrorCode::UnknownServerError)?
        }
    };
    found.map_err(|error| match error {
        ReadError::OffsetNotAvailable if version < OFFSET_NOT_AVAILABLE_VERSION_MIN => {
            ErrorCode::LeaderNotAvailable
        }
        error => error.error_code(),
    })
}

fn response(
    partition_index: i32,
    found: Result<Option<FoundOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let none = ListOffsetsPartitionResponse {
        partition_index,
        ..Default::default()
    };
    match found {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: found.epoch.0,
            ..none
        },
        Ok(None) => none,
        Err(error_code) => ListOffsetsPartitionResponse { error_code, ..none },
    }
}
