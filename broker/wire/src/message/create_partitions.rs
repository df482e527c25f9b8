//! CreatePartitions: adds partitions to topics.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Topics to enlarge.
    pub struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }

    /// A topic and the number of partitions it is to have.
    pub struct CreatePartitionsTopic {
        name: Str,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }

    /// Replicas of one new partition, first the preferred leader.
    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }
}

message! {
    flexible 2;

    /// What became of it.
    pub struct CreatePartitionsResponse {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult {
        name: Str,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
