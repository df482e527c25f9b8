//! OffsetDelete: answered when the offsets are durably gone. Partitions that do not exist are told so;
//! their offsets go with the topic.

use broker_core::PartitionIndex;
use broker_wire::message::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let image = ctx.image();
    let exists = |topic: &str, partition: PartitionIndex| {
        image
            .topic_by_name(topic)
            .is_some_and(|topic| topic.partition(partition).is_some())
    };
    ctx.groups.delete_offsets(request, exists).await
}
