//! DescribeGroups.

use std::collections::HashSet;

use broker_wire::message::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::authorized_operations;
use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    mut request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    // A small request that names one group over and over would have an answer without bounds.
    let mut seen = HashSet::new();
    request.groups.retain(|group| seen.insert(group.clone()));
    let mut response = ctx.groups.describe(&request, info.version);
    if request.include_authorized_operations {
        for group in response
            .groups
            .iter_mut()
            .filter(|group| !group.error_code.is_error())
        {
            group.authorized_operations = authorized_operations::GROUP;
        }
    }
    response
}
