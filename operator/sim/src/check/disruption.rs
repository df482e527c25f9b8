//! Never more than one planned disruption at a time, none while another broker is missing, recovers or
//! catches up, and none of a broker that is recovering itself.

use super::{Known, Verdict};
use crate::operator::Call;
use crate::world::World;

pub(super) fn of_call(world: &World, known: &Known, call: &Call) -> Verdict {
    let Call::DeletePod { id, .. } = call else {
        return Ok(());
    };
    if !known.running.contains(id) {
        return Ok(());
    }
    if known.recovering.contains(id) {
        return Err(format!("broker {id} is stopped while it recovers"));
    }
    if let Some(other) = known.unsettled.iter().find(|other| *other != id) {
        return Err(format!(
            "broker {id} is stopped while broker {other} is missing"
        ));
    }
    let mut disrupted = world.checker.disrupted.iter();
    match disrupted.find(|other| *other != id) {
        Some(other) => Err(format!(
            "broker {id} is stopped while {other} was stopped as well"
        )),
        None => Ok(()),
    }
}
