//! SyncGroup: the group's leader hands in the assignment, every member gets its part.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 4;

    /// A member waits for its assignment; the leader's request carries all of them.
    pub struct SyncGroupRequest {
        group_id: Str,
        generation_id: i32,
        member_id: Str,
        group_instance_id: Option<Str> [3..],
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    /// Assignment of one member, opaque to the broker.
    pub struct SyncGroupRequestAssignment {
        member_id: Str,
        assignment: Bytes,
    }
}

message! {
    flexible 4;

    /// Assignment of the member.
    pub struct SyncGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        assignment: Bytes,
    }
}
