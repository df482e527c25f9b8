//! JoinGroup: a member of a classic group takes part in a rebalance.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 6;

    /// A member joins with the protocols it supports.
    pub struct JoinGroupRequest {
        group_id: Str,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: Str,
        group_instance_id: Option<Str> [5..],
        protocol_type: Str,
        protocols: Vec<JoinGroupRequestProtocol>,
        /// Why the member joins, for the log (KIP-800).
        reason: Option<Str> [8..],
    }

    /// A protocol; its metadata is opaque to the broker.
    pub struct JoinGroupRequestProtocol {
        name: Str,
        metadata: Bytes,
    }
}

message! {
    flexible 6;

    /// The generation that came of the rebalance. Only its leader gets the members.
    pub struct JoinGroupResponse {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<Str> [7..],
        protocol_name: Option<Str> [.., nullable 7..],
        leader: Str,
        skip_assignment: bool [9..],
        member_id: Str,
        members: Vec<JoinGroupResponseMember>,
    }

    /// A member and its metadata for the chosen protocol.
    pub struct JoinGroupResponseMember {
        member_id: Str,
        group_instance_id: Option<Str> [5..],
        metadata: Bytes,
    }
}
