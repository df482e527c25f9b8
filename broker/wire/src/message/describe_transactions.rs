//! DescribeTransactions (KIP-664): where the transactions of transactional ids stand.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// Transactional ids.
    pub struct DescribeTransactionsRequest {
        transactional_ids: Vec<Str>,
    }
}

message! {
    flexible 0;

    /// Transactions.
    pub struct DescribeTransactionsResponse {
        throttle_time_ms: i32,
        transaction_states: Vec<TransactionState>,
    }

    /// A transactional id.
    pub struct TransactionState {
        error_code: ErrorCode,
        transactional_id: Str,
        transaction_state: Str,
        transaction_timeout_ms: i32,
        transaction_start_time_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        topics: Vec<TopicData>,
    }

    /// Partitions of the transaction.
    pub struct TopicData {
        topic: Str,
        partitions: Vec<i32>,
    }
}
