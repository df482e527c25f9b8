//! Who leads a partition, who is in its ISR and who could lead (KIP-966).
//!
//! Candidates, in the order of the replicas within each group:
//!
//! 1. members of the ISR;
//! 2. eligible leader replicas (ELR): members left the ISR when it was below
//!    `min.insync.replicas`, while the high watermark stood still, so they have all that was
//!    acknowledged;
//! 3. where `unclean.leader.election.enable` allows it: the last leader, then those that lost their
//!    eligibility by an unclean stop, then any replica. They may lack acknowledged records.
//!
//! A broker that stops uncleanly leaves the ELR, because it may have lost what it had acknowledged.
//! The last member of ISR and ELR stays if its disks are those of the stop: nobody is known to have
//! more, so waiting gains nothing. It may lack what was acknowledged and not yet synced, but then as
//! many members have stopped uncleanly as acknowledgements promise to survive.
//!
//! Within each group, replicas of brokers that are about to be restarted come last, and those on slow
//! disks before them; such a leader gives way to any better member of the ISR. A replica whose log is
//! offline is in no group, nor is one that copies its log anew until it is in sync.
//!
//! Invariants (see [`crate::metadata::lint`]): no fenced broker is in an ISR, the leader is in the
//! ISR, ISR and ELR do not overlap, and an ISR of `min.insync.replicas` leaves no ELR.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::reassignment;
use crate::metadata::{BrokerImage, PartitionImage, ReplicaHealth};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerId, LeaderEpoch, PartitionEpoch};

/// What decides beside the partition's own state.
pub(super) struct Rules<'a> {
    pub(super) brokers: &'a BTreeMap<BrokerId, BrokerImage>,
    /// Counts as fenced whatever `brokers` says.
    pub(super) gone: Option<BrokerId>,
    pub(super) min_insync_replicas: usize,
    pub(super) unclean_leader_election: bool,
}

/// A change that a partition has to settle with.
pub(super) struct Settlement {
    /// The ISR as far as the leader knows.
    pub(super) isr: Vec<BrokerId>,
    /// A broker that may have lost what it had acknowledged.
    pub(super) lost: Option<Lossy>,
}

/// A broker that stopped uncleanly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lossy {
    pub(super) broker: BrokerId,
    pub(super) disks: Disks,
}

/// What a broker has come back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disks {
    /// Those of its last run: the end of a log may be missing.
    Kept,
    /// Empty or older ones: everything may be missing.
    Replaced,
}

/// A leader with how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elected {
    /// From the ISR.
    InSync(BrokerId),
    /// From the ELR: has all that was acknowledged.
    Eligible(BrokerId),
    /// May lack acknowledged records.
    Unclean(BrokerId),
}

impl Rules<'_> {
    fn broker(&self, id: BrokerId) -> Option<&BrokerImage> {
        self.brokers.get(&id).filter(|_| self.gone != Some(id))
    }

    fn is_active(&self, broker: BrokerId) -> bool {
        self.broker(broker).is_some_and(BrokerImage::is_active)
    }

    /// In-sync replicas without which the high watermark of `partition` stands still.
    pub(super) fn min_insync(&self, partition: &PartitionImage) -> usize {
        self.min_insync_replicas.min(partition.replication_factor())
    }

    fn is_wanted_as_leader(&self, broker: BrokerId) -> bool {
        self.broker(broker)
            .is_some_and(BrokerImage::is_wanted_as_leader)
    }

    fn is_fenced(&self, broker: BrokerId) -> bool {
        self.broker(broker).is_none_or(|broker| broker.fenced)
    }
}

/// The partition's next state, `None` when it stays as it is. A reassignment whose target is in
/// sync is complete with it.
pub(super) fn settle(
    old: &PartitionImage,
    settlement: Settlement,
    rules: &Rules<'_>,
) -> Option<PartitionImage> {
    settle_from(old, old.clone(), settlement, rules)
}

/// As [`settle`], with the replicas of `next` in place of the old ones.
pub(super) fn settle_from(
    old: &PartitionImage,
    mut next: PartitionImage,
    settlement: Settlement,
    rules: &Rules<'_>,
) -> Option<PartitionImage> {
    let lost = settlement.lost.filter(|lossy| old.counts_out(*lossy));
    let lost = lost.map(|lossy| lossy.broker);
    next.isr = eligible_isr(settlement.isr, lost, rules);
    next.isr.retain(|member| !old.offline.contains(member));
    next.rebuilding.retain(|id| !next.isr.contains(id));
    next.elr.retain(|member| Some(*member) != lost);
    reassignment::complete(&mut next);

    let elected = elect(&next, rules);
    next.leader = match elected {
        Some(Elected::InSync(leader)) => Some(leader),
        Some(Elected::Eligible(leader) | Elected::Unclean(leader)) => {
            next.isr = vec![leader];
            reassignment::complete(&mut next);
            Some(leader)
        }
        None => None,
    };
    next.elr = match elected {
        Some(Elected::Unclean(_)) => Vec::new(),
        _ => eligible_leader_replicas(old, &next, lost, rules),
    };
    if next.leader.is_some() {
        next.last_known_elr = Vec::new();
    } else {
        let leader = old.leader.into_iter();
        let lost = lost.into_iter().filter(|lost| old.elr.contains(lost));
        for candidate in leader.chain(lost) {
            if !next.last_known_elr.contains(&candidate) {
                next.last_known_elr.push(candidate);
            }
        }
    }
    advance_epochs(old, next)
}

/// The next state once `broker`, when it has a replica, serves it in this `health`. What an offline
/// log acknowledged counts as lost: nobody knows what it has when it comes back. A replica that
/// copies its log anew is taken as such until it is in sync, whatever its disk is like.
pub(super) fn alter_health(
    old: &PartitionImage,
    broker: BrokerId,
    health: ReplicaHealth,
    rules: &Rules<'_>,
) -> Option<PartitionImage> {
    if !old.has_replica(broker) || old.health(broker) == health {
        return None;
    }
    let mut marked = old.clone();
    marked.offline.retain(|id| *id != broker);
    marked.slow.retain(|id| *id != broker);
    match health {
        ReplicaHealth::Healthy => {}
        ReplicaHealth::Slow if marked.rebuilding.contains(&broker) => {}
        ReplicaHealth::Slow => marked.slow.push(broker),
        ReplicaHealth::Offline => marked.offline.push(broker),
        ReplicaHealth::Rebuilding if !old.may_rebuild(broker) => return None,
        ReplicaHealth::Rebuilding => {
            marked.rebuilding.retain(|id| *id != broker);
            marked.rebuilding.push(broker);
        }
    }
    let settlement = Settlement {
        isr: old.isr.clone(),
        lost: (health == ReplicaHealth::Offline).then_some(Lossy {
            broker,
            disks: Disks::Kept,
        }),
    };
    settle(&marked, settlement, rules).or_else(|| advance_epochs(old, marked))
}

/// Whether the leader of `next`, which [`settle`] made of `old` and an ISR, may lack acknowledged
/// records.
pub(super) fn is_unclean(old: &PartitionImage, isr: &[BrokerId], next: &PartitionImage) -> bool {
    next.leader.is_some_and(|leader| {
        next.leader != old.leader && !isr.contains(&leader) && !old.elr.contains(&leader)
    })
}

/// The next state with `leader`, a member of the ISR.
pub(super) fn lead(old: &PartitionImage, leader: BrokerId) -> Option<PartitionImage> {
    advance_epochs(
        old,
        PartitionImage {
            leader: Some(leader),
            ..old.clone()
        },
    )
}

impl PartitionImage {
    fn counts_out(&self, lossy: Lossy) -> bool {
        let mut members = self.isr.iter().chain(&self.elr);
        lossy.disks == Disks::Replaced || members.any(|member| *member != lossy.broker)
    }
}

fn advance_epochs(old: &PartitionImage, mut next: PartitionImage) -> Option<PartitionImage> {
    if next == *old {
        return None;
    }
    next.offline.retain(|id| next.replicas.contains(id));
    next.slow.retain(|id| next.replicas.contains(id));
    next.rebuilding.retain(|id| next.replicas.contains(id));
    next.partition_epoch = PartitionEpoch(old.partition_epoch.0 + 1);
    // A replica that is removed and added again starts with an empty log, and so does one that gives
    // up a damaged one: the new epoch makes the leader forget how far it was, even if it never saw
    // the state between.
    let removes_replica = old.replicas.iter().any(|id| !next.has_replica(*id));
    let empties_log = next
        .rebuilding
        .iter()
        .any(|id| old.offline.contains(id) && !next.offline.contains(id));
    if next.leader != old.leader || removes_replica || empties_log {
        next.leader_epoch = LeaderEpoch(old.leader_epoch.0 + 1);
    }
    Some(next)
}

/// The ISR without fenced brokers, and without draining ones unless nobody else is left.
fn eligible_isr(
    mut isr: Vec<BrokerId>,
    lost: Option<BrokerId>,
    rules: &Rules<'_>,
) -> Vec<BrokerId> {
    isr.retain(|member| Some(*member) != lost && !rules.is_fenced(*member));
    if isr.iter().any(|member| rules.is_active(*member)) {
        isr.retain(|member| rules.is_active(*member));
    }
    isr
}

fn elect(partition: &PartitionImage, rules: &Rules<'_>) -> Option<Elected> {
    let reluctance = |id: &BrokerId| (!rules.is_wanted_as_leader(*id), partition.health(*id));
    let can_lead = |id: &BrokerId| rules.is_active(*id) && partition.can_lead(*id);
    let first = |group: &[BrokerId]| {
        let replicas = partition.replicas.iter().copied();
        replicas
            .filter(|id| group.contains(id) && can_lead(id))
            .min_by_key(reluctance)
    };
    if let Some(leader) = partition.leader
        && partition.isr.contains(&leader)
    {
        let better = first(&partition.isr).filter(|id| reluctance(id) < reluctance(&leader));
        return Some(Elected::InSync(better.unwrap_or(leader)));
    }
    let unclean = || {
        let any = || first(&partition.replicas);
        let last_known = || {
            let mut last_known = partition.last_known_elr.iter().copied();
            last_known.find(|id| partition.has_replica(*id) && can_lead(id))
        };
        let allowed = rules.unclean_leader_election && !mutated(Mutation::NeverElectUncleanly);
        (allowed || mutated(Mutation::ElectAnyReplica))
            .then(|| last_known().or_else(any))
            .flatten()
    };
    first(&partition.isr)
        .map(Elected::InSync)
        .or_else(|| first(&partition.elr).map(Elected::Eligible))
        .or_else(|| unclean().map(Elected::Unclean))
}

/// Who had all that was acknowledged and left an ISR that is below `min.insync.replicas`.
fn eligible_leader_replicas(
    old: &PartitionImage,
    next: &PartitionImage,
    lost: Option<BrokerId>,
    rules: &Rules<'_>,
) -> Vec<BrokerId> {
    if next.isr.len() >= rules.min_insync(next) || mutated(Mutation::ForgetEligibleReplicas) {
        return Vec::new();
    }
    let had_all = |replica: &BrokerId| old.isr.contains(replica) || old.elr.contains(replica);
    let mut replicas = next.replicas.clone();
    replicas.retain(|replica| {
        had_all(replica) && !next.isr.contains(replica) && Some(*replica) != lost
    });
    replicas
}
