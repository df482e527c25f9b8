//! A broker is stopped for good only without replicas and vote, while the spec does not want it, and
//! forgotten only once its process is gone.

use operator_plan::scale::Step;

use super::{Known, Verdict, id_of};
use crate::admin::Request;
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, now: &Known, call: &Call) -> Verdict {
    let id = match call {
        Call::DeleteStatefulSet(set) => id_of(set),
        Call::Ask(Request::Scale(Step::Unregister { id, .. })) => {
            return if now.running.contains(id) && execution.known.running.contains(id) {
                Err(format!("broker {id} is forgotten while it runs"))
            } else {
                Ok(())
            };
        }
        _ => return Ok(()),
    };
    if now.used.contains(&id) || execution.known.used.contains(&id) {
        return Err(format!("broker {id} is removed with a replica or a vote"));
    }
    let brokers = &execution.plan.status.brokers;
    if brokers
        .iter()
        .any(|broker| broker.id == id && !broker.leaving)
    {
        return Err(format!("broker {id} is removed, which the spec wants"));
    }
    Ok(())
}
