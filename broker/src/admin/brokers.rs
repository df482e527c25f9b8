//! Brokers as the operator manages them: cordoned, and forgotten.

use broker_core::controller::{Command, CordonBroker, UnregisterBroker};
use klamm_proto::v1::UnregisterBrokerRequest;
use tonic::Status;

use super::caller::Caller;

/// Whether a broker may get new replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewReplicas {
    Allowed,
    Refused,
}

pub(super) async fn cordon(
    caller: &Caller,
    broker_id: i32,
    new_replicas: NewReplicas,
) -> Result<(), Status> {
    let command = CordonBroker {
        broker_id,
        cordoned: new_replicas == NewReplicas::Refused,
    };
    caller.submit(Command::CordonBroker(command)).await?;
    Ok(())
}

pub(super) async fn unregister(
    caller: &Caller,
    request: UnregisterBrokerRequest,
) -> Result<(), Status> {
    let command = UnregisterBroker {
        broker_id: request.broker,
        expected_incarnation: Some(request.incarnation),
    };
    caller.submit(Command::UnregisterBroker(command)).await?;
    Ok(())
}
