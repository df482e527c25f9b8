//! OffsetCommit: stores the offsets that a group has consumed up to.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 8;

    /// Offsets to store.
    pub struct OffsetCommitRequest {
        group_id: Str,
        /// Generation of a classic group; -1 if the offsets are committed without one.
        generation_id_or_member_epoch: i32 = -1,
        member_id: Str,
        group_instance_id: Option<Str> [7..],
        retention_time_ms: i64 [..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// Offsets in one topic.
    pub struct OffsetCommitRequestTopic {
        name: Str,
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// The next offset to consume of one partition.
    pub struct OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<Str>,
    }
}

message! {
    flexible 8;

    /// What became of it.
    pub struct OffsetCommitResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// Results of one topic.
    pub struct OffsetCommitResponseTopic {
        name: Str,
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// Result of one partition.
    pub struct OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
