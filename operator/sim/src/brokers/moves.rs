//! Replicas on their way from broker to broker: off those that are drained, and to those with few.

use super::{Brokers, Partition, Registration};
use crate::trace::Seconds;

/// Replicas that leave brokers at a time.
const MOVES_MAX: usize = 4;

/// A replica on its way to another broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    from: i32,
    to: i32,
    done_at: Seconds,
    pub(crate) rebalances: bool,
}

impl Brokers {
    /// Brokers that take replicas, those with the fewest first.
    fn takers(&self) -> Vec<i32> {
        let takes = |broker: &Registration| !broker.cordoned && !broker.drain;
        let takers = self.registered.iter().filter(|(_, broker)| takes(broker));
        let mut takers: Vec<i32> = takers.map(|(id, _)| *id).collect();
        takers.sort_by_key(|id| (self.replicas(*id), *id));
        takers
    }

    fn begin_move(&mut self, index: usize, from: i32, to: i32, rebalances: bool) {
        let done_at = self.now + self.copying(3, 12);
        self.partitions[index].moving = Some(Move {
            from,
            to,
            done_at,
            rebalances,
        });
    }

    pub(super) fn finish_moves(&mut self) {
        for index in 0..self.partitions.len() {
            let Some(moving) = self.partitions[index].moving else {
                continue;
            };
            let wanted = if moving.rebalances {
                self.rebalancing
            } else {
                self.registered
                    .get(&moving.from)
                    .is_some_and(|from| from.drain)
            };
            let possible = self.is_active(moving.to) && self.partitions[index].leader.is_some();
            if !wanted {
                self.partitions[index].moving = None;
                self.version += 1;
            } else if moving.done_at <= self.now && possible {
                let partition = &mut self.partitions[index];
                let replicas = partition.replicas.iter_mut();
                replicas
                    .filter(|id| **id == moving.from)
                    .for_each(|id| *id = moving.to);
                partition.isr.retain(|id| *id != moving.from);
                partition.isr.push(moving.to);
                partition.moving = None;
                if let Some(from) = self.registered.get_mut(&moving.from) {
                    from.last_progress_at = self.now;
                }
                self.rebalanced_at = self.now;
                self.version += 1;
                self.lead();
            }
        }
    }

    pub(super) fn drain(&mut self) {
        let leaving = self.registered.iter().filter(|(_, broker)| broker.drain);
        let leaving: Vec<i32> = leaving.map(|(id, _)| *id).collect();
        if leaving.is_empty() {
            return;
        }
        for index in 0..self.partitions.len() {
            let moving = self.partitions.iter().filter(|p| p.moving.is_some());
            if moving.count() >= MOVES_MAX {
                return;
            }
            if let Some((from, Some(to))) = self.next_drained(index, &leaving) {
                self.begin_move(index, from, to, false);
            }
        }
    }

    /// A replica that shall leave, and who can take it.
    fn next_drained(&self, index: usize, leaving: &[i32]) -> Option<(i32, Option<i32>)> {
        let partition = &self.partitions[index];
        if partition.moving.is_some() {
            return None;
        }
        let mut from = partition.replicas.iter();
        let from = from.find(|id| leaving.contains(id))?;
        let mut takers = self.takers().into_iter();
        let to = takers.find(|id| self.is_active(*id) && !partition.replicas.contains(id));
        Some((*from, to))
    }

    /// What keeps the broker's replicas from moving.
    pub(crate) fn blocked(&self, id: i32) -> Option<String> {
        let stuck = |index: &usize| matches!(self.next_drained(*index, &[id]), Some((_, None)));
        let index = (0..self.partitions.len()).find(stuck)?;
        Some(format!("topic-{index}: no broker can take it"))
    }

    /// Replicas that have to move for every broker to have its share.
    pub(crate) fn uneven(&self) -> usize {
        let loads: Vec<usize> = self.takers().iter().map(|id| self.replicas(*id)).collect();
        let (total, count) = (loads.iter().sum::<usize>(), loads.len().max(1));
        let (share, rest) = (total / count, total % count);
        let highest_first = loads.iter().rev().enumerate();
        highest_first
            .map(|(place, load)| load.saturating_sub(share + usize::from(place < rest)))
            .sum()
    }

    pub(crate) fn rebalance_pause(&self) -> Option<String> {
        let takers = self.takers();
        let missing = takers.iter().find(|id| !self.is_wanted_as_leader(**id))?;
        Some(format!("broker {missing} is missing"))
    }

    pub(super) fn rebalance(&mut self) {
        let moving = self
            .partitions
            .iter()
            .any(|partition| partition.moving.is_some());
        if !self.rebalancing || moving || self.rebalance_pause().is_some() {
            return;
        }
        let takers = self.takers();
        let ends = takers.first().zip(takers.last());
        let Some((to, from)) = ends.filter(|_| self.uneven() > 0) else {
            self.rebalancing = false;
            self.version += 1;
            return;
        };
        let fits = |partition: &Partition| {
            partition.replicas.contains(from) && !partition.replicas.contains(to)
        };
        if let Some(index) = self.partitions.iter().position(fits) {
            self.begin_move(index, *from, *to, true);
        }
    }

    /// When a replica left the broker last, or any broker by the rebalance.
    pub(crate) fn last_progress_at(&self, of: Option<i32>) -> Seconds {
        let broker = of.and_then(|id| self.registered.get(&id));
        broker.map_or(self.rebalanced_at, |broker| broker.last_progress_at)
    }
}
