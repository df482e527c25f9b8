//! Invariants of an image, checked independently of the code that keeps them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::image::{Image, TopicImage};
use super::partition::PartitionImage;
use crate::{BrokerId, TopicId, TopicPartition};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("topic {0} is not found by its name, or its name leads to another topic")]
    TopicName(TopicId),
    #[error("topic {0} has no partition")]
    NoPartition(TopicId),
    #[error("partition {0} has no replica")]
    NoReplica(TopicPartition),
    #[error("partition {0} names a broker twice in one of its lists")]
    DuplicateReplica(TopicPartition),
    #[error("partition {0} has a replica on broker {1}, which is not registered")]
    UnregisteredReplica(TopicPartition, BrokerId),
    #[error("partition {0} has an ISR or ELR member without replica")]
    MemberWithoutReplica(TopicPartition),
    #[error("partition {0} has a broker in ISR and ELR at once")]
    IsrOverlapsElr(TopicPartition),
    #[error("partition {0} has the fenced broker {1} in its ISR")]
    FencedInIsr(TopicPartition, BrokerId),
    #[error("partition {0} has the offline replica {1} in its ISR or beside others in its ELR")]
    OfflineInSync(TopicPartition, BrokerId),
    #[error("partition {0} has replica {1}, which copies its log anew, in its ISR or ELR")]
    RebuildingInSync(TopicPartition, BrokerId),
    #[error(
        "partition {0} has a broker without replica, or one twice, among the offline, slow and rebuilding ones"
    )]
    Health(TopicPartition),
    #[error("partition {0} is led from outside its ISR")]
    LeaderOutsideIsr(TopicPartition),
    #[error("partition {0} has an ISR and no leader")]
    IsrWithoutLeader(TopicPartition),
    #[error("partition {0} has lost its last candidate without trace")]
    NoCandidate(TopicPartition),
    #[error("partition {0} has lists of a reassignment that do not fit its replicas")]
    Reassignment(TopicPartition),
    #[error("broker {0} has an epoch above the highest one given out")]
    BrokerEpoch(BrokerId),
}

/// All invariants that `image` violates; none in an image of applied decisions.
#[must_use]
pub fn lint(image: &Image) -> Vec<Violation> {
    let mut violations = Vec::new();
    for broker in image.brokers.values() {
        if broker.epoch > image.last_broker_epoch {
            violations.push(Violation::BrokerEpoch(broker.id));
        }
    }
    for id in image.topic_ids.values() {
        if !image.topics.contains_key(id) {
            violations.push(Violation::TopicName(*id));
        }
    }
    for topic in image.topics.values() {
        lint_topic(&mut violations, image, topic);
    }
    violations
}

fn lint_topic(violations: &mut Vec<Violation>, image: &Image, topic: &TopicImage) {
    if image.topic_ids.get(&topic.name) != Some(&topic.id) {
        violations.push(Violation::TopicName(topic.id));
    }
    if topic.partitions.is_empty() {
        violations.push(Violation::NoPartition(topic.id));
    }
    for (id, partition) in topic.iter() {
        lint_replicas(violations, image, id, partition);
        lint_health(violations, id, partition);
        lint_leader(violations, id, partition);
        if !reassignment_fits(partition) {
            violations.push(Violation::Reassignment(id));
        }
    }
}

/// Replicas are the target and then those to be removed; what is added was not there before, and
/// nothing that was there has gone.
fn reassignment_fits(partition: &PartitionImage) -> bool {
    let PartitionImage {
        replicas,
        original,
        adding,
        removing,
        replaces_dead,
        rebalances,
        ..
    } = partition;
    if original.is_empty() {
        return adding.is_empty() && removing.is_empty() && !replaces_dead && !rebalances;
    }
    let in_progress = !adding.is_empty() || !removing.is_empty();
    in_progress
        && replicas.ends_with(removing)
        && replicas.len() > removing.len()
        && !repeats(original)
        && original.iter().all(|id| replicas.contains(id))
        && adding
            .iter()
            .all(|id| replicas.contains(id) && !original.contains(id) && !removing.contains(id))
}

fn lint_replicas(
    violations: &mut Vec<Violation>,
    image: &Image,
    id: TopicPartition,
    partition: &PartitionImage,
) {
    if partition.replicas.is_empty() {
        violations.push(Violation::NoReplica(id));
    }
    if [&partition.replicas, &partition.isr, &partition.elr]
        .into_iter()
        .any(|list| repeats(list))
    {
        violations.push(Violation::DuplicateReplica(id));
    }
    for replica in &partition.replicas {
        if !image.brokers.contains_key(replica) {
            violations.push(Violation::UnregisteredReplica(id, *replica));
        }
    }
    if partition
        .isr
        .iter()
        .chain(&partition.elr)
        .any(|member| !partition.has_replica(*member))
    {
        violations.push(Violation::MemberWithoutReplica(id));
    }
    if partition
        .isr
        .iter()
        .any(|member| partition.elr.contains(member))
    {
        violations.push(Violation::IsrOverlapsElr(id));
    }
    for member in &partition.isr {
        if image
            .brokers
            .get(member)
            .is_some_and(|broker| broker.fenced)
        {
            violations.push(Violation::FencedInIsr(id, *member));
        }
    }
}

fn lint_health(violations: &mut Vec<Violation>, id: TopicPartition, partition: &PartitionImage) {
    let unhealthy: Vec<BrokerId> = [&partition.offline[..], &partition.slow].concat();
    if repeats(&unhealthy) || unhealthy.iter().any(|id| !partition.has_replica(*id)) {
        violations.push(Violation::Health(id));
    }
    let rebuilding = &partition.rebuilding;
    if repeats(rebuilding) || rebuilding.iter().any(|id| !partition.has_replica(*id)) {
        violations.push(Violation::Health(id));
    }
    for member in partition.isr.iter().chain(&partition.elr) {
        if rebuilding.contains(member) {
            violations.push(Violation::RebuildingInSync(id, *member));
        }
    }
    // What was the only replica stays eligible: no other one has more.
    let eligible = partition.elr.iter();
    let eligible = eligible.filter(|_| partition.elr.len() > 1);
    for member in partition.isr.iter().chain(eligible) {
        if partition.offline.contains(member) {
            violations.push(Violation::OfflineInSync(id, *member));
        }
    }
}

fn lint_leader(violations: &mut Vec<Violation>, id: TopicPartition, partition: &PartitionImage) {
    match partition.leader {
        Some(leader) if !partition.isr.contains(&leader) => {
            violations.push(Violation::LeaderOutsideIsr(id));
        }
        None if !partition.isr.is_empty() => violations.push(Violation::IsrWithoutLeader(id)),
        None if partition.elr.is_empty() && partition.last_known_elr.is_empty() => {
            violations.push(Violation::NoCandidate(id));
        }
        _ => {}
    }
}

fn repeats(brokers: &[BrokerId]) -> bool {
    brokers.iter().collect::<BTreeSet<_>>().len() < brokers.len()
}
