//! Brokers without a vote restart before voters, and the active controller last, after it has handed
//! over. One whose restart is prepared goes first.

use super::{Known, Verdict};
use crate::admin::Request;
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, known: &Known, call: &Call) -> Verdict {
    let hold = &execution.cluster.spec.hold;
    let brokers = execution.plan.status.brokers.iter();
    let due = brokers.filter(|broker| !broker.up_to_date && !broker.leaving);
    let due = due.map(|broker| broker.id).filter(|id| !hold.contains(id));
    let mut before = due.filter(|id| known.running.contains(id));
    let (id, other) = match call {
        Call::DeletePod { id, .. } => {
            let controls = known.controller == Some(*id) && known.voters.len() > 1;
            return if controls && known.running.contains(id) {
                Err(format!("broker {id} is stopped as active controller"))
            } else {
                Ok(())
            };
        }
        Call::Ask(Request::Prepare { id, .. }) if !known.prepared.contains(id) => {
            let votes = known.voters.contains(id);
            (
                *id,
                before.find(|other| votes && !execution.known.voters.contains(other)),
            )
        }
        Call::Ask(Request::TransferController) => match known.controller {
            Some(id) if !known.prepared.contains(&id) => (id, before.find(|other| *other != id)),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    match other {
        Some(other) => Err(format!("broker {id} shall restart before {other}")),
        None => Ok(()),
    }
}
