//! A broker that serves is stopped only after its leaders were moved away, which begins only once every
//! broker has been ready for as long as the spec asks for.

use super::{Known, Verdict};
use crate::admin::Request;
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, known: &Known, call: &Call) -> Verdict {
    match call {
        Call::DeletePod { id, .. } if known.running.contains(id) => {
            let prepared = execution.known.prepared.contains(id);
            let told = || format!("broker {id} is stopped while it may lead");
            prepared.then_some(()).ok_or_else(told)
        }
        Call::Ask(Request::Prepare { id, .. }) if !execution.known.prepared.contains(id) => {
            let young = known.soaking.iter().next();
            let told = |young| format!("broker {id} shall stop, and {young} is just ready");
            young.map_or(Ok(()), |young| Err(told(young)))
        }
        _ => Ok(()),
    }
}
