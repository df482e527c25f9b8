//! The PodDisruptionBudget is open only while every partition and the quorum can lose a broker.

use super::{Known, Verdict};
use crate::operator::Execution;
use crate::world::World;

pub(super) fn of_pass(world: &World, execution: &Execution, known: &Known) -> Verdict {
    let carried_out = execution.plan.validated.is_some();
    if !carried_out || !execution.at_once || world.kubernetes.budget() == 0 {
        return Ok(());
    }
    if let Some((id, partitions)) = known.harmed.iter().next() {
        return Err(format!(
            "evictions are allowed, but {partitions:?} need broker {id}"
        ));
    }
    if let Some(id) = known.needed.iter().next() {
        return Err(format!(
            "evictions are allowed, but the quorum needs broker {id}"
        ));
    }
    match known.unsettled.iter().next() {
        Some(id) => Err(format!("evictions are allowed, but broker {id} is missing")),
        None => Ok(()),
    }
}
