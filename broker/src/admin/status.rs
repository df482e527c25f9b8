//! Refusals of the controller as gRPC statuses.

use broker_core::controller::{CommandError, Failure};
use tonic::Status;

/// The outcome of the only item of a command.
pub(super) fn check(failure: Option<&Option<Failure>>) -> Result<(), Status> {
    match failure {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(refused(failure)),
        None => Err(mismatch()),
    }
}

pub(super) fn mismatch() -> Status {
    Status::internal("the controller's answer does not fit the command")
}

pub(super) fn refused(failure: &Failure) -> Status {
    let reason = failure.message.clone();
    match failure.error() {
        CommandError::TopicAlreadyExists => Status::already_exists(reason),
        CommandError::UnknownTopic
        | CommandError::UnknownTopicId
        | CommandError::UnknownPartition
        | CommandError::UnknownResource
        | CommandError::UnknownBroker => Status::not_found(reason),
        CommandError::InconsistentTopicId
        | CommandError::PreconditionFailed
        | CommandError::InconsistentClusterId
        | CommandError::BrokerInUse
        | CommandError::StaleOperatorEpoch
        | CommandError::FeatureUpdateFailed => Status::failed_precondition(reason),
        CommandError::LimitExceeded => Status::resource_exhausted(reason),
        CommandError::NotController | CommandError::TimedOut => Status::unavailable(reason),
        _ => Status::invalid_argument(reason),
    }
}
