//! OffsetCommit: answered when the offsets are durable. Offsets of partitions that do not exist are
//! refused, or a typing error would fill `__consumer_offsets`.

use broker_core::PartitionIndex;
use broker_wire::message::{OffsetCommitRequest, OffsetCommitResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = ctx.image();
    let exists = |topic: &str, partition: PartitionIndex| {
        image
            .topic_by_name(topic)
            .is_some_and(|topic| topic.partition(partition).is_some())
    };
    ctx.groups.commit_offsets(request, exists).await
}
