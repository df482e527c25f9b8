//! What a broker must do when one image follows another.
//!
//! Topics and partitions that the images share are skipped by pointer, so that the cost of a step
//! is in the number of topics plus what changed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::image::{Image, TopicImage};
use super::partition::PartitionImage;
use crate::{BrokerId, TopicId, TopicPartition};

/// One change for the replicas that a broker hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaChange {
    /// The broker hosts a replica from now on.
    Added {
        partition: TopicPartition,
        state: Arc<PartitionImage>,
    },
    /// The state of a hosted partition is another one.
    Changed {
        partition: TopicPartition,
        old: Arc<PartitionImage>,
        new: Arc<PartitionImage>,
    },
    /// The broker hosts the replica no more, and its log goes away.
    Removed { partition: TopicPartition },
    /// The configuration of a topic with replicas here is another one.
    TopicConfig { topic: TopicId },
}

/// The changes from `old` to `new` for the replicas on broker `me`, by topic id and partition.
#[must_use]
pub fn changes(old: &Image, new: &Image, me: BrokerId) -> Vec<ReplicaChange> {
    let mut changes = Vec::new();
    for (id, before) in &old.topics {
        if !new.topics.contains_key(id) {
            compare(&mut changes, Some(before), None, me);
        }
    }
    for (id, after) in &new.topics {
        let before = old.topics.get(id);
        if before.is_none_or(|before| !Arc::ptr_eq(before, after)) {
            compare(&mut changes, before, Some(after), me);
        }
    }
    changes
}

fn compare(
    changes: &mut Vec<ReplicaChange>,
    before: Option<&Arc<TopicImage>>,
    after: Option<&Arc<TopicImage>>,
    me: BrokerId,
) {
    let Some(topic) = after.or(before) else {
        return;
    };
    let old = before.map_or(&[][..], |topic| &topic.partitions);
    let new = after.map_or(&[][..], |topic| &topic.partitions);
    for index in 0..old.len().max(new.len()) {
        let partition = topic.partition_id(index);
        changes.extend(compare_partition(
            partition,
            old.get(index),
            new.get(index),
            me,
        ));
    }
    if let (Some(before), Some(after)) = (before, after)
        && before.config != after.config
        && new.iter().any(|partition| partition.has_replica(me))
    {
        changes.push(ReplicaChange::TopicConfig { topic: topic.id });
    }
}

fn compare_partition(
    partition: TopicPartition,
    old: Option<&Arc<PartitionImage>>,
    new: Option<&Arc<PartitionImage>>,
    me: BrokerId,
) -> Option<ReplicaChange> {
    let old = old.filter(|state| state.has_replica(me));
    let new = new.filter(|state| state.has_replica(me));
    match (old, new) {
        (None, None) => None,
        (None, Some(state)) => Some(ReplicaChange::Added {
            partition,
            state: Arc::clone(state),
        }),
        (Some(_), None) => Some(ReplicaChange::Removed { partition }),
        (Some(old), Some(new)) if Arc::ptr_eq(old, new) || old == new => None,
        (Some(old), Some(new)) => Some(ReplicaChange::Changed {
            partition,
            old: Arc::clone(old),
            new: Arc::clone(new),
        }),
    }
}
