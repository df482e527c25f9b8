//! Emptying a broker: its replicas are reassigned to others, a bounded number of partitions at a
//! time. The operator calls it a drain.
//!
//! That a broker is evacuated is metadata, and what is left to do follows from the partitions, so a
//! new controller goes on where the last one stopped.
//!
//! Invariants (property test): an evacuation moves replicas only off evacuated brokers, only to
//! brokers that take replicas, keeps every replication factor, and ends when it is not blocked.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::alter_reassignments;
use super::brokers::known;
use super::command::{AlterReassignments, Command, PartitionRef, Reassignment, TargetReplicas};
use super::context::PlacementBroker;
use super::draft::Draft;
use super::error::Failure;
use super::partitions::placement_brokers;
use super::response::{Accepted, Response};
use crate::metadata::{Evacuation, Image, PartitionImage, Record, TopicImage};
use crate::{BrokerId, TopicPartition};

/// Partitions of all evacuated brokers that are moved at a time.
pub const EVACUATION_MOVES_MAX: usize = 20;

/// Moves of a broker that cannot go on and are told; the others are counted.
pub const EVACUATION_BLOCKED_MAX: usize = 20;

/// A replica that needs another broker.
#[derive(Clone, Copy, Debug)]
pub struct MoveRequest<'a> {
    /// All registered brokers, with what they carry and will carry by the moves planned so far.
    pub brokers: &'a [PlacementBroker],
    /// Replicas of the topic's partitions, once the moves planned so far are complete.
    pub existing: &'a [Vec<BrokerId>],
    /// The partition's other replicas.
    pub kept: &'a [BrokerId],
}

/// A partition that cannot leave its broker, and why, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedMove {
    pub partition: TopicPartition,
    pub reason: String,
}

/// How far the evacuation of a broker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvacuationProgress {
    /// Replicas that the broker still has.
    pub replicas_left: usize,
    /// Of these, the ones that are being copied to another broker.
    pub moving: usize,
    /// The first [`EVACUATION_BLOCKED_MAX`].
    pub blocked: Vec<BlockedMove>,
    pub blocked_total: usize,
}

/// What to do next for all evacuations.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EvacuationPlan {
    pub reassignments: Option<Command>,
    pub progress: BTreeMap<BrokerId, EvacuationProgress>,
}

pub(super) fn alter(draft: &mut Draft, command: Evacuation) -> Result<Response, Failure> {
    let broker = known(draft, command.broker_id)?;
    let id = broker.id;
    if broker.evacuating != command.evacuating {
        draft.push(Record::Evacuation(command));
        if !command.evacuating {
            give_up_moves(draft, id)?;
        }
    }
    Ok(Response::Accepted(Accepted {}))
}

/// Where the replicas to come have all that was acknowledged and the former ones do not, the move
/// goes on to its end.
fn give_up_moves(draft: &mut Draft, broker: BrokerId) -> Result<(), Failure> {
    let partitions = draft.image().partitions();
    let moving = partitions.filter(|(_, state)| state.removing.contains(&broker));
    let command = AlterReassignments {
        partitions: moving.map(|(id, _)| reassignment(id, None)).collect(),
        keep_replication_factor: false,
        replaces_dead: false,
        rebalances: false,
    };
    alter_reassignments::alter(draft, &command)?;
    Ok(())
}

pub(super) fn reassignment(id: TopicPartition, target: Option<TargetReplicas>) -> Reassignment {
    Reassignment {
        partition: PartitionRef {
            topic_id: id.topic.into(),
            partition: id.partition.0,
        },
        target,
    }
}

/// Plans the next moves of all evacuations; `choose` finds a broker for a replica, or says in words
/// why it cannot. Empty when no broker is evacuated. Call again as moves complete.
pub fn plan_evacuations(
    image: &Image,
    choose: impl Fn(&MoveRequest<'_>) -> Result<BrokerId, String>,
) -> EvacuationPlan {
    let evacuated = image.brokers.values().filter(|broker| broker.evacuating);
    let progress: BTreeMap<_, _> = evacuated
        .map(|broker| (broker.id, EvacuationProgress::default()))
        .collect();
    if progress.is_empty() {
        return EvacuationPlan::default();
    }
    let under_way = image
        .partitions()
        .filter(|(_, state)| state.removing.iter().any(|id| progress.contains_key(id)))
        .count();
    let mut planner = Planner {
        image,
        choose,
        brokers: placement_brokers(image),
        progress,
        room: EVACUATION_MOVES_MAX.saturating_sub(under_way),
        moves: Vec::new(),
    };
    for topic in image.topics.values() {
        planner.visit_topic(topic);
    }
    planner.finish()
}

struct Planner<'a, F> {
    image: &'a Image,
    choose: F,
    brokers: Vec<PlacementBroker>,
    progress: BTreeMap<BrokerId, EvacuationProgress>,
    /// Moves that may begin.
    room: usize,
    moves: Vec<Reassignment>,
}

impl<F: Fn(&MoveRequest<'_>) -> Result<BrokerId, String>> Planner<'_, F> {
    fn visit_topic(&mut self, topic: &TopicImage) {
        let mut partitions = topic.partitions.iter();
        if !partitions.any(|state| self.leavers(state).next().is_some()) {
            return;
        }
        let partitions = topic.partitions.iter();
        let mut existing: Vec<Vec<BrokerId>> =
            partitions.map(|state| state.target().collect()).collect();
        for (index, (id, state)) in topic.iter().enumerate() {
            let leavers: Vec<BrokerId> = self.leavers(state).collect();
            if !leavers.is_empty() {
                let outcome = self.move_on(id, state, (index, &mut existing));
                self.note(id, state, &leavers, outcome);
            }
        }
    }

    fn leavers(&self, state: &PartitionImage) -> impl Iterator<Item = BrokerId> {
        let leaving = |broker: &BrokerId| self.progress.contains_key(broker);
        state.replicas.iter().copied().filter(leaving)
    }

    /// Plans the partition's move if it is its turn, or says why it does not move.
    fn move_on(
        &mut self,
        id: TopicPartition,
        state: &PartitionImage,
        (index, existing): (usize, &mut [Vec<BrokerId>]),
    ) -> Result<(), String> {
        if state.is_reassigning() {
            return self.check_moving(state);
        }
        if state.leader.is_none() {
            return Err(String::from("it has no leader to be copied from"));
        }
        let target = self.target(state, existing)?;
        if self.room > 0 {
            self.room -= 1;
            for broker in &mut self.brokers {
                let is_new = target.contains(&broker.id) && !state.has_replica(broker.id);
                broker.replicas += u32::from(is_new);
            }
            let replicas = target.iter().map(|id| id.0).collect();
            self.moves
                .push(reassignment(id, Some(TargetReplicas { replicas })));
            existing[index] = target;
        }
        Ok(())
    }

    fn note(
        &mut self,
        id: TopicPartition,
        state: &PartitionImage,
        leavers: &[BrokerId],
        outcome: Result<(), String>,
    ) {
        for broker in leavers {
            let progress = self.progress.get_mut(broker).expect("a leaver");
            progress.replicas_left += 1;
            progress.moving += usize::from(state.removing.contains(broker));
            if let Err(reason) = &outcome {
                progress.blocked_total += 1;
                if progress.blocked.len() < EVACUATION_BLOCKED_MAX {
                    progress.blocked.push(BlockedMove {
                        partition: id,
                        reason: reason.clone(),
                    });
                }
            }
        }
    }

    fn check_moving(&self, state: &PartitionImage) -> Result<(), String> {
        let dead = state.target().find(|id| !self.image.is_active(*id));
        match dead {
            Some(id) => Err(format!("broker {id}, which is to have it, is not alive")),
            None => Ok(()),
        }
    }

    /// The partition's replicas with others in the places of those that leave.
    fn target(
        &self,
        state: &PartitionImage,
        existing: &[Vec<BrokerId>],
    ) -> Result<Vec<BrokerId>, String> {
        let leaving = |id: &BrokerId| self.progress.contains_key(id);
        let leavers = state.replicas.iter().filter(|id| leaving(id)).count();
        let has_room =
            |broker: &&PlacementBroker| broker.available && !state.has_replica(broker.id);
        if self.brokers.iter().filter(has_room).count() < leavers {
            return Err(String::from(
                "each broker that may get replicas has one of it; add a broker, or uncordon one",
            ));
        }
        let mut target = state.replicas.clone();
        if self.room == 0 {
            return Ok(target);
        }
        for position in 0..target.len() {
            if leaving(&target[position]) {
                let mut kept = target.clone();
                kept.remove(position);
                target[position] = (self.choose)(&MoveRequest {
                    brokers: &self.brokers,
                    existing,
                    kept: &kept,
                })?;
            }
        }
        Ok(target)
    }

    fn finish(self) -> EvacuationPlan {
        let command = AlterReassignments {
            partitions: self.moves,
            keep_replication_factor: true,
            replaces_dead: false,
            rebalances: false,
        };
        EvacuationPlan {
            reassignments: (!command.partitions.is_empty())
                .then_some(Command::AlterReassignments(command)),
            progress: self.progress,
        }
    }
}
