//! AddPartitionsToTxn (KIP-98, KIP-890): makes partitions part of a transaction. From version 4 on it is
//! sent by brokers, for several transactions at a time.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 3;

    /// Partitions to add.
    pub struct AddPartitionsToTxnRequest {
        transactions: Vec<AddPartitionsToTxnTransaction> [4..],
        v3_and_below_transactional_id: Str [..=3],
        v3_and_below_producer_id: i64 [..=3],
        v3_and_below_producer_epoch: i16 [..=3],
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [..=3],
    }

    /// A transaction.
    pub struct AddPartitionsToTxnTransaction {
        transactional_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        /// Only asks whether the partitions are part of it.
        verify_only: bool,
        topics: Vec<AddPartitionsToTxnTopic>,
    }

    /// Partitions of a topic.
    pub struct AddPartitionsToTxnTopic {
        name: Str,
        partitions: Vec<i32>,
    }
}

message! {
    flexible 3;

    /// Results.
    pub struct AddPartitionsToTxnResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [4..],
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4..],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3],
    }

    /// Results of a transaction.
    pub struct AddPartitionsToTxnResult {
        transactional_id: Str,
        topic_results: Vec<AddPartitionsToTxnTopicResult>,
    }

    /// Results of a topic.
    pub struct AddPartitionsToTxnTopicResult {
        name: Str,
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    }

    /// Result of a partition.
    pub struct AddPartitionsToTxnPartitionResult {
        partition_index: i32,
        partition_error_code: ErrorCode,
    }
}
