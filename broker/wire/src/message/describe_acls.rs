//! DescribeAcls: the rules of access that a filter matches (KIP-140, KIP-290).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Which rules to show. What is null matches anything.
    pub struct DescribeAclsRequest {
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

    /// The rules, by what they are about.
    pub struct DescribeAclsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        resources: Vec<DescribeAclsResource>,
    }

    /// The rules about one resource.
    pub struct DescribeAclsResource {
        resource_type: i8,
        resource_name: Str,
        pattern_type: i8,
        acls: Vec<AclDescription>,
    }

    /// One rule.
    pub struct AclDescription {
        principal: Str,
        host: Str,
        operation: i8,
        permission_type: i8,
    }
}
