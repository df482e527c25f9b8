//! EndTxn: commits or aborts; answered when that is decided for good.

use broker_core::partition::TransactionOutcome;
use broker_core::transaction::{EndRequest, Producer, Protocol};
use broker_core::{ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::{EndTxnRequest, EndTxnResponse};

use super::context::{Context, RequestInfo};
use super::error::older_producer_error;
use crate::transaction::Answer;

/// First version that knows PRODUCER_FENCED.
const FENCED_VERSION_MIN: i16 = 2;
/// First version of clients that go on with another epoch after every transaction (KIP-890).
const EPOCH_BUMP_VERSION_MIN: i16 = 5;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: EndTxnRequest,
) -> EndTxnResponse {
    let end = EndRequest {
        id: request.transactional_id.as_str().into(),
        producer: Producer {
            id: ProducerId(request.producer_id),
            epoch: ProducerEpoch(request.producer_epoch),
        },
        outcome: match request.committed {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        },
        protocol: match info.version >= EPOCH_BUMP_VERSION_MIN {
            true => Protocol::V2,
            false => Protocol::V1,
        },
    };
    match decide(ctx, &end).await {
        Ok(producer) => EndTxnResponse {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            ..EndTxnResponse::default()
        },
        Err(code) => EndTxnResponse {
            error_code: older_producer_error(code, info.version >= FENCED_VERSION_MIN),
            ..EndTxnResponse::default()
        },
    }
}

async fn decide(ctx: &Context, end: &EndRequest) -> Result<Producer, ErrorCode> {
    let mut fresh = None;
    loop {
        let ended = ctx.transactions.end(end, fresh).await;
        match ended.map_err(crate::transaction::Refused::code)? {
            Answer::Producer(producer) => return Ok(producer),
            Answer::NeedsProducerId => fresh = Some(ctx.next_producer_id().await?),
        }
    }
}
