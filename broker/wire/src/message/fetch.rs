//! Fetch: reads record batches of partitions, incrementally within a session (KIP-227).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Records, Str, Uuid};

message! {
    flexible 12;

    /// What to read, and how long to wait for it. In a session, only what changed.
    pub struct FetchRequest {
        cluster_id: Option<Str> [12.., tag 0],
        replica_id: i32 [..=14] = -1,
        replica_state: ReplicaState [15.., tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8,
        session_id: i32 [7..],
        /// -1: no session, 0: a new one.
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: Str [11..],
    }

    /// The follower that fetches. Consumers leave it at its default.
    pub struct ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    /// Partitions of one topic to read.
    pub struct FetchTopic {
        topic: Str [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition>,
    }

    /// A partition to read and from where.
    pub struct FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9..] = -1,
        /// The batch that contains it is returned whole.
        fetch_offset: i64,
        /// Epoch of the last record that the fetcher has; -1 if unknown.
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32,
        replica_directory_id: Uuid [17.., tag 0],
        high_watermark: i64 [18.., tag 1] = i64::MAX,
    }

    /// Partitions to remove from the session.
    pub struct ForgottenTopic {
        topic: Str [7..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32> [7..],
    }
}

message! {
    flexible 12;

    /// The batches that were read. In a session, only partitions with news.
    pub struct FetchResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0],
    }

    /// Results of one topic.
    pub struct FetchableTopicResponse {
        topic: Str [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionData>,
    }

    /// Result of one partition.
    pub struct PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        high_watermark: i64,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        diverging_epoch: EpochEndOffset [12.., tag 0],
        current_leader: LeaderIdAndEpoch [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
        /// Null unless the request is read_committed.
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        /// The follower that the consumer is to read from (KIP-392); -1 if none.
        preferred_read_replica: i32 [11..] = -1,
        records: Records,
    }

    /// Where the log of the fetcher diverges from the leader's (KIP-595).
    pub struct EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    /// The leader to turn to instead (KIP-951).
    pub struct LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    /// The snapshot to fetch instead; only for metadata logs.
    pub struct SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// A transaction whose records a `read_committed` consumer skips.
    pub struct AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Address of a broker named as current leader (KIP-951).
    pub struct NodeEndpoint {
        node_id: i32 [16..],
        host: Str [16..],
        port: i32 [16..],
        rack: Option<Str> [16..],
    }
}
