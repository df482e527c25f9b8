//! ISR changes that a partition's leader asks for (KIP-497).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::command::{AlterPartition, AlterPartitions, BrokerRef};
use super::draft::Draft;
use super::election::Settlement;
use super::error::{CommandError, Failure};
use super::response::{AlterPartitionsResponse, PartitionAltered, Response};
use crate::metadata::{Partition, PartitionImage, Record, ReplicaHealth};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerId, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};

pub(super) fn alter(draft: &mut Draft, command: &AlterPartitions) -> Result<Response, Failure> {
    if draft.registered(command.leader)?.fenced {
        return Err(Failure::new(
            CommandError::StaleBrokerEpoch,
            format!("broker {} is fenced", command.leader.broker_id),
        ));
    }
    let leader = BrokerId(command.leader.broker_id);
    let partitions = command.partitions.iter().map(|change| {
        let outcome = alter_one(draft, leader, change);
        let (state, failure) = match outcome {
            Ok(state) => (Some(state), None),
            Err(failure) => (None, Some(failure)),
        };
        PartitionAltered {
            topic_id: change.topic_id,
            partition: change.partition,
            failure,
            state,
        }
    });
    let partitions = partitions.collect();
    Ok(Response::AlterPartitions(AlterPartitionsResponse {
        partitions,
    }))
}

/// The state that follows. Its leader is another one when the sender is draining and the new ISR
/// has somebody to take over.
fn alter_one(
    draft: &mut Draft,
    leader: BrokerId,
    change: &AlterPartition,
) -> Result<Partition, Failure> {
    let topic = TopicId::from(change.topic_id);
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(change.partition),
    };
    let current = current(draft, id)?;
    check_epochs(current, leader, change)?;
    let isr: Vec<BrokerId> = change
        .new_isr
        .iter()
        .map(|member| BrokerId(member.broker_id))
        .collect();
    check_isr(current, leader, &isr)?;
    if is_same(current, &isr) {
        return Ok(close_epoch(draft, id, current.clone()));
    }
    check_online(current, &isr)?;
    for member in &change.new_isr {
        check_member(draft, leader, *member)?;
    }
    draft.settle(id, Settlement { isr, lost: None });
    Ok(self::current(draft, id)?.to_record(id))
}

fn is_same(current: &PartitionImage, isr: &[BrokerId]) -> bool {
    isr.len() == current.isr.len() && isr.iter().all(|id| current.isr.contains(id))
}

/// The leader wants to be sure that no earlier proposal of its own is accepted any more.
fn close_epoch(draft: &mut Draft, id: TopicPartition, mut state: PartitionImage) -> Partition {
    state.partition_epoch = PartitionEpoch(state.partition_epoch.0 + 1);
    let record = state.to_record(id);
    draft.push(Record::Partition(record.clone()));
    record
}

fn current(draft: &Draft, id: TopicPartition) -> Result<&PartitionImage, Failure> {
    let topic = draft.image().topics.get(&id.topic).ok_or_else(|| {
        Failure::new(
            CommandError::UnknownTopicId,
            format!("no topic has the id {}", id.topic),
        )
    })?;
    topic
        .partition(id.partition)
        .map(|partition| &**partition)
        .ok_or_else(|| {
            Failure::new(
                CommandError::UnknownPartition,
                format!("partition {id} does not exist"),
            )
        })
}

fn check_epochs(
    current: &PartitionImage,
    leader: BrokerId,
    change: &AlterPartition,
) -> Result<(), Failure> {
    let leader_epoch = current.leader_epoch.0;
    let partition_epoch = current.partition_epoch.0;
    if change.leader_epoch > leader_epoch || change.partition_epoch > partition_epoch {
        return Err(Failure::new(
            CommandError::NotController,
            "the sender knows a newer state than this controller",
        ));
    }
    if change.leader_epoch < leader_epoch || current.leader != Some(leader) {
        return Err(Failure::new(
            CommandError::FencedLeaderEpoch,
            format!("broker {leader} does not lead in leader epoch {leader_epoch}"),
        ));
    }
    if change.partition_epoch < partition_epoch && !mutated(Mutation::AcceptStalePartitionEpoch) {
        return Err(Failure::new(
            CommandError::InvalidPartitionEpoch,
            format!(
                "the partition epoch is {partition_epoch}, not {}",
                change.partition_epoch
            ),
        ));
    }
    Ok(())
}

fn check_isr(current: &PartitionImage, leader: BrokerId, isr: &[BrokerId]) -> Result<(), Failure> {
    let distinct = isr.iter().collect::<BTreeSet<_>>().len() == isr.len();
    if distinct && isr.contains(&leader) && isr.iter().all(|id| current.has_replica(*id)) {
        return Ok(());
    }
    Err(Failure::new(
        CommandError::InvalidRequest,
        format!(
            "{isr:?} is no ISR of the replicas {:?} under leader {leader}",
            current.replicas
        ),
    ))
}

fn check_online(current: &PartitionImage, isr: &[BrokerId]) -> Result<(), Failure> {
    let offline = isr
        .iter()
        .find(|id| current.health(**id) == ReplicaHealth::Offline);
    offline.map_or(Ok(()), |id| {
        Err(Failure::new(
            CommandError::IneligibleReplica,
            format!("the log of broker {id} is offline"),
        ))
    })
}

/// A draining leader stays in the ISR until somebody can take over.
fn check_member(draft: &Draft, leader: BrokerId, member: BrokerRef) -> Result<(), Failure> {
    let id = BrokerId(member.broker_id);
    let member = match draft.image().brokers.get(&id) {
        Some(broker) if mutated(Mutation::AcceptRestartedMember) => BrokerRef {
            broker_epoch: broker.epoch.0,
            ..member
        },
        _ => member,
    };
    let eligible = draft
        .registered(member)
        .is_ok_and(|broker| broker.is_active() || (broker.id == leader && !broker.fenced));
    if eligible {
        return Ok(());
    }
    Err(Failure::new(
        CommandError::IneligibleReplica,
        format!("broker {id} is fenced, shutting down or registered anew"),
    ))
}
