//! DeleteAcls (KIP-140): refused, as there are no rules.

use broker_wire::message::delete_acls::DeleteAclsFilterResult;
use broker_wire::message::{DeleteAclsRequest, DeleteAclsResponse};

use super::context::{Context, RequestInfo};
use super::describe_acls::security_disabled;

pub(super) async fn handle(
    _ctx: &Context,
    _info: &RequestInfo,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let refused = request.filters.iter().map(|_| {
        let (error_code, error_message) = security_disabled();
        DeleteAclsFilterResult {
            error_code,
            error_message,
            ..DeleteAclsFilterResult::default()
        }
    });
    DeleteAclsResponse {
        filter_results: refused.collect(),
        ..DeleteAclsResponse::default()
    }
}
