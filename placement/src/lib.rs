//! Plans on which brokers the replicas of a topic's partitions go.
//!
//! A pure function of its arguments, used by the operator for Topic resources and by the
//! controller for topics made over the Kafka protocol. The plan keeps, in this order:
//!
//! * no two replicas of a partition on one broker;
//! * the replicas of a partition on as many racks as there are, as evenly as they have room;
//! * the topic's replicas even over racks by their size, and over the brokers of a rack;
//! * the topic's leaders as even as the replicas allow;
//! * among equals, the broker that carries less of other topics;
//! * among equals still, other companions than for the partitions before, so that a dead broker's
//!   leaders move to many brokers.
//!
//! What exists moves only when asked for: [`plan_moved_replica`] finds a place for one replica,
//! [`rebalance`] gives every broker its share.

mod leaders;
mod moves;
pub mod rebalance;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use moves::plan_moved_replica;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    /// Brokers without a rack count as one rack together.
    pub rack: Option<String>,
    /// Replicas that it has, of all topics.
    pub replicas: u32,
    /// Partitions that it is the preferred leader of, of all topics.
    pub leaders: u32,
    /// Whether it may get new replicas.
    pub available: bool,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A partition needs a replica.
    #[error("the replication factor is 0; a partition needs 1 replica or more")]
    NoReplicas,
    /// Replicas of a partition are on distinct brokers.
    #[error(
        "the replication factor is {replication_factor}, with {available} brokers available for new replicas"
    )]
    NotEnoughBrokers {
        replication_factor: usize,
        available: usize,
    },
    /// The caller named a broker twice.
    #[error("broker {0} is listed twice")]
    DuplicateBroker(i32),
}

/// Replicas for each partition of a new topic, the preferred leader first.
///
/// # Errors
/// When there are fewer available brokers than replicas of a partition.
pub fn plan_topic(
    brokers: &[Broker],
    partitions: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<i32>>, PlacementError> {
    plan_added_partitions(brokers, &[], partitions, replication_factor)
}

/// Replicas for each of `added` partitions of a topic whose partitions so far are on `existing`.
///
/// # Errors
/// When there are fewer available brokers than replicas of a partition.
pub fn plan_added_partitions(
    brokers: &[Broker],
    existing: &[Vec<i32>],
    added: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<i32>>, PlacementError> {
    let mut available: Vec<&Broker> = brokers.iter().filter(|broker| broker.available).collect();
    available.sort_by_key(|broker| broker.id);
    if let Some(pair) = available.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(PlacementError::DuplicateBroker(pair[0].id));
    }
    if replication_factor == 0 {
        return Err(PlacementError::NoReplicas);
    }
    if available.len() < replication_factor {
        let available = available.len();
        return Err(PlacementError::NotEnoughBrokers {
            replication_factor,
            available,
        });
    }

    let index: BTreeMap<i32, usize> = available
        .iter()
        .enumerate()
        .map(|(index, broker)| (broker.id, index))
        .collect();
    let existing: Vec<Vec<Option<usize>>> = existing
        .iter()
        .map(|replicas| replicas.iter().map(|id| index.get(id).copied()).collect())
        .collect();
    let mut placed = replicas::choose(&available, &existing, added, replication_factor);
    leaders::choose(&available, &existing, &mut placed);
    let ids = |replicas: Vec<usize>| replicas.into_iter().map(|i| available[i].id).collect();
    Ok(placed.into_iter().map(ids).collect())
}
