//! LeaveGroup.

use broker_wire::message::{LeaveGroupRequest, LeaveGroupResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    ctx.groups.leave(request, info.version)
}
