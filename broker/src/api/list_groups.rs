//! ListGroups: the groups that this broker coordinates.

use broker_wire::message::{ListGroupsRequest, ListGroupsResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    ctx.groups.list(&request)
}
