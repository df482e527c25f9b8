//! DescribeProducers (KIP-664): the idempotent producers that partitions remember.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// Partitions.
    pub struct DescribeProducersRequest {
        topics: Vec<DescribeProducersTopicRequest>,
    }

    /// Partitions of a topic.
    pub struct DescribeProducersTopicRequest {
        name: Str,
        partition_indexes: Vec<i32>,
    }
}

message! {
    flexible 0;

    /// Producers.
    pub struct DescribeProducersResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeProducersTopicResponse>,
    }

    /// Producers of a topic.
    pub struct DescribeProducersTopicResponse {
        name: Str,
        partitions: Vec<DescribeProducersPartitionResponse>,
    }

    /// Producers of a partition.
    pub struct DescribeProducersPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        active_producers: Vec<ProducerState>,
    }

    /// A producer.
    pub struct ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        current_txn_start_offset: i64 = -1,
    }
}
