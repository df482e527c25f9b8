//! OffsetCommit and OffsetFetch.

use std::collections::BTreeMap;

use broker_core::group::{
    CommitRequest, CommittedOffset, Generation, GroupEpoch, GroupError, Groups, OffsetToCommit,
    Response,
};
use broker_core::{LeaderEpoch, Offset, PartitionIndex, Timestamp};
use broker_wire::message::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use broker_wire::message::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use broker_wire::message::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use broker_wire::{ErrorCode, Str};

use super::error::{code, result_code};
use super::{GroupCoordinator, PartitionLog};
use crate::clock;

impl<L: PartitionLog> GroupCoordinator<L> {
    /// Stores offsets; answers when they are durable. Partitions that do not exist by `exists` are
    /// refused one by one.
    pub async fn commit_offsets(
        &self,
        request: OffsetCommitRequest,
        exists: impl Fn(&str, PartitionIndex) -> bool,
    ) -> OffsetCommitResponse {
        let known: Vec<bool> = request
            .topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| (&topic.name, partition))
            })
            .map(|(topic, partition)| exists(topic, PartitionIndex(partition.partition_index)))
            .collect();
        let commit = commit_request(&request, &known);
        let count = commit.offsets.len();
        let results = self
            .commit(commit)
            .await
            .unwrap_or_else(|error| vec![error; count]);
        let (mut known, mut results) = (known.into_iter(), results.into_iter());
        let mut next_result = |partition: &OffsetCommitRequestPartition| {
            let result = if known.next() == Some(true) {
                results.next()
            } else {
                None
            };
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: result.unwrap_or(ErrorCode::UnknownTopicOrPartition),
            }
        };
        let topics = request
            .topics
            .iter()
            .map(|topic| OffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(&mut next_result).collect(),
            });
        OffsetCommitResponse {
            topics: topics.collect(),
            ..OffsetCommitResponse::default()
        }
    }

    /// One code for each offset, or one for all.
    async fn commit(&self, request: CommitRequest) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self
            .shard(&request.group)
            .map_err(super::Unavailable::code)?;
        let submitted =
            shard.submit(|groups, now, token, out| groups.handle_commit(now, request, token, out));
        match submitted.await {
            Ok(Response::CommitOffsets(Ok(results))) => {
                Ok(results.iter().map(result_code).collect())
            }
            Ok(Response::CommitOffsets(Err(error))) => Err(code(&error)),
            Ok(_) => unreachable!("a commit is answered as one"),
            Err(unavailable) => Err(unavailable.code()),
        }
    }

    /// Looks up committed offsets of one group, or from v8 on of several. `is_confirmed`: since the
    /// request came, the controller has said that nobody else leads what this broker leads.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        request: OffsetFetchRequest,
        version: i16,
        is_confirmed: bool,
    ) -> OffsetFetchResponse {
        if version >= 8 {
            let groups = request
                .groups
                .into_iter()
                .map(|group| self.fetch_group(group, request.require_stable, is_confirmed))
                .collect();
            return OffsetFetchResponse {
                groups,
                ..OffsetFetchResponse::default()
            };
        }
        let topics = request.topics.map(|topics| {
            let same = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
            });
            same.collect()
        });
        let group = OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let found = self.fetch_group(group, request.require_stable, is_confirmed);
        single_group(found, version)
    }

    fn fetch_group(
        &self,
        request: OffsetFetchRequestGroup,
        require_stable: bool,
        is_confirmed: bool,
    ) -> OffsetFetchResponseGroup {
        let group = request.group_id.clone();
        let look_up = |groups: &Groups| {
            let mut topics = checked_topics(groups, &request)?;
            if require_stable {
                refuse_pending(groups, &group, &mut topics);
            }
            Ok::<_, GroupError>(topics)
        };
        let found = self
            .confirmed_shard(&group, is_confirmed)
            .and_then(|shard| shard.with_groups(|groups, _, _| look_up(groups)));
        let (topics, error_code) = match found {
            Ok(Ok(topics)) => (topics, ErrorCode::None),
            Ok(Err(error)) => (refused_topics(&request, code(&error)), code(&error)),
            Err(unavailable) => (
                refused_topics(&request, unavailable.code()),
                unavailable.code(),
            ),
        };
        OffsetFetchResponseGroup {
            group_id: group,
            topics,
            error_code,
        }
    }
}

/// The offsets of partitions that are known, in the request's order.
fn commit_request(request: &OffsetCommitRequest, known: &[bool]) -> CommitRequest {
    let retention_ms = request.retention_time_ms;
    let expire_timestamp =
        (retention_ms >= 0).then(|| Timestamp(clock::timestamp().0.saturating_add(retention_ms)));
    let mut offsets = Vec::new();
    let mut known = known.iter();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if known.next() == Some(&true) {
                let metadata = partition.committed_metadata.as_ref();
                offsets.push(OffsetToCommit {
                    topic: topic.name.as_str().to_owned(),
                    partition: PartitionIndex(partition.partition_index),
                    offset: Offset(partition.committed_offset),
                    leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    metadata: metadata.map_or_else(String::new, |text| text.as_str().to_owned()),
                    expire_timestamp,
                });
            }
        }
    }
    CommitRequest {
        group: request.group_id.as_str().into(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: request
            .group_instance_id
            .as_ref()
            .map(|id| id.as_str().to_owned()),
        generation: Generation(request.generation_id_or_member_epoch),
        offsets,
    }
}

/// As [`found_topics`], for members of consumer groups only in their present epoch (v9).
fn checked_topics(
    groups: &Groups,
    request: &OffsetFetchRequestGroup,
) -> Result<Vec<OffsetFetchResponseTopics>, GroupError> {
    if let Some(member_id) = request.member_id.as_ref().filter(|id| !id.is_empty()) {
        groups.check_reader(
            &request.group_id,
            member_id,
            GroupEpoch(request.member_epoch),
        )?;
    }
    Ok(found_topics(groups, request))
}

fn found_topics(
    groups: &Groups,
    request: &OffsetFetchRequestGroup,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = &request.topics else {
        return all_topics(groups, &request.group_id);
    };
    let of = |topic: &OffsetFetchRequestTopics| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let partition = PartitionIndex(*index);
            found_partition(
                partition,
                groups.committed_offset(&request.group_id, &topic.name, partition),
            )
        });
        OffsetFetchResponseTopics {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    };
    topics.iter().map(of).collect()
}

fn all_topics(groups: &Groups, group: &str) -> Vec<OffsetFetchResponseTopics> {
    let mut by_topic: BTreeMap<&str, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for (topic, partition, committed) in groups.committed_offsets(group) {
        by_topic
            .entry(topic)
            .or_default()
            .push(found_partition(partition, Some(committed)));
    }
    by_topic
        .into_iter()
        .map(|(name, partitions)| OffsetFetchResponseTopics {
            name: Str::from(name.to_owned()),
            partitions,
        })
        .collect()
}

/// A consumer that goes on in a transaction's place waits until that has ended (KIP-447).
fn refuse_pending(groups: &Groups, group: &str, topics: &mut [OffsetFetchResponseTopics]) {
    for topic in topics {
        for found in &mut topic.partitions {
            let partition = PartitionIndex(found.partition_index);
            if groups.has_pending_offset(group, &topic.name, partition) {
                *found = OffsetFetchResponsePartitions {
                    error_code: ErrorCode::UnstableOffsetCommit,
                    ..found_partition(partition, None)
                };
            }
        }
    }
}

/// No committed offset is told as -1, not as an error.
fn found_partition(
    partition: PartitionIndex,
    committed: Option<&CommittedOffset>,
) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition.0,
        committed_offset: committed.map_or(-1, |committed| committed.offset.0),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch.0),
        metadata: Some(
            committed.map_or_else(Str::default, |committed| committed.metadata.clone().into()),
        ),
        error_code: ErrorCode::None,
    }
}

fn refused_topics(
    request: &OffsetFetchRequestGroup,
    error_code: ErrorCode,
) -> Vec<OffsetFetchResponseTopics> {
    let refused = |topic: &OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| OffsetFetchResponsePartitions {
                error_code,
                ..found_partition(PartitionIndex(*index), None)
            })
            .collect(),
    };
    request.topics.iter().flatten().map(refused).collect()
}

/// The form before v8. Clients of v0 and v1 look for errors at the partitions, later ones at the top.
fn single_group(group: OffsetFetchResponseGroup, version: i16) -> OffsetFetchResponse {
    let is_refused = group.error_code.is_error() && version >= 2;
    let topics = group
        .topics
        .into_iter()
        .filter(|_| !is_refused)
        .map(|topic| {
            let partitions =
                topic
                    .partitions
                    .into_iter()
                    .map(|partition| OffsetFetchResponsePartition {
                        partition_index: partition.partition_index,
                        committed_offset: partition.committed_offset,
                        committed_leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.metadata,
                        error_code: partition.error_code,
                    });
            OffsetFetchResponseTopic {
                name: topic.name,
                partitions: partitions.collect(),
            }
        });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}
