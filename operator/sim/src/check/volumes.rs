//! A volume is deleted only if the policy says so and its broker is gone and forgotten.

use klamm_crds::DeletionPolicy;

use super::{Known, Verdict, id_of};
use crate::operator::{Call, Execution};
use crate::world::World;

pub(super) fn of_call(world: &World, execution: &Execution, now: &Known, call: &Call) -> Verdict {
    let Call::DeleteVolume(volume) = call else {
        return Ok(());
    };
    if execution.cluster.spec.scale_down.volume_policy == DeletionPolicy::Retain {
        return Err(format!("{} is deleted, but shall be retained", volume.name));
    }
    let id = id_of(volume);
    let registered = world.brokers.registered.contains_key(&id);
    if registered || now.used.contains(&id) || now.running.contains(&id) {
        return Err(format!(
            "{} is deleted, and its broker is there",
            volume.name
        ));
    }
    Ok(())
}
