//! UnregisterBroker: forgets a broker that has left for good. One that is alive or has replicas is
//! refused.

use std::time::Duration;

use broker_core::BrokerId;
use broker_core::controller::{Command, Response, UnregisterBroker};
use broker_wire::message::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use tokio::time::Instant;

use super::context::{Context, RequestInfo};
use super::create_topics::{outcome, submit, until_shown};

/// The request brings no time-out.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let deadline = Instant::now() + TIMEOUT;
    let broker_id = request.broker_id;
    let command = Command::UnregisterBroker(UnregisterBroker {
        broker_id,
        expected_incarnation: None,
    });
    let unregistered = submit(ctx, command, deadline, |response| {
        matches!(response, Response::Accepted(_)).then_some(())
    })
    .await;
    if unregistered.is_ok() {
        let id = BrokerId(broker_id);
        until_shown(ctx, deadline, |image| !image.brokers.contains_key(&id)).await;
    }
    let (error_code, error_message) = outcome(unregistered.err());
    UnregisterBrokerResponse {
        error_code,
        error_message,
        ..UnregisterBrokerResponse::default()
    }
}
