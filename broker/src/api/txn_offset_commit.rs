//! TxnOffsetCommit: offsets of a group that count once the transaction is committed.

use broker_core::transaction::Producer;
use broker_core::{PartitionIndex, ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::txn_offset_commit::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use broker_wire::message::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::context::{Context, RequestInfo};
use super::error::older_abortable_error;
use crate::coordinator::OFFSETS_TOPIC;
use crate::transaction::{JoinMode, Joining};

/// First version of clients that leave it to the broker to add the group's partition (KIP-890).
const ADDS_VERSION_MIN: i16 = 5;
/// First version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION_MIN: i16 = 4;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let producer = Producer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let guard = match ctx.groups.begin_verification(&request.group_id, producer) {
        Ok(guard) => guard,
        Err(code) => return refused(&request, code),
    };
    if guard.is_some() {
        let group = ctx.groups.find(&request.group_id);
        let joining = Joining {
            id: request.transactional_id.as_str().into(),
            producer,
            mode: match info.version >= ADDS_VERSION_MIN {
                true => JoinMode::Add,
                false => JoinMode::Verify,
            },
            partitions: vec![(OFFSETS_TOPIC.into(), group)],
        };
        if let Err(code) = ctx.transactions.join(joining).await {
            return refused(&request, client_code(code, info.version));
        }
    }
    let image = ctx.image();
    let exists = |topic: &str, partition: PartitionIndex| {
        let topic = image.topic_by_name(topic);
        topic.is_some_and(|topic| topic.partition(partition).is_some())
    };
    ctx.groups
        .commit_in_transaction(request, guard, exists)
        .await
}

/// The coordinator of the transaction is not the one that the client asks: it has to try again, not to
/// look for another.
fn client_code(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::ConcurrentTransactions => ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        code => older_abortable_error(code, version >= ABORTABLE_VERSION_MIN),
    }
}

fn refused(request: &TxnOffsetCommitRequest, error_code: ErrorCode) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
            })
            .collect(),
    });
    TxnOffsetCommitResponse {
        topics: topics.collect(),
        ..TxnOffsetCommitResponse::default()
    }
}
