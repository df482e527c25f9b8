//! AlterPartitionReassignments (KIP-455, KIP-860): moves replicas, or gives a move up.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// Partitions to reassign.
    pub struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic>,
    }

    /// Partitions of one topic.
    pub struct ReassignableTopic {
        name: Str,
        partitions: Vec<ReassignablePartition>,
    }

    /// One partition and its new replicas, first the preferred leader; `None` gives up the
    /// reassignment in progress.
    pub struct ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }
}

message! {
    flexible 0;

    /// What became of it.
    pub struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode,
        error_message: Option<Str>,
        responses: Vec<ReassignableTopicResponse>,
    }

    /// What became of one topic's partitions.
    pub struct ReassignableTopicResponse {
        name: Str,
        partitions: Vec<ReassignablePartitionResponse>,
    }

    /// What became of one partition.
    pub struct ReassignablePartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
