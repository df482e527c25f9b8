//! JoinGroup: answered when the group's rebalance has come that far.

use broker_wire::message::{JoinGroupRequest, JoinGroupResponse};

use super::context::{Context, RequestInfo};
use crate::coordinator::Client;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let client = Client {
        id: info.client_id.as_deref().unwrap_or_default().to_owned(),
        // The form in which Java prints an address, and Kafka's tools show it.
        host: format!("/{}", info.client_host),
    };
    ctx.groups.join(request, info.version, client).await
}
