//! Re-creating the replicas of dead brokers elsewhere, a bounded number of partitions at a time.
//!
//! A replacement is a reassignment with a mark, so that a new controller goes on where the last one
//! stopped. Until it is complete the partition has both the replica on the dead broker and the new
//! one, and the one that is in sync first stays.
//!
//! Invariants (property test): a replacement changes nothing but the places of dead brokers, goes
//! only to brokers that take replicas, keeps every replication factor, and ends.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::command::{AlterReassignments, Command, Reassignment, TargetReplicas};
use super::context::PlacementBroker;
use super::evacuation::{MoveRequest, reassignment};
use super::partitions::placement_brokers;
use crate::metadata::{BrokerImage, Image, PartitionImage, TopicImage};
use crate::{BrokerEpoch, BrokerId, Duration, Time};

/// Partitions whose replicas on dead brokers are copied to others at a time.
pub const REPLACEMENTS_MAX: usize = 20;

/// Since when brokers have been fenced, as far as this controller saw it.
///
/// The time of a broker begins anew with its registration, so that one that restarts is not taken
/// for dead while it recovers its logs, and with every new controller.
#[derive(Clone, Debug, Default)]
pub struct Absences {
    since: BTreeMap<BrokerId, (BrokerEpoch, Time)>,
}

impl Absences {
    /// Takes new fencings and registrations in; returns the brokers that have been fenced for
    /// `limit` or longer.
    pub fn tick(&mut self, now: Time, image: &Image, limit: Duration) -> BTreeSet<BrokerId> {
        let known = core::mem::take(&mut self.since);
        for broker in image.brokers.values().filter(|broker| broker.fenced) {
            let since = match known.get(&broker.id) {
                Some((epoch, since)) if *epoch == broker.epoch => *since,
                _ => now,
            };
            self.since.insert(broker.id, (broker.epoch, since));
        }
        let absent = self.since.iter();
        absent
            .filter(|(_, (_, since))| now.since(*since) >= limit)
            .map(|(id, _)| *id)
            .collect()
    }
}

/// Plans what to do next for replicas on brokers that are `dead`; `choose` finds a broker for a
/// replica, or says in words why it cannot. Call again as replacements complete.
///
/// Nothing new begins while a restart is announced or a broker stops in order, nor for a broker that
/// is cordoned or evacuated.
pub fn plan_replacements(
    image: &Image,
    dead: &BTreeSet<BrokerId>,
    choose: impl Fn(&MoveRequest<'_>) -> Result<BrokerId, String>,
) -> Option<Command> {
    let is_given_up = |id: &BrokerId| {
        let broker = image.brokers.get(id);
        broker.is_some_and(|broker| broker.fenced && broker.takes_replicas())
    };
    let dead: BTreeSet<BrokerId> = dead.iter().copied().filter(is_given_up).collect();
    let marked = || image.partitions().filter(|(_, state)| state.replaces_dead);
    if dead.is_empty() && marked().next().is_none() {
        return None;
    }
    // One whose new replicas have caught up may wait for another broker, and holds up nobody.
    let copying =
        marked().filter(|(_, state)| state.adding.iter().any(|id| !state.isr.contains(id)));
    let mut planner = Planner {
        image,
        dead,
        choose,
        brokers: placement_brokers(image),
        is_paused: image.brokers.values().any(is_stopping_in_order),
        room: REPLACEMENTS_MAX.saturating_sub(copying.count()),
        moves: Vec::new(),
    };
    for topic in image.topics.values() {
        planner.visit_topic(topic);
    }
    (!planner.moves.is_empty()).then_some(Command::AlterReassignments(AlterReassignments {
        partitions: planner.moves,
        keep_replication_factor: true,
        replaces_dead: true,
        rebalances: false,
    }))
}

pub(super) fn is_stopping_in_order(broker: &BrokerImage) -> bool {
    broker.restart_lease.is_some() || (broker.draining && !broker.fenced)
}

struct Planner<'a, F> {
    image: &'a Image,
    dead: BTreeSet<BrokerId>,
    choose: F,
    brokers: Vec<PlacementBroker>,
    is_paused: bool,
    /// Replacements that may begin.
    room: usize,
    moves: Vec<Reassignment>,
}

impl<F: Fn(&MoveRequest<'_>) -> Result<BrokerId, String>> Planner<'_, F> {
    fn visit_topic(&mut self, topic: &TopicImage) {
        let mut partitions = topic.partitions.iter();
        if !partitions.any(|state| self.concerns(state)) {
            return;
        }
        let partitions = topic.partitions.iter();
        let mut existing: Vec<Vec<BrokerId>> =
            partitions.map(|state| state.target().collect()).collect();
        for (index, (id, state)) in topic.iter().enumerate() {
            if !self.concerns(state) {
                continue;
            }
            let target = self.target(state, &existing);
            if target == existing[index] {
                continue;
            }
            self.room -= usize::from(!state.is_reassigning());
            for broker in &mut self.brokers {
                let is_new = target.contains(&broker.id) && !state.has_replica(broker.id);
                broker.replicas += u32::from(is_new);
            }
            let replicas = target.iter().map(|id| id.0).collect();
            let wanted = (target != original(state)).then_some(TargetReplicas { replicas });
            self.moves.push(reassignment(id, wanted));
            existing[index] = target;
        }
    }

    /// Whether the partition is being replaced, or can be: it needs a leader to be copied from.
    fn concerns(&self, state: &PartitionImage) -> bool {
        let has_dead = || state.replicas.iter().any(|id| self.dead.contains(id));
        state.replaces_dead || (!state.is_reassigning() && state.leader.is_some() && has_dead())
    }

    /// Where the partition's replicas shall be, in the order of the original ones. A place for which
    /// there is no better broker stays as it is.
    fn target(&self, state: &PartitionImage, existing: &[Vec<BrokerId>]) -> Vec<BrokerId> {
        let mut target: Vec<BrokerId> = state.target().collect();
        let may_choose = !self.is_paused && (state.is_reassigning() || self.room > 0);
        for (position, former) in original(state).iter().enumerate() {
            match self.stays(state, *former, target[position]) {
                Some(broker) => target[position] = broker,
                None if may_choose && self.has_candidate(&target) => {
                    let mut kept = target.clone();
                    kept.remove(position);
                    let request = MoveRequest {
                        brokers: &self.brokers,
                        existing,
                        kept: &kept,
                    };
                    target[position] = (self.choose)(&request).unwrap_or(target[position]);
                }
                None => {}
            }
        }
        target
    }

    fn has_candidate(&self, target: &[BrokerId]) -> bool {
        let mut brokers = self.brokers.iter();
        brokers.any(|broker| broker.available && !target.contains(&broker.id))
    }

    /// Which of a place's two brokers, the former and the present one, keeps it; `None` when another
    /// one is wanted.
    fn stays(
        &self,
        state: &PartitionImage,
        former: BrokerId,
        present: BrokerId,
    ) -> Option<BrokerId> {
        if former != present && state.isr.contains(&present) {
            return Some(present);
        }
        if former != present && state.isr.contains(&former) {
            return Some(former);
        }
        let is_dead =
            |id: &BrokerId| self.dead.contains(id) || !self.image.brokers.contains_key(id);
        [present, former].into_iter().find(|id| !is_dead(id))
    }
}

fn original(state: &PartitionImage) -> &[BrokerId] {
    if state.is_reassigning() {
        &state.original
    } else {
        &state.replicas
    }
}
