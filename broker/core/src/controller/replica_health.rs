//! What brokers say of the disks below their replicas (KIP-112).

use alloc::format;

use super::command::{AlterReplicaHealth, ReplicaHealthChange};
use super::draft::Draft;
use super::election::alter_health;
use super::error::{CommandError, Failure};
use super::response::{Accepted, Response};
use crate::metadata::{Record, ReplicaHealth};
use crate::{BrokerId, PartitionIndex, TopicPartition};

/// Replicas that one command changes.
pub const REPLICAS_PER_COMMAND_MAX: usize = 1_000;

/// A broker that is fenced reports, too: what it has lost must be known before it is unfenced.
pub(super) fn alter(draft: &mut Draft, command: &AlterReplicaHealth) -> Result<Response, Failure> {
    let broker = draft.registered(command.broker)?.id;
    let count = command.replicas.len();
    if count > REPLICAS_PER_COMMAND_MAX {
        return Err(Failure::new(
            CommandError::LimitExceeded,
            format!(
                "{count} replicas are too many for one command: send {REPLICAS_PER_COMMAND_MAX} at most"
            ),
        ));
    }
    for change in &command.replicas {
        alter_one(draft, broker, *change)?;
    }
    Ok(Response::Accepted(Accepted {}))
}

fn alter_one(
    draft: &mut Draft,
    broker: BrokerId,
    change: ReplicaHealthChange,
) -> Result<(), Failure> {
    let health = ReplicaHealth::try_from(change.health).map_err(|_| {
        Failure::new(
            CommandError::InvalidRequest,
            format!("{} is no health of a replica", change.health),
        )
    })?;
    let id = TopicPartition {
        topic: change.partition.topic_id.into(),
        partition: PartitionIndex(change.partition.partition),
    };
    let topic = draft.image().topics.get(&id.topic);
    let next = topic.and_then(|topic| {
        let current = topic.partition(id.partition)?;
        alter_health(current, broker, health, &draft.rules(topic))
    });
    if let Some(next) = next {
        draft.push(Record::Partition(next.to_record(id)));
    }
    Ok(())
}
