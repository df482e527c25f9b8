//! ConsumerGroupDescribe.

use std::collections::HashSet;

use broker_wire::message::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::authorized_operations;
use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    mut request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    // A small request that names one group over and over would have an answer without bounds.
    let mut seen = HashSet::new();
    request.group_ids.retain(|group| seen.insert(group.clone()));
    let mut response = ctx.groups.describe_consumer_groups(&request, ctx.image());
    if request.include_authorized_operations {
        let groups = response.groups.iter_mut();
        for group in groups.filter(|group| !group.error_code.is_error()) {
            group.authorized_operations = authorized_operations::GROUP;
        }
    }
    response
}
