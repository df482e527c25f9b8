//! OffsetFetch. There are no transactions whose offsets could be pending, so every committed offset
//! is stable, as `require_stable` wants it.

use std::collections::HashSet;

use broker_wire::message::{OffsetFetchRequest, OffsetFetchResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    mut request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    // A small request that names one group over and over would have an answer without bounds.
    let mut seen = HashSet::new();
    request
        .groups
        .retain(|group| seen.insert(group.group_id.clone()));
    ctx.groups.fetch_offsets(request, info.version)
}
