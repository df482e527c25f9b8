//! AddOffsetsToTxn: the partition that a group's offsets live in becomes a part of a transaction.

use broker_core::transaction::Producer;
use broker_core::{ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::context::{Context, RequestInfo};
use super::error::older_producer_error;
use crate::coordinator::OFFSETS_TOPIC;

/// First version that knows PRODUCER_FENCED.
const FENCED_VERSION_MIN: i16 = 2;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let producer = Producer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let partition = (OFFSETS_TOPIC.into(), ctx.groups.find(&request.group_id));
    let added = ctx
        .transactions
        .add_partitions(&request.transactional_id, producer, &[partition])
        .await;
    let error_code = added.err().map_or(ErrorCode::None, |refused| {
        older_producer_error(refused.code(), info.version >= FENCED_VERSION_MIN)
    });
    AddOffsetsToTxnResponse {
        error_code,
        ..AddOffsetsToTxnResponse::default()
    }
}
