//! Who asks for a change: people, or an operator that may have been replaced.

use std::sync::Arc;

use broker_core::controller::{Command, FromOperator, Response};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::status::refused;
use crate::controller::{Controller, SubmitError};

/// Set by operators, of which only the one with the highest epoch may change anything.
const OPERATOR_EPOCH_KEY: &str = "klamm-operator-epoch";

/// See the module's documentation.
pub(super) struct Caller {
    pub(super) controller: Arc<Controller>,
    /// `None` for people.
    operator_epoch: Option<u64>,
}

impl Caller {
    /// # Errors
    /// When the request's epoch is no number.
    pub(super) fn of<T>(
        controller: &Arc<Controller>,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        Ok(Self {
            controller: Arc::clone(controller),
            operator_epoch: operator_epoch(request.metadata())?,
        })
    }

    /// Has the active controller decide and commit `command`.
    pub(super) async fn submit(&self, command: Command) -> Result<Response, Status> {
        let command = match self.operator_epoch {
            Some(operator_epoch) => Command::FromOperator(FromOperator {
                operator_epoch,
                command: command.to_bytes(),
            }),
            None => command,
        };
        self.submit_as_is(command).await
    }

    /// Refuses an operator that was replaced, for changes that are no commands. One that is replaced
    /// right after may still get its way, as if it had asked earlier.
    pub(super) async fn check(&self) -> Result<(), Status> {
        if let Some(operator_epoch) = self.operator_epoch {
            let command = Command::FromOperator(FromOperator {
                operator_epoch,
                command: Vec::new(),
            });
            self.submit_as_is(command).await?;
        }
        Ok(())
    }

    async fn submit_as_is(&self, command: Command) -> Result<Response, Status> {
        match self.controller.submit(command).await {
            Ok(Response::Failed(failure)) => Err(refused(&failure)),
            Ok(response) => Ok(response),
            Err(error @ SubmitError::Malformed(_)) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

fn operator_epoch(metadata: &MetadataMap) -> Result<Option<u64>, Status> {
    let Some(value) = metadata.get(OPERATOR_EPOCH_KEY) else {
        return Ok(None);
    };
    let epoch = value.to_str().ok().and_then(|text| text.parse().ok());
    let malformed = || Status::invalid_argument(format!("{OPERATOR_EPOCH_KEY} is no number"));
    epoch.map(Some).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_number_or_absent() {
        let epoch = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(OPERATOR_EPOCH_KEY, value.parse().unwrap());
            operator_epoch(&metadata).map_err(|status| status.code())
        };
        assert_eq!(epoch("18446744073709551615"), Ok(Some(u64::MAX)));
        for malformed in ["", "-1", "one", "18446744073709551616"] {
            assert_eq!(epoch(malformed), Err(tonic::Code::InvalidArgument));
        }
        assert_eq!(operator_epoch(&MetadataMap::new()).unwrap(), None);
    }
}
