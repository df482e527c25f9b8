//! SyncGroup: answered when the assignment is durable.

use broker_wire::message::{SyncGroupRequest, SyncGroupResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    ctx.groups.sync(request).await
}
