//! Partitions with two replicas or more in a rack than in another one that has room.

use super::Reason;
use super::placed::Placed;

/// Moves replicas to other racks until none is so.
pub(super) fn spread(placed: &mut Placed<'_>) {
    for partition in placed.movable() {
        while let Some((from, to)) = next(placed, partition) {
            let reason = Reason::Racks {
                from: placed.id(from),
                to: placed.id(to),
            };
            placed.relocate(partition, from, to, reason);
        }
    }
}

/// The fullest rack gives to the emptiest one, there the broker with the most to that with the fewest.
fn next(placed: &Placed<'_>, partition: usize) -> Option<(usize, usize)> {
    let replicas = placed.replicas(partition).iter().copied();
    let crowd = |broker: usize| placed.in_rack(partition, placed.rack_of[broker]);
    let from = replicas
        .filter(|broker| placed.is_available(*broker))
        .max_by_key(|broker| (crowd(*broker), placed.load[*broker]))?;
    if crowd(from) < 2 {
        return None;
    }
    let emptier = (0..placed.racks.len())
        .map(|rack| (placed.in_rack(partition, rack), rack))
        .filter(|(count, _)| count + 2 <= crowd(from));
    let takers = emptier.filter_map(|(count, rack)| {
        let free = placed.racks[rack].iter().copied();
        let taker = free
            .filter(|broker| !placed.has(*broker, partition))
            .min_by_key(|broker| placed.load[*broker])?;
        Some((count, placed.load[taker], taker))
    });
    takers.min().map(|(_, _, to)| (from, to))
}
