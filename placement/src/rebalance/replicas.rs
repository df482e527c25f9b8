//! As many replicas on every broker, as far as racks allow.
//!
//! The broker with the most gives to one with the fewest that may take something of it. The sum of
//! the squares falls with each move, so that this ends; no more moves than that need.

use std::collections::BTreeSet;

use super::placed::Placed;
use super::{Reason, Stay};

/// Partitions that are compared for one move.
const CANDIDATES_MAX: usize = 64;

/// Moves replicas until none can; returns the brokers that keep more than others.
pub(super) fn even_out(placed: &mut Placed<'_>) -> Vec<Stay> {
    let mut order = Order::new(placed);
    loop {
        let mut stuck = Vec::new();
        let mut has_moved = false;
        while let Some(from) = order.most_loaded() {
            if let Some((partition, to)) = order.find_move(placed, from) {
                order.moves(placed, from, to);
                let reason = Reason::Replicas {
                    from: placed.id(from),
                    to: placed.id(to),
                    replicas: (placed.load[from], placed.load[to]),
                };
                placed.relocate(partition, from, to, reason);
                has_moved = true;
            } else {
                order.set_aside(placed, from);
                stuck.push(from);
            }
        }
        if !has_moved {
            return stays(placed, &stuck);
        }
        // What has moved may have made room for those that could not.
        order = Order::new(placed);
    }
}

/// Brokers by how many replicas they have.
struct Order {
    /// Of each rack, ascending.
    takers: Vec<BTreeSet<(usize, usize)>>,
    /// Those that may still give something.
    givers: BTreeSet<(usize, usize)>,
    /// Where the search for a partition of the broker goes on.
    cursors: Vec<usize>,
    /// Racks to which the broker has nothing to give.
    closed_racks: BTreeSet<(usize, usize)>,
    /// Brokers to which it has nothing to give.
    closed: BTreeSet<(usize, usize)>,
}

impl Order {
    fn new(placed: &mut Placed<'_>) -> Self {
        let brokers: Vec<usize> = placed.brokers().collect();
        for broker in &brokers {
            placed.tidy(*broker);
        }
        let entry = |broker: &usize| (placed.load[*broker], *broker);
        let racks = placed.racks.iter();
        Self {
            takers: racks.map(|rack| rack.iter().map(entry).collect()).collect(),
            givers: brokers.iter().map(entry).collect(),
            cursors: vec![0; placed.load.len()],
            closed_racks: BTreeSet::new(),
            closed: BTreeSet::new(),
        }
    }

    fn most_loaded(&self) -> Option<usize> {
        self.givers.last().map(|(_, broker)| *broker)
    }

    /// A partition that may leave `from`, and the broker that takes it: one with at least two fewer,
    /// of the rack with the emptiest.
    fn find_move(&mut self, placed: &Placed<'_>, from: usize) -> Option<(usize, usize)> {
        let limit = placed.load[from];
        let least = |rack: usize| self.takers[rack].first().map(|(load, _)| *load);
        let has_taker = |rack: &usize| least(*rack).is_some_and(|load| load + 2 <= limit);
        let mut racks: Vec<usize> = (0..self.takers.len()).filter(has_taker).collect();
        racks.sort_by_key(|rack| least(*rack));
        racks.into_iter().find_map(|rack| {
            if self.is_closed(placed, from, rack) {
                return None;
            }
            let mut takers = self.takers[rack].iter();
            takers.find_map(|(load, to)| {
                if load + 2 > limit || self.closed.contains(&(from, *to)) {
                    return None;
                }
                let partition = best(placed, self.cursors[from], from, *to);
                if partition.is_none() {
                    self.closed.insert((from, *to));
                }
                Some((partition?, *to))
            })
        })
    }

    /// Whether no partition may leave the broker for that rack.
    fn is_closed(&mut self, placed: &Placed<'_>, from: usize, rack: usize) -> bool {
        if self.closed_racks.contains(&(from, rack)) {
            return true;
        }
        let Some((_, any)) = self.takers[rack].first() else {
            return true;
        };
        let mut hosted = placed.hosted(from).iter();
        let is_open = hosted.any(|partition| placed.keeps_racks(*partition, from, *any));
        if !is_open {
            self.closed_racks.insert((from, rack));
        }
        !is_open
    }

    fn set_aside(&mut self, placed: &Placed<'_>, broker: usize) {
        self.givers.remove(&(placed.load[broker], broker));
    }

    /// Before a replica goes.
    fn moves(&mut self, placed: &Placed<'_>, from: usize, to: usize) {
        let (load_from, load_to) = (placed.load[from], placed.load[to]);
        for (broker, old, new) in [(from, load_from, load_from - 1), (to, load_to, load_to + 1)] {
            let rack = &mut self.takers[placed.rack_of[broker]];
            rack.remove(&(old, broker));
            rack.insert((new, broker));
            if self.givers.remove(&(old, broker)) {
                self.givers.insert((new, broker));
            }
        }
        self.cursors[from] += 1;
    }
}

/// Of the next partitions that may go from one broker to the other the one of whose topic the first
/// has the most over the second; of these the one whose size brings the second closest to the average.
fn best(placed: &Placed<'_>, cursor: usize, from: usize, to: usize) -> Option<usize> {
    let hosted = placed.hosted(from);
    let (before, after) = hosted.split_at(cursor % hosted.len().max(1));
    let turn = after.iter().chain(before).copied();
    let candidates = turn.filter(|partition| placed.may_move(*partition, from, to));
    let wanted = wanted_bytes(placed, from, to);
    candidates.take(CANDIDATES_MAX).min_by_key(|partition| {
        let surplus = placed.topic_surplus(*partition, from, to);
        let size = placed.size(*partition);
        (std::cmp::Reverse(surplus), size.abs_diff(wanted))
    })
}

/// Size of a replica that leaves both brokers with replicas of the same average size.
fn wanted_bytes(placed: &Placed<'_>, from: usize, to: usize) -> u64 {
    let missing = (placed.load[from] - placed.load[to]) as u64 / 2;
    let surplus = placed.bytes[from].saturating_sub(placed.bytes[to]) / 2;
    surplus / missing.max(1)
}

fn stays(placed: &Placed<'_>, stuck: &[usize]) -> Vec<Stay> {
    let Some(fewest) = placed.brokers().min_by_key(|broker| placed.load[*broker]) else {
        return Vec::new();
    };
    let has_more = |broker: &&usize| placed.load[**broker] >= placed.load[fewest] + 2;
    let stay = |broker: &usize| {
        let mut stay = Stay {
            broker: placed.id(*broker),
            replicas: placed.load[*broker],
            fewest: (placed.id(fewest), placed.load[fewest]),
            pinned: 0,
            shared: 0,
            racks: 0,
        };
        let hosted = placed.hosted(*broker).iter().copied();
        for partition in hosted.filter(|partition| placed.has(*broker, *partition)) {
            if placed.is_pinned(partition) {
                stay.pinned += 1;
            } else if placed.has(fewest, partition) {
                stay.shared += 1;
            } else {
                stay.racks += 1;
            }
        }
        stay
    };
    let mut stays: Vec<Stay> = stuck.iter().filter(has_more).map(stay).collect();
    stays.sort_by_key(|stay| stay.broker);
    stays
}
