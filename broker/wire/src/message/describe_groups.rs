//! DescribeGroups: state and members of classic groups.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 5;

    /// Groups to describe.
    pub struct DescribeGroupsRequest {
        groups: Vec<Str>,
        include_authorized_operations: bool [3..],
    }
}

message! {
    flexible 5;

    /// Groups.
    pub struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup>,
    }

    /// A group.
    pub struct DescribedGroup {
        error_code: ErrorCode,
        error_message: Option<Str> [6..],
        group_id: Str,
        group_state: Str,
        protocol_type: Str,
        protocol_data: Str,
        members: Vec<DescribedGroupMember>,
        /// Bit set; `i32::MIN` if not asked for.
        authorized_operations: i32 [3..] = i32::MIN,
    }

    /// A member of a group.
    pub struct DescribedGroupMember {
        member_id: Str,
        group_instance_id: Option<Str> [4..],
        client_id: Str,
        client_host: Str,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }
}
