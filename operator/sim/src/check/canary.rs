//! A revision that does not start stops at one broker.

use super::{Known, Verdict};
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, known: &Known, call: &Call) -> Verdict {
    let Call::DeletePod { id, .. } = call else {
        return Ok(());
    };
    let is_newest = |other: &&i32| {
        let mut brokers = execution.plan.status.brokers.iter();
        brokers.any(|broker| broker.id == **other && broker.up_to_date)
    };
    let mut failing = known.unpullable.iter().filter(|other| *other != id);
    match failing.find(is_newest) {
        Some(other) => Err(format!("broker {id} follows {other}, which does not start")),
        None => Ok(()),
    }
}
