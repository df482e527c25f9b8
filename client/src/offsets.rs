//! Where the log of a partition begins and ends.

use broker_wire::message::ListOffsetsRequest;
use broker_wire::message::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use broker_wire::{ErrorCode, Str};

use crate::cluster::{Cluster, retry};
use crate::error::{ClientError, check};

const LIST_OFFSETS_VERSION: i16 = 6;
const CONSUMER: i32 = -1;
const READ_COMMITTED: i8 = 1;
/// The next offset to be written that a consumer may read up to.
pub(crate) const LATEST: i64 = -1;
/// The oldest offset.
pub(crate) const EARLIEST: i64 = -2;

/// The first and the next offset of a partition.
pub(crate) async fn log_ends(
    cluster: &Cluster,
    place: &(String, i32),
) -> Result<(i64, i64), ClientError> {
    let start = end_of_log(cluster, place, EARLIEST).await?;
    Ok((start, end_of_log(cluster, place, LATEST).await?))
}

pub(crate) async fn end_of_log(
    cluster: &Cluster,
    place: &(String, i32),
    timestamp: i64,
) -> Result<i64, ClientError> {
    let (topic, partition) = place;
    let what = format!("find the offsets of {topic}-{partition}");
    let request = ListOffsetsRequest {
        replica_id: CONSUMER,
        isolation_level: READ_COMMITTED,
        topics: vec![ListOffsetsTopic {
            name: Str::from(topic.clone()),
            partitions: vec![ListOffsetsPartition {
                partition_index: *partition,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    retry(&what, async || {
        let metadata = cluster.metadata(Some(&[topic])).await?;
        if metadata.failures.get(topic) == Some(&ErrorCode::UnknownTopicOrPartition) {
            return Err(ClientError::Unknown(format!("topic {topic}")));
        }
        let no_leader = || ClientError::refused(&what, ErrorCode::LeaderNotAvailable, None);
        let leader = metadata.leader(topic, *partition).ok_or_else(no_leader)?;
        let answer = cluster
            .call_at(&leader.address, LIST_OFFSETS_VERSION, &request)
            .await?;
        let mut found = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let found = found.next().ok_or_else(no_leader)?;
        check(&what, found.error_code, None)?;
        Ok(found.offset)
    })
    .await
}
