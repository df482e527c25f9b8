//! Heartbeat: a member of a classic group stays alive and learns of rebalances.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 4;

    /// A member says that it is alive.
    pub struct HeartbeatRequest {
        group_id: Str,
        generation_id: i32,
        member_id: Str,
        group_instance_id: Option<Str> [3..],
    }
}

message! {
    flexible 4;

    /// [`ErrorCode::RebalanceInProgress`] tells the member to join again.
    pub struct HeartbeatResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
    }
}
