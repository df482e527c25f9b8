//! DescribeTopicPartitions (KIP-966): topics page by page, with their eligible leader replicas.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// Topics to describe; all if there are none.
    pub struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>,
        response_partition_limit: i32 = 2000,
        cursor: Option<Cursor>,
    }

    /// A topic to describe.
    pub struct TopicRequest {
        name: Str,
    }

    /// Where the next page starts.
    pub struct Cursor {
        topic_name: Str,
        partition_index: i32,
    }
}

message! {
    flexible 0;

    /// One page of topics.
    pub struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        next_cursor: Option<Cursor>,
    }

    /// A topic, or the part of it on this page.
    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode,
        name: Option<Str>,
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        /// Bit set; `i32::MIN` if not asked for.
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// A partition and its replicas.
    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }
}
