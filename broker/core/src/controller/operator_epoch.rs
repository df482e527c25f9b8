//! Operators take turns: of two that believe to be the one, only the later may change the cluster.
//!
//! Every operator has an epoch, above those of all before it. The metadata keep the highest that ever
//! asked for a change; commands of lower ones are refused.

use alloc::format;

use super::command::{Command, FromOperator};
use super::context::Context;
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::respond;
use super::response::{Accepted, Response};
use crate::metadata::{OperatorEpoch, Record};

pub(super) fn decide(
    draft: &mut Draft,
    context: &mut Context<'_>,
    command: &FromOperator,
) -> Result<Response, Failure> {
    let epoch = command.operator_epoch;
    let newest = draft.image().operator_epoch;
    if epoch < newest {
        return Err(Failure::new(
            CommandError::StaleOperatorEpoch,
            format!("the operator with epoch {newest} has taken over from the one with {epoch}"),
        ));
    }
    if epoch > newest {
        draft.push(Record::OperatorEpoch(OperatorEpoch { epoch }));
    }
    if command.command.is_empty() {
        return Ok(Response::Accepted(Accepted {}));
    }
    match Command::from_bytes(&command.command) {
        Ok(Command::FromOperator(_)) => Err(Failure::new(
            CommandError::InvalidRequest,
            "a command has one operator epoch",
        )),
        Ok(command) => respond(draft, context, &command),
        Err(error) => Err(Failure::new(
            CommandError::InvalidRequest,
            format!("{error}"),
        )),
    }
}
