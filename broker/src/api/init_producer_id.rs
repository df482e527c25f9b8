//! InitProducerId (KIP-98) for idempotent producers. Transactions are not served.

use std::ops::Range;
use std::time::Duration;

use broker_core::ProducerId;
use broker_core::controller::{BrokerRef, Command, Response};
use broker_wire::ErrorCode;
use broker_wire::message::{InitProducerIdRequest, InitProducerIdResponse};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::context::{Context, RequestInfo};
use crate::config::BrokerConfig;
use crate::controller::Controller;

/// How long a producer waits for an id before it is told to come again.
const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The producer ids that this broker may give out: those left of its last block.
#[derive(Default)]
pub struct ProducerIds {
    /// The lock is kept while a block is fetched, so that only one is.
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that no producer has had; `None` when the controller gives none now.
    async fn next(&self, config: &BrokerConfig, controller: &Controller) -> Option<ProducerId> {
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
    _info: &RequestInfo,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let producer_id = match check(&request) {
        // Kafka, too, gives a new id to an idempotent producer that has one.
        Ok(()) => ctx.producer_ids.next(&ctx.config, &ctx.controller).await,
        Err(error_code) => {
            return InitProducerIdResponse {
                error_code,
                ..InitProducerIdResponse::default()
            };
        }
    };
    let refused = || InitProducerIdResponse {
        // What Kafka says while it waits for a block; producers try again.
        error_code: ErrorCode::CoordinatorLoadInProgress,
        ..InitProducerIdResponse::default()
    };
    producer_id.map_or_else(refused, |id| InitProducerIdResponse {
        producer_id: id.0,
        ..InitProducerIdResponse::default()
    })
}

/// Producers treat INVALID_REQUEST as fatal: a transactional one stops at once, where a retriable
/// code would have it wait for a coordinator that never comes.
fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    let is_half_given = (request.producer_id == -1) != (request.producer_epoch == -1);
    if request.transactional_id.is_some() || is_half_given {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_producers_are_served() {
        let request = |transactional_id: Option<&'static str>, producer_id, producer_epoch| {
            check(&InitProducerIdRequest {
                transactional_id: transactional_id.map(Into::into),
                producer_id,
                producer_epoch,
                ..InitProducerIdRequest::default()
            })
        };
        assert_eq!(request(None, -1, -1), Ok(()));
        assert_eq!(request(None, 5, 0), Ok(()));
        assert_eq!(request(None, 5, -1), Err(ErrorCode::InvalidRequest));
        assert_eq!(request(None, -1, 0), Err(ErrorCode::InvalidRequest));
        assert_eq!(request(Some("t"), -1, -1), Err(ErrorCode::InvalidRequest));
    }
}
