//! Produce: appends record batches to partitions.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

/// First version that can be served: the ones before carry message sets, not record batches v2.
pub const VERSION_MIN: i16 = 3;

message! {
    flexible 9;

    /// Batches to append.
    pub struct ProduceRequest {
        transactional_id: Option<Str> [3..],
        /// Replicas that must have the batches before the answer: 0, 1 or -1 for the
        /// in-sync replicas.
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    /// Batches for one topic.
    pub struct TopicProduceData {
        name: Str [..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData>,
    }

    /// Batches for one partition.
    pub struct PartitionProduceData {
        index: i32,
        /// A slice of the frame.
        records: Option<Bytes>,
    }
}

message! {
    flexible 9;

    /// Where the batches were appended. Not sent if `acks` is 0.
    pub struct ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32 [1..],
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0],
    }

    /// Results of one topic.
    pub struct TopicProduceResponse {
        name: Str [..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// Result of one partition.
    pub struct PartitionProduceResponse {
        index: i32,
        error_code: ErrorCode,
        base_offset: i64,
        /// -1 unless the topic has `LogAppendTime`.
        log_append_time_ms: i64 [2..] = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<Str> [8..],
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    /// A record that was refused (KIP-467).
    pub struct BatchIndexAndErrorMessage {
        batch_index: i32 [8..],
        batch_index_error_message: Option<Str> [8..],
    }

    /// The leader to turn to instead (KIP-951).
    pub struct LeaderIdAndEpoch {
        leader_id: i32 [10..] = -1,
        leader_epoch: i32 [10..] = -1,
    }

    /// Address of a broker named as current leader (KIP-951).
    pub struct NodeEndpoint {
        node_id: i32 [10..],
        host: Str [10..],
        port: i32 [10..],
        rack: Option<Str> [10..],
    }
}
