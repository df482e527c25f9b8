//! DeleteGroups: deletes empty groups and their offsets.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Groups to delete.
    pub struct DeleteGroupsRequest {
        groups_names: Vec<Str>,
    }
}

message! {
    flexible 2;

    /// What became of it.
    pub struct DeleteGroupsResponse {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }

    /// What became of one group.
    pub struct DeletableGroupResult {
        group_id: Str,
        error_code: ErrorCode,
    }
}
