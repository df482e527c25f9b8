//! CreateAcls (KIP-140): refused, as nothing would follow the rules.

use broker_wire::message::create_acls::AclCreationResult;
use broker_wire::message::{CreateAclsRequest, CreateAclsResponse};

use super::context::{Context, RequestInfo};
use super::describe_acls::security_disabled;

pub(super) async fn handle(
    _ctx: &Context,
    _info: &RequestInfo,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let refused = request.creations.iter().map(|_| {
        let (error_code, error_message) = security_disabled();
        AclCreationResult {
            error_code,
            error_message,
        }
    });
    CreateAclsResponse {
        results: refused.collect(),
        ..CreateAclsResponse::default()
    }
}
