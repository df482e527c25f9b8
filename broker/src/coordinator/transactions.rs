//! Offsets that are committed within transactions: TxnOffsetCommit, and the markers that end
//! transactions in partitions of `__consumer_offsets`.
//!
//! Records of transactions do not go through the writer: they are appended and applied under the
//! shard's lock, so that the groups know of everything that a later marker in the log ends.

use broker_core::PartitionIndex;
use broker_core::group::{
    CommitRequest, Ending, Generation, GroupError, GroupRecord, OffsetToCommit, TransactionalCommit,
};
use broker_core::partition::{EndMarker, MarkerEpoch, NO_SEQUENCE, VerificationGuard};
use broker_core::transaction::Producer;
use broker_core::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::txn_offset_commit::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use broker_wire::message::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use broker_wire::record::{BatchBuilder, NewRecord};
use bytes::Bytes;

use super::error::{Unavailable, append_code, code, result_code};
use super::log::NO_REPETITION;
use super::{GroupCoordinator, PartitionLog, codec};
use crate::clock;
use crate::partition::AppendError;

/// Why a transaction was not ended in a partition of `__consumer_offsets`.
#[derive(Debug, thiserror::Error)]
pub enum MarkerRefused {
    /// Not by this broker now; ask the leader again.
    #[error("the groups of the partition are not served here")]
    Unavailable,
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl<L: PartitionLog> GroupCoordinator<L> {
    /// To be called before the transaction's coordinator is asked whether it includes the partition of
    /// `group`; `None` when there is nothing to ask (KIP-890).
    ///
    /// # Errors
    /// For the client.
    pub fn begin_verification(
        &self,
        group: &str,
        producer: Producer,
    ) -> Result<Option<VerificationGuard>, ErrorCode> {
        let led = self.led(self.find(group)).map_err(Unavailable::code)?;
        let begun = led.log.begin_verification(producer);
        begun.map_err(|error| append_code(&error))
    }

    /// Stores offsets that count once their transaction is committed; answers when they are durable.
    /// Partitions that do not exist by `exists` are refused one by one.
    pub async fn commit_in_transaction(
        &self,
        request: TxnOffsetCommitRequest,
        guard: Option<VerificationGuard>,
        exists: impl Fn(&str, PartitionIndex) -> bool,
    ) -> TxnOffsetCommitResponse {
        let commit = commit_request(&request, &exists);
        let count = commit.offsets.len();
        let producer = Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        };
        let stored = self.store_in_transaction(commit, producer, guard).await;
        let results = stored.unwrap_or_else(|error| vec![error; count]);
        respond(&request, results.into_iter(), exists)
    }

    async fn store_in_transaction(
        &self,
        commit: CommitRequest,
        producer: Producer,
        guard: Option<VerificationGuard>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let led = self
            .led(self.find(&commit.group))
            .map_err(Unavailable::code)?;
        let stored = led.shard.with_groups(|groups, now, _| {
            let TransactionalCommit { records, results } = groups
                .decide_transactional_commit(now, commit)
                .map_err(|error| match error {
                    // What producers know.
                    GroupError::StaleMemberEpoch => ErrorCode::IllegalGeneration,
                    error => code(&error),
                })?;
            if records.is_empty() {
                return Ok((results, None));
            }
            let appended = led
                .log
                .begin_append(batch(&records, producer), guard)
                .map_err(|error| append_code(&error))?;
            let base_offset = appended.base_offset.expect(NO_REPETITION);
            for record in &records {
                groups.apply_pending(producer, record, base_offset);
            }
            Ok((results, appended.acknowledged))
        });
        let (results, acknowledged) = stored.map_err(Unavailable::code)??;
        if let Some(acknowledged) = acknowledged {
            let waited = tokio::time::timeout(super::writer::COMMIT_TIMEOUT, acknowledged).await;
            waited
                .map_err(|_| code(&GroupError::CoordinatorNotAvailable))?
                .map_err(|_| code(&GroupError::NotCoordinator))?;
        }
        Ok(results.iter().map(result_code).collect())
    }

    /// Ends a transaction in a partition of `__consumer_offsets` that this broker leads; returns once
    /// the marker is replicated and the groups know what has become of the offsets. Must be awaited to
    /// its end.
    ///
    /// # Errors
    /// [`MarkerRefused`].
    pub async fn end_transaction(
        &self,
        partition: PartitionIndex,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<(), MarkerRefused> {
        let unavailable = |_| MarkerRefused::Unavailable;
        let led = self.led(partition).map_err(unavailable)?;
        // Whoever loads finds only the markers that are in the log by then.
        let appended = led
            .shard
            .with_groups(|_, _, _| led.log.append_marker(marker, epoch))
            .map_err(unavailable)??;
        if let Some(acknowledged) = appended.acknowledged {
            acknowledged.await.map_err(|_| MarkerRefused::Unavailable)?;
        }
        let ending = appended
            .offset
            .map_or(Ending::BelowEpoch(marker.producer_epoch), Ending::Before);
        led.shard
            .with_groups(|groups, _, _| {
                groups.end_transaction(marker.producer_id, ending, marker.outcome);
            })
            .map_err(unavailable)
    }
}

/// The offsets of partitions that exist, in the request's order.
fn commit_request(
    request: &TxnOffsetCommitRequest,
    exists: &impl Fn(&str, PartitionIndex) -> bool,
) -> CommitRequest {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            if exists(&topic.name, index) {
                let metadata = partition.committed_metadata.as_ref();
                offsets.push(OffsetToCommit {
                    topic: topic.name.as_str().to_owned(),
                    partition: index,
                    offset: Offset(partition.committed_offset),
                    leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                    metadata: metadata.map_or_else(String::new, |text| text.as_str().to_owned()),
                    expire_timestamp: None,
                });
            }
        }
    }
    let instance_id = request.group_instance_id.as_ref();
    CommitRequest {
        group: request.group_id.as_str().into(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: instance_id.map(|id| id.as_str().to_owned()),
        generation: Generation(request.generation_id),
        offsets,
    }
}

fn respond(
    request: &TxnOffsetCommitRequest,
    mut results: impl Iterator<Item = ErrorCode>,
    exists: impl Fn(&str, PartitionIndex) -> bool,
) -> TxnOffsetCommitResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let result = |partition: &TxnOffsetCommitRequestPartition| {
            let index = partition.partition_index;
            let known = exists(&topic.name, PartitionIndex(index));
            let result = known.then(|| results.next()).flatten();
            TxnOffsetCommitResponsePartition {
                partition_index: index,
                error_code: result.unwrap_or(ErrorCode::UnknownTopicOrPartition),
            }
        };
        topics.push(TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(result).collect(),
        });
    }
    TxnOffsetCommitResponse {
        topics,
        ..TxnOffsetCommitResponse::default()
    }
}

fn batch(records: &[GroupRecord], producer: Producer) -> Bytes {
    let timestamp = clock::timestamp().0;
    let mut builder = BatchBuilder::new(0)
        .producer(producer.id.0, producer.epoch.0, NO_SEQUENCE)
        .transactional();
    for record in records {
        let codec::Encoded { key, value } = codec::encode(record);
        builder.append(&NewRecord {
            timestamp,
            key: Some(&key),
            value: value.as_deref(),
            headers: &[],
        });
    }
    builder
        .build()
        .expect("uncompressed records of bounded size make a batch")
}
