//! CreateAcls: adds rules of access (KIP-140, KIP-290).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Rules to add.
    pub struct CreateAclsRequest {
        creations: Vec<AclCreation>,
    }

    /// A rule to add.
    pub struct AclCreation {
        resource_type: i8,
        resource_name: Str,
        resource_pattern_type: i8,
        principal: Str,
        host: Str,
        operation: i8,
        permission_type: i8,
    }
}

message! {
    flexible 2;

    /// What became of each, in the order of the request.
    pub struct CreateAclsResponse {
        throttle_time_ms: i32,
        results: Vec<AclCreationResult>,
    }

    /// What became of one rule.
    pub struct AclCreationResult {
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
