//! Starting, replacing and giving up reassignments of partitions (KIP-455, KIP-860).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::{AlterReassignments, Reassignment, TargetReplicas};
use super::draft::Draft;
use super::election::{Rules, Settlement, settle_from};
use super::error::{CommandError, Failure};
use super::reassignment;
use super::response::{AlterReassignmentsResponse, ReassignmentAltered, Response};
use crate::metadata::{Image, PartitionImage, Record};
use crate::{BrokerId, PartitionIndex, TopicPartition};

/// Partitions that one command may name.
pub const REASSIGNMENTS_PER_COMMAND_MAX: usize = 10_000;

pub(super) fn alter(draft: &mut Draft, command: &AlterReassignments) -> Result<Response, Failure> {
    if command.partitions.len() > REASSIGNMENTS_PER_COMMAND_MAX {
        return Err(Failure::new(
            CommandError::LimitExceeded,
            format!("name {REASSIGNMENTS_PER_COMMAND_MAX} partitions at most in one request"),
        ));
    }
    let partitions = command.partitions.iter().map(|wanted| ReassignmentAltered {
        topic_id: wanted.partition.topic_id,
        partition: wanted.partition.partition,
        failure: alter_one(draft, wanted, command).err(),
    });
    Ok(Response::AlterReassignments(AlterReassignmentsResponse {
        partitions: partitions.collect(),
    }))
}

fn alter_one(
    draft: &mut Draft,
    wanted: &Reassignment,
    command: &AlterReassignments,
) -> Result<(), Failure> {
    let id = TopicPartition {
        topic: wanted.partition.topic_id.into(),
        partition: PartitionIndex(wanted.partition.partition),
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
    let rules = draft.rules(topic);
    let next = match &wanted.target {
        Some(target) => {
            let target = check_target(draft.image(), current, target)?;
            if command.keep_replication_factor {
                check_replication_factor(current, &target)?;
            }
            start(current, target, command, &rules)
        }
        None => cancel(current, &rules)?,
    };
    if let Some(next) = next {
        draft.push(Record::Partition(next.to_record(id)));
    }
    Ok(())
}

fn check_target(
    image: &Image,
    current: &PartitionImage,
    target: &TargetReplicas,
) -> Result<Vec<BrokerId>, Failure> {
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidAssignment, reason));
    let replicas: Vec<BrokerId> = target.replicas.iter().copied().map(BrokerId).collect();
    if replicas.is_empty() {
        return refuse(String::from("give a broker or more"));
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() < replicas.len() {
        return refuse(format!("{replicas:?} names a broker twice"));
    }
    for id in &replicas {
        match image.brokers.get(id) {
            None => return refuse(format!("broker {id} is not registered")),
            Some(broker) if !broker.takes_replicas() && !current.has_replica(*id) => {
                return refuse(format!(
                    "broker {id} is cordoned or drained and gets no new replicas"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(replicas)
}

fn check_replication_factor(current: &PartitionImage, target: &[BrokerId]) -> Result<(), Failure> {
    let expected = current.target().count();
    if target.len() == expected {
        return Ok(());
    }
    Err(Failure::new(
        CommandError::InvalidReplicationFactor,
        format!(
            "the target has {} replicas, the partition {expected}; allow the change, or keep the number",
            target.len()
        ),
    ))
}

fn start(
    current: &PartitionImage,
    target: Vec<BrokerId>,
    command: &AlterReassignments,
    rules: &Rules<'_>,
) -> Option<PartitionImage> {
    let mut next = reassignment::start(current, target);
    next.replaces_dead = command.replaces_dead && next.is_reassigning();
    next.rebalances = command.rebalances && next.is_reassigning();
    settle_as_is(current, next, rules)
}

/// The state before the reassignment. Refused where no replica in it has everything acknowledged,
/// even if unclean elections are allowed, and where it takes the partition below
/// `min.insync.replicas`.
fn cancel(current: &PartitionImage, rules: &Rules<'_>) -> Result<Option<PartitionImage>, Failure> {
    if !current.is_reassigning() {
        return Err(Failure::new(
            CommandError::NoReassignmentInProgress,
            "the partition is not being reassigned",
        ));
    }
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidAssignment, reason));
    let restored = reassignment::cancel(current);
    let candidates = |state: &PartitionImage| state.isr.len() + state.elr.len();
    if candidates(&restored) == 0 && candidates(current) > 0 {
        return refuse(String::from(
            "none of the original replicas has every acknowledged record; wait until one is in sync",
        ));
    }
    let required = rules.min_insync(&restored);
    if restored.isr.len() < required && current.isr.len() >= required {
        return refuse(format!(
            "only {} of the original replicas are in sync, min.insync.replicas is {required}; wait until they are",
            restored.isr.len()
        ));
    }
    Ok(settle_as_is(current, restored, rules))
}

fn settle_as_is(
    current: &PartitionImage,
    next: PartitionImage,
    rules: &Rules<'_>,
) -> Option<PartitionImage> {
    let settlement = Settlement {
        isr: next.isr.clone(),
        lost: None,
    };
    settle_from(current, next, settlement, rules)
}
