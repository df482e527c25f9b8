//! Elections on demand, and the balance of leaders (KIP-460).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::command::{BrokerRef, Command, ElectLeaders, ElectionType, PartitionRef};
use super::draft::Draft;
use super::election::{Rules, Settlement, is_unclean, lead, settle};
use super::error::{CommandError, Failure};
use super::response::{ElectLeadersResponse, LeaderElected, Response};
use crate::metadata::{Image, PartitionImage, Record, ReplicaHealth};
use crate::{BrokerId, PartitionIndex, TopicPartition};

/// Partitions that one command without a list gets a leader for.
pub const ELECTIONS_PER_COMMAND_MAX: usize = 1_000;

/// The command that brings leaders back to their preferred replicas, `None` when nothing is to be
/// done. Every command moves [`ELECTIONS_PER_COMMAND_MAX`] leaders at most: call again later.
#[must_use]
pub fn plan_preferred_elections(image: &Image) -> Option<Command> {
    let partitions = preferred_elections(image);
    (!partitions.is_empty()).then(|| {
        Command::ElectLeaders(ElectLeaders {
            election_type: ElectionType::Preferred.into(),
            partitions,
        })
    })
}

/// The commands that give leaders to partitions that have none although a live broker may lead them.
/// A controller leaves some when it is replaced between two decisions of one command.
#[must_use]
pub fn plan_missing_elections(image: &Image) -> Vec<Command> {
    let leaderless = image.partitions().filter(|(_, p)| p.leader.is_none());
    let hosts: BTreeSet<BrokerId> = leaderless.flat_map(|(_, p)| p.replicas.clone()).collect();
    let hosts = hosts.iter().filter_map(|id| image.brokers.get(id));
    hosts
        .filter(|host| host.is_active())
        .map(|host| {
            Command::UnfenceBroker(BrokerRef {
                broker_id: host.id.0,
                broker_epoch: host.epoch.0,
            })
        })
        .collect()
}

pub(super) fn elect(draft: &mut Draft, command: &ElectLeaders) -> Response {
    let election_type = command.election_type();
    let wanted = match election_type {
        _ if !command.partitions.is_empty() => command.partitions.clone(),
        ElectionType::Preferred => preferred_elections(draft.image()),
        ElectionType::Unclean => unclean_elections(draft.image()),
    };
    let partitions = wanted.into_iter().map(|partition| LeaderElected {
        topic_id: partition.topic_id,
        partition: partition.partition,
        failure: elect_one(draft, election_type, partition).err(),
    });
    Response::ElectLeaders(ElectLeadersResponse {
        partitions: partitions.collect(),
    })
}

fn preferred_elections(image: &Image) -> Vec<PartitionRef> {
    let wanted = |partition: &PartitionImage| {
        partition.leader != partition.preferred_leader()
            && partition
                .preferred_leader()
                .is_some_and(|id| may_lead(image, partition, id))
    };
    first_partitions(image, wanted)
}

/// Whether nothing speaks against `id` as the partition's leader.
pub(super) fn may_lead(image: &Image, partition: &PartitionImage, id: BrokerId) -> bool {
    objection(image, partition, id).is_none()
}

/// What speaks against `id` as the partition's leader.
fn objection(image: &Image, partition: &PartitionImage, id: BrokerId) -> Option<&'static str> {
    if !image.is_active(id) {
        Some("is not alive")
    } else if !image.is_wanted_as_leader(id) {
        Some("is about to be restarted")
    } else if !partition.isr.contains(&id) {
        Some("is not in sync")
    } else {
        match partition.health(id) {
            ReplicaHealth::Healthy => None,
            ReplicaHealth::Slow => Some("has a slow disk"),
            ReplicaHealth::Offline => Some("has lost its disk"),
            ReplicaHealth::Rebuilding => Some("copies its log anew"),
        }
    }
}

fn unclean_elections(image: &Image) -> Vec<PartitionRef> {
    first_partitions(image, |partition| {
        let mut replicas = partition.replicas.iter();
        partition.leader.is_none()
            && replicas.any(|id| image.is_active(*id) && partition.can_lead(*id))
    })
}

fn first_partitions(image: &Image, wanted: impl Fn(&PartitionImage) -> bool) -> Vec<PartitionRef> {
    image
        .partitions()
        .filter(|(_, partition)| wanted(partition))
        .take(ELECTIONS_PER_COMMAND_MAX)
        .map(|(id, _)| PartitionRef {
            topic_id: id.topic.into(),
            partition: id.partition.0,
        })
        .collect()
}

fn elect_one(
    draft: &mut Draft,
    election_type: ElectionType,
    partition: PartitionRef,
) -> Result<(), Failure> {
    let id = TopicPartition {
        topic: partition.topic_id.into(),
        partition: PartitionIndex(partition.partition),
    };
    let topic = draft.image().topics.get(&id.topic);
    let Some((topic, current)) =
        topic.and_then(|topic| Some((topic, topic.partition(id.partition)?)))
    else {
        return Err(Failure::new(
            CommandError::UnknownPartition,
            format!("partition {id} does not exist"),
        ));
    };
    let next = match election_type {
        ElectionType::Preferred => elect_preferred(draft.image(), current)?,
        ElectionType::Unclean => elect_unclean(current, &draft.rules(topic))?,
    };
    let unclean = is_unclean(current, &current.isr, &next);
    draft.push(Record::Partition(next.to_record(id)));
    draft.note_election(id, next.leader.filter(|_| unclean));
    Ok(())
}

fn elect_preferred(image: &Image, current: &PartitionImage) -> Result<PartitionImage, Failure> {
    let preferred = current.preferred_leader().ok_or_else(election_not_needed)?;
    if let Some(objection) = objection(image, current, preferred) {
        return Err(Failure::new(
            CommandError::PreferredLeaderNotAvailable,
            format!("broker {preferred}, the preferred leader, {objection}"),
        ));
    }
    lead(current, preferred).ok_or_else(election_not_needed)
}

fn elect_unclean(current: &PartitionImage, rules: &Rules<'_>) -> Result<PartitionImage, Failure> {
    if current.leader.is_some() {
        return Err(election_not_needed());
    }
    let rules = Rules {
        unclean_leader_election: true,
        ..*rules
    };
    settle(
        current,
        Settlement {
            isr: current.isr.clone(),
            lost: None,
        },
        &rules,
    )
    .filter(|next| next.leader.is_some())
    .ok_or_else(|| {
        Failure::new(
            CommandError::EligibleLeadersNotAvailable,
            "no replica is alive",
        )
    })
}

fn election_not_needed() -> Failure {
    Failure::new(
        CommandError::ElectionNotNeeded,
        "the partition has this leader already",
    )
}
