//! Metadata: the brokers of the cluster, and who leads which partition.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 9;

    /// Asks for some topics, or for all.
    pub struct MetadataRequest {
        /// Null is all topics; in v0, empty is.
        topics: Option<Vec<MetadataRequestTopic>> [.., nullable 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    /// A topic by name or, from v12 on, by id.
    pub struct MetadataRequestTopic {
        topic_id: Uuid [10..],
        name: Option<Str> [.., nullable 10..],
    }
}

message! {
    flexible 9;

    /// Brokers and topics of the cluster.
    pub struct MetadataResponse {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<Str> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic>,
        /// Bit set; `i32::MIN` if not asked for.
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13..],
    }

    /// A broker that is alive.
    pub struct MetadataResponseBroker {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str> [1..],
    }

    /// A topic.
    pub struct MetadataResponseTopic {
        error_code: ErrorCode,
        name: Option<Str> [.., nullable 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        /// Bit set; `i32::MIN` if not asked for.
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// A partition and its replicas.
    pub struct MetadataResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }
}
