//! OffsetFetch.

use std::collections::HashSet;
use std::time::Duration;

use broker_wire::message::{OffsetFetchRequest, OffsetFetchResponse};

use super::context::{Context, RequestInfo};

/// Longest wait for the word that there is no other coordinator.
const CONFIRM_LIMIT: Duration = Duration::from_secs(2);

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
    // Another coordinator may have taken offsets meanwhile: a consumer that goes on from older ones does
    // again what it has done in a transaction.
    let is_confirmed = ctx.controller.confirm_leadership(CONFIRM_LIMIT).await;
    ctx.groups
        .fetch_offsets(request, info.version, is_confirmed)
}
