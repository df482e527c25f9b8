//! The next step of a member towards what it shall have.
//!
//! A member first gives up what is not its own any more, then takes the epoch of the target, and with
//! it what others have given up; the rest follows as it becomes free.

use super::record::{CurrentAssignment, GroupEpoch, MemberState, Partitions};
use crate::TopicPartition;

/// What a member shall have.
pub(super) struct Target<'a> {
    pub(super) epoch: GroupEpoch,
    pub(super) partitions: &'a Partitions,
}

/// `owned` is what the member says that it has, if it does; `is_free` whether nobody else has a
/// partition.
pub(super) fn reconcile(
    current: &CurrentAssignment,
    target: &Target<'_>,
    owned: Option<&Partitions>,
    is_free: impl Fn(&TopicPartition) -> bool,
) -> CurrentAssignment {
    let gave_up = |revoked: &Partitions| owned.is_some_and(|owned| owned.is_disjoint(revoked));
    match current.state {
        MemberState::Stable if current.epoch == target.epoch => return current.clone(),
        MemberState::UnrevokedPartitions if !gave_up(&current.pending_revocation) => {
            return current.clone();
        }
        _ => {}
    }
    let kept: Partitions = current
        .assigned
        .intersection(target.partitions)
        .copied()
        .collect();
    let revoked: Partitions = current.assigned.difference(&kept).copied().collect();
    if !revoked.is_empty() && !gave_up(&revoked) {
        return CurrentAssignment {
            state: MemberState::UnrevokedPartitions,
            assigned: kept,
            pending_revocation: revoked,
            ..current.clone()
        };
    }
    let missing = target.partitions.difference(&kept).copied();
    let (free, unreleased): (Partitions, Partitions) = missing.partition(is_free);
    let moved = current.epoch != target.epoch;
    CurrentAssignment {
        epoch: target.epoch,
        previous_epoch: if moved {
            current.epoch
        } else {
            current.previous_epoch
        },
        state: match unreleased.is_empty() {
            true => MemberState::Stable,
            false => MemberState::UnreleasedPartitions,
        },
        assigned: kept.union(&free).copied().collect(),
        pending_revocation: Partitions::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartitionIndex, TopicId};

    fn partitions(indexes: &[i32]) -> Partitions {
        let of = |index: &i32| TopicPartition {
            topic: TopicId([1; 16]),
            partition: PartitionIndex(*index),
        };
        indexes.iter().map(of).collect()
    }

    fn step(
        current: &CurrentAssignment,
        target: &[i32],
        owned: Option<&[i32]>,
        taken: &[i32],
    ) -> CurrentAssignment {
        let target = partitions(target);
        let target = Target {
            epoch: GroupEpoch(5),
            partitions: &target,
        };
        let (owned, taken) = (owned.map(partitions), partitions(taken));
        reconcile(current, &target, owned.as_ref(), |p| !taken.contains(p))
    }

    #[test]
    fn a_member_gives_up_first_and_takes_what_is_free() {
        let current = CurrentAssignment {
            epoch: GroupEpoch(4),
            previous_epoch: GroupEpoch(3),
            assigned: partitions(&[0, 1]),
            ..CurrentAssignment::default()
        };
        let revoking = step(&current, &[1, 2, 3], None, &[3]);
        assert_eq!(revoking.state, MemberState::UnrevokedPartitions);
        assert_eq!(
            (revoking.epoch, &revoking.assigned),
            (GroupEpoch(4), &partitions(&[1]))
        );
        assert_eq!(revoking.pending_revocation, partitions(&[0]));
        assert_eq!(step(&revoking, &[1, 2, 3], Some(&[0, 1]), &[3]), revoking);

        let waiting = step(&revoking, &[1, 2, 3], Some(&[1]), &[3]);
        assert_eq!(waiting.state, MemberState::UnreleasedPartitions);
        assert_eq!(
            (waiting.epoch, waiting.previous_epoch),
            (GroupEpoch(5), GroupEpoch(4))
        );
        assert_eq!(waiting.assigned, partitions(&[1, 2]));
        let done = step(&waiting, &[1, 2, 3], None, &[]);
        assert_eq!(done.state, MemberState::Stable);
        assert_eq!(
            (done.epoch, done.previous_epoch),
            (GroupEpoch(5), GroupEpoch(4))
        );
        assert_eq!(done.assigned, partitions(&[1, 2, 3]));
        assert_eq!(step(&done, &[], None, &[]), done);
    }

    #[test]
    fn a_target_that_changes_meanwhile_is_followed() {
        let waiting = CurrentAssignment {
            epoch: GroupEpoch(4),
            state: MemberState::UnreleasedPartitions,
            assigned: partitions(&[1, 2]),
            ..CurrentAssignment::default()
        };
        let revoking = step(&waiting, &[1], None, &[]);
        assert_eq!(revoking.state, MemberState::UnrevokedPartitions);
        assert_eq!(revoking.epoch, GroupEpoch(4));
        let done = step(&revoking, &[1, 2], Some(&[1]), &[]);
        assert_eq!(
            (done.state, done.assigned),
            (MemberState::Stable, partitions(&[1, 2]))
        );
    }
}
