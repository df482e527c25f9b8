//! OffsetDelete: deletes single committed offsets of a group (KIP-496).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 1;

    /// Offsets to delete.
    pub struct OffsetDeleteRequest {
        group_id: Str,
        topics: Vec<OffsetDeleteRequestTopic>,
    }

    /// Offsets in one topic.
    pub struct OffsetDeleteRequestTopic {
        name: Str,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    /// The offset of one partition.
    pub struct OffsetDeleteRequestPartition {
        partition_index: i32,
    }
}

message! {
    flexible 1;

    /// What became of them.
    pub struct OffsetDeleteResponse {
        /// Why nothing was deleted.
        error_code: ErrorCode,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }

    /// What became of those in one topic.
    pub struct OffsetDeleteResponseTopic {
        name: Str,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    /// What became of one.
    pub struct OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
