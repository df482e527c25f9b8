//! One replica that moves: which broker takes it over.

use std::collections::BTreeMap;

use crate::{Broker, PlacementError};

/// A broker for one more replica of a partition that has `kept` already, in a topic whose
/// partitions are on `topic`. It is on the rack with the fewest replicas of the partition; there it
/// is the broker with the fewest replicas of the topic, then of all topics.
///
/// # Errors
/// When every available broker has a replica of the partition.
pub fn plan_moved_replica(
    brokers: &[Broker],
    topic: &[Vec<i32>],
    kept: &[i32],
) -> Result<i32, PlacementError> {
    let mut of_topic: BTreeMap<i32, usize> = BTreeMap::new();
    for id in topic.iter().flatten() {
        *of_topic.entry(*id).or_default() += 1;
    }
    let in_rack_of = |candidate: &Broker| {
        let mates = brokers
            .iter()
            .filter(|broker| broker.rack == candidate.rack);
        mates.filter(|broker| kept.contains(&broker.id)).count()
    };
    let available = brokers.iter().filter(|broker| broker.available);
    let candidates = available
        .clone()
        .filter(|broker| !kept.contains(&broker.id));
    candidates
        .min_by_key(|broker| {
            let of_topic = of_topic.get(&broker.id).copied().unwrap_or(0);
            (in_rack_of(broker), of_topic, broker.replicas, broker.id)
        })
        .map(|broker| broker.id)
        .ok_or_else(|| PlacementError::NotEnoughBrokers {
            replication_factor: kept.len() + 1,
            available: available.count(),
        })
}
