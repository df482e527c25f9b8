//! DescribeAcls (KIP-140): everybody may do everything here, so there are no rules.

use broker_wire::message::{DescribeAclsRequest, DescribeAclsResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};

/// What Kafka's brokers answer without an authorizer, to every question about rules of access.
pub(super) fn security_disabled() -> (ErrorCode, Option<Str>) {
    let reason = Str::from_static("no authorizer is configured on the broker");
    (ErrorCode::SecurityDisabled, Some(reason))
}

pub(super) async fn handle(
    _ctx: &Context,
    _info: &RequestInfo,
    _request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let (error_code, error_message) = security_disabled();
    DescribeAclsResponse {
        error_code,
        error_message,
        ..DescribeAclsResponse::default()
    }
}
