//! Why a command got no answer, and how that travels over gRPC.

use broker_core::BrokerId;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Trailer with the id of the active controller that the answering broker knows.
const CONTROLLER_KEY: &str = "klamm-controller";

/// A command was not answered by an active controller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No active controller was reached in time. The command had no effect.
    #[error("no active controller was reached; the quorum may have lost its majority")]
    NoController,
    /// No answer came in time, or leadership changed meanwhile: the command may have an effect
    /// now or later.
    #[error("the controller's answer is missing; the command may or may not have taken effect")]
    OutcomeUnknown,
    /// This broker refuses the request before a controller sees it.
    #[error("the command is malformed: {0}")]
    Malformed(String),
}

/// What one attempt on one broker came to, short of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptError {
    /// Not the active controller; perhaps the other one is.
    NotController(Option<BrokerId>),
    /// The command did not arrive.
    Unreachable,
    Final(SubmitError),
}

/// The answer of a broker that is not the active controller.
pub(crate) fn not_controller(known: Option<BrokerId>) -> Status {
    let mut status = Status::failed_precondition("this broker is not the active controller");
    if let Some(known) = known {
        status
            .metadata_mut()
            .insert(CONTROLLER_KEY, MetadataValue::from(known.0));
    }
    status
}

impl From<AttemptError> for Status {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::NotController(known) => not_controller(known),
            AttemptError::Unreachable | AttemptError::Final(SubmitError::NoController) => {
                Self::unavailable(SubmitError::NoController.to_string())
            }
            AttemptError::Final(error @ SubmitError::OutcomeUnknown) => {
                Self::aborted(error.to_string())
            }
            AttemptError::Final(error @ SubmitError::Malformed(_)) => {
                Self::invalid_argument(error.to_string())
            }
        }
    }
}

impl From<Status> for AttemptError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::NotController(known_controller(&status)),
            Code::InvalidArgument => {
                Self::Final(SubmitError::Malformed(status.message().to_owned()))
            }
            // A failed dial or a refused call. tonic says so of a peer that fell silent, too: then
            // the repeated command meets its own effect, and is refused at the worst.
            Code::Unavailable | Code::Unauthenticated | Code::Unimplemented => Self::Unreachable,
            _ => Self::Final(SubmitError::OutcomeUnknown),
        }
    }
}

/// The controller named in a [`not_controller`] answer.
pub(crate) fn known_controller(status: &Status) -> Option<BrokerId> {
    status
        .metadata()
        .get(CONTROLLER_KEY)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .map(BrokerId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_survive_the_way_over_grpc() {
        for error in [
            AttemptError::NotController(None),
            AttemptError::NotController(Some(BrokerId(12))),
            AttemptError::Unreachable,
            AttemptError::Final(SubmitError::OutcomeUnknown),
        ] {
            assert_eq!(AttemptError::from(Status::from(error.clone())), error);
        }
    }
}
