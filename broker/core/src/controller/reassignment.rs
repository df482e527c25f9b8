//! How the replicas of one partition change by a reassignment (KIP-455).
//!
//! While it is in progress, the replicas are the target and those to be removed. It is complete as
//! soon as the whole target is in sync, and the replicas to be removed go with that same step, so
//! that there are never fewer replicas in sync than before or than the target has.

use alloc::vec::Vec;

use crate::BrokerId;
use crate::metadata::PartitionImage;

/// The partition on its way to `target`, in place of a reassignment in progress if there is one.
///
/// Replicas that the former target alone has go at once, unless they hold acknowledged records: as
/// members of ISR or ELR they stay until the target is in sync.
pub(super) fn start(partition: &PartitionImage, target: Vec<BrokerId>) -> PartitionImage {
    let original = original(partition);
    let holds_records = |id: &BrokerId| partition.isr.contains(id) || partition.elr.contains(id);
    let stays = |id: &BrokerId| original.contains(id) || holds_records(id);
    let removing: Vec<BrokerId> = partition
        .replicas
        .iter()
        .copied()
        .filter(|id| !target.contains(id) && stays(id))
        .collect();
    let adding: Vec<BrokerId> = target
        .iter()
        .copied()
        .filter(|id| !original.contains(id))
        .collect();
    let mut next = partition.clone();
    next.original = if adding.is_empty() && removing.is_empty() {
        Vec::new()
    } else {
        original.to_vec()
    };
    next.replicas = target;
    next.replicas.extend_from_slice(&removing);
    next.adding = adding;
    next.removing = removing;
    next.replaces_dead = false;
    next.rebalances = false;
    next
}

/// The partition with its replicas as they were before the reassignment in progress.
pub(super) fn cancel(partition: &PartitionImage) -> PartitionImage {
    let mut next = partition.clone();
    next.replicas = core::mem::take(&mut next.original);
    finish(&mut next);
    next
}

/// Completes the reassignment in progress if the whole target is in sync.
pub(super) fn complete(partition: &mut PartitionImage) {
    let in_sync = |id: BrokerId| partition.isr.contains(&id);
    if partition.is_reassigning() && partition.target().all(in_sync) {
        partition.replicas = partition.target().collect();
        finish(partition);
    }
}

/// Forgets the reassignment, and members that have no replica any more.
fn finish(partition: &mut PartitionImage) {
    let PartitionImage {
        replicas, isr, elr, ..
    } = partition;
    isr.retain(|member| replicas.contains(member));
    elr.retain(|member| replicas.contains(member));
    partition.adding = Vec::new();
    partition.removing = Vec::new();
    partition.original = Vec::new();
    partition.replaces_dead = false;
    partition.rebalances = false;
}

fn original(partition: &PartitionImage) -> &[BrokerId] {
    if partition.is_reassigning() {
        &partition.original
    } else {
        &partition.replicas
    }
}
