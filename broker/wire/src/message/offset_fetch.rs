//! OffsetFetch: the offsets that groups have committed.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 6;

    /// Groups to look up; one until v7.
    pub struct OffsetFetchRequest {
        group_id: Str [..=7],
        /// Null is all topics.
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, nullable 2..],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }

    /// Partitions of one topic, until v7.
    pub struct OffsetFetchRequestTopic {
        name: Str [..=7],
        partition_indexes: Vec<i32> [..=7],
    }

    /// A group to look up, from v8 on.
    pub struct OffsetFetchRequestGroup {
        group_id: Str [8..],
        member_id: Option<Str> [9..],
        member_epoch: i32 [9..] = -1,
        /// Null is all topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..],
    }

    /// Partitions of one topic, from v8 on.
    pub struct OffsetFetchRequestTopics {
        name: Str [8..],
        partition_indexes: Vec<i32> [8..],
    }
}

message! {
    flexible 6;

    /// Offsets of the group, or from v8 on of the groups.
    pub struct OffsetFetchResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    /// Offsets in one topic, until v7.
    pub struct OffsetFetchResponseTopic {
        name: Str [..=7],
        partitions: Vec<OffsetFetchResponsePartition> [..=7],
    }

    /// Offset of one partition, until v7; -1 if there is none.
    pub struct OffsetFetchResponsePartition {
        partition_index: i32 [..=7],
        committed_offset: i64 [..=7],
        committed_leader_epoch: i32 [5..=7] = -1,
        metadata: Option<Str> [..=7],
        error_code: ErrorCode [..=7],
    }

    /// Offsets of one group, from v8 on.
    pub struct OffsetFetchResponseGroup {
        group_id: Str [8..],
        topics: Vec<OffsetFetchResponseTopics> [8..],
        error_code: ErrorCode [8..],
    }

    /// Offsets in one topic, from v8 on.
    pub struct OffsetFetchResponseTopics {
        name: Str [8..],
        partitions: Vec<OffsetFetchResponsePartitions> [8..],
    }

    /// Offset of one partition, from v8 on; -1 if there is none.
    pub struct OffsetFetchResponsePartitions {
        partition_index: i32 [8..],
        committed_offset: i64 [8..],
        committed_leader_epoch: i32 [8..] = -1,
        metadata: Option<Str> [8..],
        error_code: ErrorCode [8..],
    }
}
