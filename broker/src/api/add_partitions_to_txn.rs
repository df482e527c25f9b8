//! AddPartitionsToTxn: clients add partitions until version 3; from version 4 on, brokers ask for
//! several transactions.

use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::transaction::{Producer, TransactionTopicPartition};
use broker_core::{PartitionIndex, ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction,
};
use broker_wire::message::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::context::{Context, RequestInfo};
use super::error::older_producer_error;

/// First version with several transactions.
const TRANSACTIONS_VERSION_MIN: i16 = 4;
/// First version that knows PRODUCER_FENCED.
const FENCED_VERSION_MIN: i16 = 2;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if info.version >= TRANSACTIONS_VERSION_MIN {
        let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
        for transaction in &request.transactions {
            results_by_transaction.push(AddPartitionsToTxnResult {
                transactional_id: transaction.transactional_id.clone(),
                topic_results: add(ctx, transaction, info.version).await,
            });
        }
        return AddPartitionsToTxnResponse {
            results_by_transaction,
            ..AddPartitionsToTxnResponse::default()
        };
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics,
    };
    AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: add(ctx, &transaction, info.version).await,
        ..AddPartitionsToTxnResponse::default()
    }
}

/// All partitions are added, or none.
async fn add(
    ctx: &Context,
    transaction: &AddPartitionsToTxnTransaction,
    version: i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let image = ctx.image();
    let all_exist = transaction.topics.iter().all(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.all(|index| exists(&image, topic, *index))
    });
    if !all_exist {
        return results(&transaction.topics, |topic, index| {
            match exists(&image, topic, index) {
                true => ErrorCode::OperationNotAttempted,
                false => ErrorCode::UnknownTopicOrPartition,
            }
        });
    }
    let partitions = named(&transaction.topics);
    let id = transaction.transactional_id.as_str();
    let producer = Producer {
        id: ProducerId(transaction.producer_id),
        epoch: ProducerEpoch(transaction.producer_epoch),
    };
    let outcome = if transaction.verify_only {
        ctx.transactions.verify(id, producer, &partitions).await
    } else {
        let adding = ctx.transactions.add_partitions(id, producer, &partitions);
        adding.await
    };
    let code = outcome.err().map_or(ErrorCode::None, |refused| {
        older_producer_error(refused.code(), version >= FENCED_VERSION_MIN)
    });
    results(&transaction.topics, |_, _| code)
}

fn exists(image: &Image, topic: &AddPartitionsToTxnTopic, index: i32) -> bool {
    let topic = image.topic_by_name(&topic.name);
    topic.is_some_and(|topic| topic.partition(PartitionIndex(index)).is_some())
}

fn named(topics: &[AddPartitionsToTxnTopic]) -> Vec<TransactionTopicPartition> {
    let mut partitions = Vec::new();
    for topic in topics {
        let name = Arc::from(topic.name.as_str());
        let of = |index: &i32| (Arc::clone(&name), PartitionIndex(*index));
        partitions.extend(topic.partitions.iter().map(of));
    }
    partitions
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&AddPartitionsToTxnTopic, i32) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let result = |topic: &AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code(topic, *index),
            })
            .collect(),
    };
    topics.iter().map(result).collect()
}
