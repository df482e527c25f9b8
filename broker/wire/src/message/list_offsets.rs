//! ListOffsets: the offset of a timestamp, or the first or last offset, of partitions.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 6;

    /// Timestamps to look up.
    pub struct ListOffsetsRequest {
        replica_id: i32,
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10..],
    }

    /// Lookups in one topic.
    pub struct ListOffsetsTopic {
        name: Str,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// A lookup in one partition.
    pub struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4..] = -1,
        /// Milliseconds since the Unix epoch, or -1: latest, -2: earliest, -3: of the
        /// largest timestamp,
        /// -4: earliest on local disks, -5: latest in tiered storage.
        timestamp: i64,
    }
}

message! {
    flexible 6;

    /// Offsets found.
    pub struct ListOffsetsResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// Offsets in one topic.
    pub struct ListOffsetsTopicResponse {
        name: Str,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// The offset in one partition; -1 if no record is that young.
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
