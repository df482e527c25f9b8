//! CreateTopics.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 5;

    /// Topics to create.
    pub struct CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    /// A topic to create.
    pub struct CreatableTopic {
        name: Str,
        /// -1: the default of the broker, or as `assignments` say.
        num_partitions: i32,
        /// -1: the default of the broker, or as `assignments` say.
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    /// Replicas of one partition, first the preferred leader.
    pub struct CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    /// A configuration value of a topic to create.
    pub struct CreatableTopicConfig {
        name: Str,
        value: Option<Str>,
    }
}

message! {
    flexible 5;

    /// What became of it.
    pub struct CreateTopicsResponse {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }

    /// What became of one topic.
    pub struct CreatableTopicResult {
        name: Str,
        topic_id: Uuid [7..],
        error_code: ErrorCode,
        error_message: Option<Str>,
        topic_config_error_code: ErrorCode [5.., tag 0],
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }

    /// A configuration value of a created topic.
    pub struct CreatableTopicConfigs {
        name: Str [5..],
        value: Option<Str> [5..],
        read_only: bool [5..],
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}
