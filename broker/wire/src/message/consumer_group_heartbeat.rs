//! ConsumerGroupHeartbeat (KIP-848): a member of a consumer group says what it wants and has, and learns
//! what it shall have.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// A heartbeat; what is null has not changed since the last one.
    pub struct ConsumerGroupHeartbeatRequest {
        group_id: Str,
        /// Chosen by the client, in v0 by the coordinator.
        member_id: Str,
        /// 0 to join, -1 to leave, -2 to leave as a static member that will be back.
        member_epoch: i32,
        instance_id: Option<Str>,
        rack_id: Option<Str>,
        rebalance_timeout_ms: i32 = -1,
        subscribed_topic_names: Option<Vec<Str>>,
        subscribed_topic_regex: Option<Str> [1..],
        server_assignor: Option<Str>,
        topic_partitions: Option<Vec<ConsumerGroupTopicPartitions>>,
    }

    /// Partitions of one topic.
    pub struct ConsumerGroupTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
}

message! {
    flexible 0;

    /// Answer to a heartbeat.
    pub struct ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        member_id: Option<Str>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        /// Null if it has not changed.
        assignment: Option<ConsumerGroupHeartbeatAssignment>,
    }

    /// What the member shall have.
    pub struct ConsumerGroupHeartbeatAssignment {
        topic_partitions: Vec<ConsumerGroupTopicPartitions>,
    }
}
