//! UnregisterBroker (KIP-500): forgets a broker that has left for good.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// The broker to forget.
    pub struct UnregisterBrokerRequest {
        broker_id: i32,
    }
}

message! {
    flexible 0;

    /// What became of it.
    pub struct UnregisterBrokerResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
