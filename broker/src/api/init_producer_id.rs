//! InitProducerId (KIP-98, KIP-360): ids for idempotent producers, id and epoch for transactional ones.

use std::ops::Range;
use std::time::Duration;

use broker_core::controller::{BrokerRef, Command, Response};
use broker_core::transaction::{InitRequest, Producer, TRANSACTIONAL_ID_BYTES_MAX};
use broker_core::{ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::{InitProducerIdRequest, InitProducerIdResponse};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::context::{Context, RequestInfo};
use super::error::older_producer_error;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::transaction::{Answer, Refused};

/// How long a producer waits for an id before it is told to come again.
const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(5);
/// First version that knows PRODUCER_FENCED.
const FENCED_VERSION_MIN: i16 = 4;

/// The producer ids that this broker may give out: those left of its last block.
#[derive(Default)]
pub struct ProducerIds {
    /// The lock is kept while a block is fetched, so that only one is.
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that no producer has had; `None` when the controller gives none now.
    pub(super) async fn next(
        &self,
        config: &BrokerConfig,
        controller: &Controller,
    ) -> Option<ProducerId> {
        let next = async {
            let mut left = self.left.lock().await;
            if left.is_empty() {
                *left = allocate(config, controller).await?;
            }
            left.next().map(ProducerId)
        };
        timeout(ALLOCATION_TIMEOUT, next).await.ok().flatten()
    }
}

async fn allocate(config: &BrokerConfig, controller: &Controller) -> Option<Range<i64>> {
    let broker_epoch = controller.broker_epoch()?.0;
    let broker = BrokerRef {
        broker_id: config.id.0,
        broker_epoch,
    };
    match controller
        .submit(Command::AllocateProducerIds(broker))
        .await
    {
        Ok(Response::AllocateProducerIds(block)) => {
            Some(block.first..block.first.saturating_add(i64::from(block.count)))
        }
        Ok(Response::Failed(failure)) => {
            tracing::warn!(
                reason = failure.message,
                "the controller gives no producer ids"
            );
            None
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "the controller gives no producer ids");
            None
        }
    }
}

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(ctx, &request).await {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            ..InitProducerIdResponse::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: older_producer_error(code, info.version >= FENCED_VERSION_MIN),
            ..InitProducerIdResponse::default()
        },
    }
}

async fn init(ctx: &Context, request: &InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    let Some(request) = transactional(request)? else {
        // Kafka, too, gives a new id to an idempotent producer that has one.
        let id = ctx.next_producer_id().await?;
        let epoch = ProducerEpoch(0);
        return Ok(Producer { id, epoch });
    };
    let mut fresh = None;
    loop {
        let answer = ctx.transactions.init(&request, fresh).await;
        match answer.map_err(Refused::code)? {
            Answer::Producer(producer) => return Ok(producer),
            Answer::NeedsProducerId => fresh = Some(ctx.next_producer_id().await?),
        }
    }
}

/// What a transactional producer asks for; `None` for an idempotent one.
fn transactional(request: &InitProducerIdRequest) -> Result<Option<InitRequest>, ErrorCode> {
    let is_half_given = (request.producer_id == -1) != (request.producer_epoch == -1);
    if is_half_given {
        return Err(ErrorCode::InvalidRequest);
    }
    let Some(id) = &request.transactional_id else {
        return Ok(None);
    };
    if id.is_empty() || id.len() > TRANSACTIONAL_ID_BYTES_MAX {
        return Err(ErrorCode::InvalidRequest);
    }
    let expected = (request.producer_id != -1).then_some(Producer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    });
    let timeout_ms = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
    Ok(Some(InitRequest {
        id: id.as_str().into(),
        timeout: Duration::from_millis(timeout_ms),
        expected,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transactional_producer_names_itself_and_perhaps_what_it_has() {
        let request = |transactional_id: Option<&'static str>, producer_id, producer_epoch| {
            transactional(&InitProducerIdRequest {
                transactional_id: transactional_id.map(Into::into),
                transaction_timeout_ms: 5,
                producer_id,
                producer_epoch,
            })
        };
        assert!(request(None, -1, -1).unwrap().is_none());
        assert!(request(None, 5, 0).unwrap().is_none());
        for half_given in [request(None, 5, -1), request(Some("t"), -1, 0)] {
            assert_eq!(half_given.unwrap_err(), ErrorCode::InvalidRequest);
        }
        assert_eq!(
            request(Some(""), -1, -1).unwrap_err(),
            ErrorCode::InvalidRequest
        );
        let first = request(Some("t"), -1, -1).unwrap().unwrap();
        assert_eq!((&*first.id, first.expected), ("t", None));
        assert_eq!(first.timeout.as_millis(), 5);
        let again = request(Some("t"), 5, 1).unwrap().unwrap();
        assert_eq!(again.expected.map(|p| (p.id.0, p.epoch.0)), Some((5, 1)));
    }
}
