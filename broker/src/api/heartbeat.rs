//! Heartbeat.

use broker_wire::message::{HeartbeatRequest, HeartbeatResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    ctx.groups.heartbeat(&request)
}
