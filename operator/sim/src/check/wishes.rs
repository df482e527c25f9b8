//! Brokers that the user holds are not restarted, and nothing changes while the user has paused it.

use super::{Known, Verdict};
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, known: &Known, call: &Call) -> Verdict {
    let spec = &execution.cluster.spec;
    if spec.paused {
        return Err(format!("{call:?}, though the cluster is paused"));
    }
    match call {
        Call::DeletePod { id, .. } if spec.hold.contains(id) && known.running.contains(id) => {
            Err(format!("broker {id} is restarted, though it is held"))
        }
        _ => Ok(()),
    }
}
