//! The status says nothing better than it is.

use operator_plan::conditions::find;

use super::Verdict;
use crate::operator::Execution;

pub(super) fn of_pass(execution: &Execution) -> Verdict {
    let Execution {
        plan,
        known,
        at_once,
        ..
    } = execution;
    let says = |type_: &str, truth: &str| {
        let condition = find(&plan.status.conditions, type_);
        condition.is_some_and(|condition| condition.status == truth)
    };
    if says("Ready", "True") && !known.serves {
        return Err("Ready, but some partition cannot be written".to_owned());
    }
    if says("Degraded", "False") && known.under_replicated {
        return Err("not Degraded, but some partition is not in sync".to_owned());
    }
    if says("QuorumHealthy", "True") && known.controller.is_none() {
        return Err("QuorumHealthy, but there is no controller".to_owned());
    }
    match known.outdated.iter().next() {
        Some(id) if *at_once && plan.validated.is_some() && says("UpToDate", "True") => {
            Err(format!("UpToDate, but broker {id} is of another revision"))
        }
        _ => Ok(()),
    }
}
