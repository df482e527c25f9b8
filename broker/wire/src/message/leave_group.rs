//! LeaveGroup: members leave a classic group at once, without waiting for a session to expire.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 4;

    /// Members that leave; one until v2.
    pub struct LeaveGroupRequest {
        group_id: Str,
        member_id: Str [..=2],
        members: Vec<MemberIdentity> [3..],
    }

    /// A member that leaves.
    pub struct MemberIdentity {
        member_id: Str [3..],
        group_instance_id: Option<Str> [3..],
        reason: Option<Str> [5..],
    }
}

message! {
    flexible 4;

    /// What became of it.
    pub struct LeaveGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        members: Vec<MemberResponse> [3..],
    }

    /// What became of one member.
    pub struct MemberResponse {
        member_id: Str [3..],
        group_instance_id: Option<Str> [3..],
        error_code: ErrorCode [3..],
    }
}
