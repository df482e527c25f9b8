//! JoinGroup: answered when the group's rebalance has come that far.

use broker_wire::message::{JoinGroupRequest, JoinGroupResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    ctx.groups
        .join(request, info.version, info.client(), ctx.image())
        .await
}
