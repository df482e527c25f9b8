//! DescribeTransactions: where transactions stand that this broker coordinates.

use std::collections::BTreeMap;

use broker_core::transaction::TransactionMetadata;
use broker_wire::message::describe_transactions::{TopicData, TransactionState};
use broker_wire::message::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let described = match ctx.transactions.describe(&id) {
            Ok(Some(metadata)) => state(&metadata),
            Ok(None) => refused(ErrorCode::TransactionalIdNotFound),
            Err(error) => refused(error.code()),
        };
        TransactionState {
            transactional_id: id,
            ..described
        }
    });
    DescribeTransactionsResponse {
        transaction_states: states.collect(),
        ..DescribeTransactionsResponse::default()
    }
}

fn refused(error_code: ErrorCode) -> TransactionState {
    TransactionState {
        error_code,
        ..TransactionState::default()
    }
}

fn state(metadata: &TransactionMetadata) -> TransactionState {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &metadata.partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| TopicData {
        topic: Str::from(topic.to_owned()),
        partitions,
    });
    TransactionState {
        transaction_state: metadata.state.name().into(),
        transaction_timeout_ms: i32::try_from(metadata.timeout.as_millis()).unwrap_or(i32::MAX),
        transaction_start_time_ms: if metadata.state.is_idle() {
            -1
        } else {
            metadata.started_at.0
        },
        producer_id: metadata.producer_id.0,
        producer_epoch: metadata.producer_epoch.0,
        topics: topics.collect(),
        ..TransactionState::default()
    }
}
