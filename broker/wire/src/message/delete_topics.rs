//! DeleteTopics.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 4;

    /// Topics to delete; by name until v5.
    pub struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<Str> [..=5],
        timeout_ms: i32,
    }

    /// A topic to delete, by name or id.
    pub struct DeleteTopicState {
        name: Option<Str> [6..],
        topic_id: Uuid [6..],
    }
}

message! {
    flexible 4;

    /// What became of it.
    pub struct DeleteTopicsResponse {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }

    /// What became of one topic.
    pub struct DeletableTopicResult {
        name: Option<Str> [.., nullable 6..],
        topic_id: Uuid [6..],
        error_code: ErrorCode,
        error_message: Option<Str> [5..],
    }
}
