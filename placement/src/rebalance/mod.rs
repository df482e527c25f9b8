//! Plans which replicas move so that every broker carries its share, as after brokers were added.
//!
//! Nothing moves that need not. In this order, none at the expense of one before:
//!
//! 1. the replicas of a partition on as many racks as there are, as evenly as they have room;
//! 2. replicas even over all brokers: one goes from a broker to one with at least two fewer, of the
//!    topic of which the first has the most;
//! 3. bytes even over the brokers of a rack, within [`BYTES_TOLERANCE_PERCENT`]: two replicas change
//!    places;
//! 4. preferred leaders even over all brokers: replicas of a partition change their order.
//!
//! Invariants (property tests, by the independent [`lint`]): each move lowers the unevenness that it
//! is for; a plan leaves nothing to plan; no partition is on fewer racks than before.

mod bytes;
mod leaders;
mod lint;
mod placed;
mod reason;
mod replicas;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::BTreeMap;

use crate::{Broker, PlacementError};
use placed::Placed;

pub use lint::{Violation, lint};
pub use reason::{Reason, Stay};

/// What the fullest broker of a rack may have more than the emptiest, in percent of the average.
pub const BYTES_TOLERANCE_PERCENT: u64 = 20;

/// What it may have more in any case: less is not worth copies.
pub const BYTES_TOLERANCE_MIN: u64 = 1 << 30;

/// A partition as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Tells the topics apart.
    pub topic: usize,
    /// Broker ids, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Size of one replica; 0 where it is not known.
    pub bytes: u64,
    /// Stays as it is, but counts.
    pub pinned: bool,
}

/// Where the replicas of one partition go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Index into the partitions.
    pub partition: usize,
    /// All replicas from now on, the preferred leader first. What stays keeps its place.
    pub replicas: Vec<i32>,
    /// One or more.
    pub reasons: Vec<Reason>,
}

/// What to move, and what stays although it is more than others have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalancePlan {
    /// One for each partition at most.
    pub moves: Vec<Move>,
    /// By broker.
    pub stays: Vec<Stay>,
}

/// Moves after which every available broker has its share. What `brokers` carry is counted from
/// `partitions`; replicas on brokers that are not available stay.
///
/// # Errors
/// When a broker is listed twice.
pub fn plan_rebalance(
    brokers: &[Broker],
    partitions: &[Partition],
) -> Result<RebalancePlan, PlacementError> {
    let mut placed = Placed::new(brokers, partitions)?;
    zones::spread(&mut placed);
    let mut stays = replicas::even_out(&mut placed);
    // An exchange may bring a replica to a broker that may give it away.
    while bytes::even_out(&mut placed) {
        stays = replicas::even_out(&mut placed);
    }
    leaders::even_out(&mut placed);
    Ok(RebalancePlan {
        moves: placed.into_moves(),
        stays,
    })
}

/// How many more bytes than the emptiest the fullest of `brokers` may have that have `total`.
fn bytes_tolerance(total: u64, brokers: usize) -> u64 {
    let average = total / brokers.max(1) as u64;
    (average / 100 * BYTES_TOLERANCE_PERCENT).max(BYTES_TOLERANCE_MIN)
}

/// Indices of racks by name, in the order of the names.
fn racks<'a>(brokers: impl Iterator<Item = &'a Broker>) -> BTreeMap<Option<&'a str>, usize> {
    let mut racks: BTreeMap<_, _> = brokers.map(|broker| (broker.rack.as_deref(), 0)).collect();
    for (index, rack) in racks.values_mut().enumerate() {
        *rack = index;
    }
    racks
}
