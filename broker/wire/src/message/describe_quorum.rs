//! DescribeQuorum (KIP-595, KIP-836, KIP-853): the voters and observers of the metadata quorum.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// Asks for the quorum of a partition, of which there is one: `__cluster_metadata-0`.
    pub struct DescribeQuorumRequest {
        topics: Vec<DescribeQuorumRequestTopic>,
    }

    /// A topic.
    pub struct DescribeQuorumRequestTopic {
        topic_name: Str,
        partitions: Vec<DescribeQuorumRequestPartition>,
    }

    /// A partition.
    pub struct DescribeQuorumRequestPartition {
        partition_index: i32,
    }
}

message! {
    flexible 0;

    /// The quorum.
    pub struct DescribeQuorumResponse {
        error_code: ErrorCode,
        error_message: Option<Str> [2..],
        topics: Vec<DescribeQuorumTopic>,
        nodes: Vec<DescribeQuorumNode> [2..],
    }

    /// A topic.
    pub struct DescribeQuorumTopic {
        topic_name: Str,
        partitions: Vec<DescribeQuorumPartition>,
    }

    /// A partition with its members.
    pub struct DescribeQuorumPartition {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Str> [2..],
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<QuorumReplicaState>,
        observers: Vec<QuorumReplicaState>,
    }

    /// How far a voter or observer is.
    pub struct QuorumReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        log_end_offset: i64,
        /// -1 when the leader does not know.
        last_fetch_timestamp: i64 [1..] = -1,
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    /// Where a voter or observer is.
    pub struct DescribeQuorumNode {
        node_id: i32 [2..],
        listeners: Vec<DescribeQuorumListener> [2..],
    }

    /// An address.
    pub struct DescribeQuorumListener {
        name: Str [2..],
        host: Str [2..],
        /// To be read as unsigned.
        port: i16 [2..],
    }
}
