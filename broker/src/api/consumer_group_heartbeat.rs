//! ConsumerGroupHeartbeat: answered when what it changes is durable.

use broker_wire::message::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    ctx.groups
        .consumer_heartbeat(request, info.client(), ctx.image())
        .await
}
