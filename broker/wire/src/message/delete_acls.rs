//! DeleteAcls: takes rules of access away that filters match (KIP-140, KIP-290).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Which rules to delete.
    pub struct DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter>,
    }

    /// What is null matches anything.
    pub struct DeleteAclsFilter {
        resource_type_filter: i8,
        resource_name_filter: Option<Str>,
        pattern_type_filter: i8,
        principal_filter: Option<Str>,
        host_filter: Option<Str>,
        operation: i8,
        permission_type: i8,
    }
}

message! {
    flexible 2;

    /// What became of each filter, in the order of the request.
    pub struct DeleteAclsResponse {
        throttle_time_ms: i32,
        filter_results: Vec<DeleteAclsFilterResult>,
    }

    /// What one filter matched.
    pub struct DeleteAclsFilterResult {
        error_code: ErrorCode,
        error_message: Option<Str>,
        matching_acls: Vec<DeleteAclsMatchingAcl>,
    }

    /// What became of one rule.
    pub struct DeleteAclsMatchingAcl {
        error_code: ErrorCode,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
        pattern_type: i8,
        principal: Str,
        host: Str,
        operation: i8,
        permission_type: i8,
    }
}
