//! Where the logs of partitions begin and end.

use std::collections::{BTreeMap, BTreeSet};

use broker_wire::message::ListOffsetsRequest;
use broker_wire::message::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use broker_wire::{ErrorCode, Str};
use futures::future::join_all;

use crate::cluster::{Cluster, retry};
use crate::error::ClientError;
use crate::group::Offsets;

const LIST_OFFSETS_VERSION: i16 = 6;
const CONSUMER: i32 = -1;
const READ_COMMITTED: i8 = 1;

/// An end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEnd {
    /// The oldest offset.
    Earliest,
    /// The next offset that a consumer will read.
    Latest,
}

/// An end of the log of each of the partitions, by one request to every leader. Partitions of topics
/// that do not exist are left out.
pub(crate) async fn log_ends(
    cluster: &Cluster,
    places: impl IntoIterator<Item = (String, i32)>,
    end: LogEnd,
) -> Result<Offsets, ClientError> {
    let what = "find the offsets of partitions";
    let mut missing: BTreeSet<_> = places.into_iter().collect();
    let mut found = Offsets::new();
    retry(what, async || {
        let topics: BTreeSet<_> = missing.iter().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        let metadata = cluster.metadata(Some(&topics)).await?;
        let gone = |topic: &String| {
            metadata.failures.get(topic) == Some(&ErrorCode::UnknownTopicOrPartition)
        };
        missing.retain(|(topic, _)| !gone(topic));
        let mut by_leader = BTreeMap::<&str, Vec<&(String, i32)>>::new();
        for place in &missing {
            if let Some(leader) = metadata.leader(&place.0, place.1) {
                by_leader.entry(&leader.address).or_default().push(place);
            }
        }
        let calls = by_leader.into_iter().map(|(address, places)| {
            let request = request(&places, end);
            async move {
                cluster
                    .call_at(address, LIST_OFFSETS_VERSION, &request)
                    .await
            }
        });
        let mut failure = ClientError::refused(what, ErrorCode::LeaderNotAvailable, None);
        for answer in join_all(calls).await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.is_retriable() => {
                    failure = error;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for topic in answer.topics {
                for partition in topic.partitions {
                    let place = (topic.name.to_string(), partition.partition_index);
                    match partition.error_code {
                        ErrorCode::None if missing.remove(&place) => {
                            found.insert(place, partition.offset);
                        }
                        // Nobody asked for it.
                        ErrorCode::None => {}
                        code => {
                            let what = format!("find the offsets of {}-{}", place.0, place.1);
                            failure = ClientError::refused(what, code, None);
                            if !code.retriable() {
                                return Err(failure);
                            }
                        }
                    }
                }
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(failure)
        }
    })
    .await?;
    Ok(found)
}

fn request(places: &[&(String, i32)], end: LogEnd) -> ListOffsetsRequest {
    let mut topics = BTreeMap::<&str, Vec<ListOffsetsPartition>>::new();
    for (topic, partition) in places {
        let partition = ListOffsetsPartition {
            partition_index: *partition,
            timestamp: match end {
                LogEnd::Latest => -1,
                LogEnd::Earliest => -2,
            },
            ..ListOffsetsPartition::default()
        };
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic {
            name: Str::from(name.to_owned()),
            partitions,
        });
    ListOffsetsRequest {
        replica_id: CONSUMER,
        isolation_level: READ_COMMITTED,
        topics: topics.collect(),
        ..ListOffsetsRequest::default()
    }
}
