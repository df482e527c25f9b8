//! A planned disruption takes no partition below `min.insync.replicas`, nor its last in-sync replica.

use super::{Known, Verdict};
use crate::operator::Call;

pub(super) fn of_call(known: &Known, call: &Call) -> Verdict {
    let Call::DeletePod { id, .. } = call else {
        return Ok(());
    };
    match known.harmed.get(id) {
        Some(harmed) if known.running.contains(id) => Err(format!(
            "partitions {harmed:?} cannot do without broker {id}"
        )),
        _ => Ok(()),
    }
}
