//! DeleteGroups.

use broker_wire::message::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    ctx.groups.delete(request).await
}
