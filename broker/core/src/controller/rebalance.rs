//! Giving every broker its share of the replicas, as after brokers were added: partitions are
//! reassigned, a bounded number at a time.
//!
//! That the cluster is rebalanced is metadata, and so is which reassignments are part of it, so that a
//! new controller goes on where the last one stopped. It ends by itself once nothing is uneven.
//!
//! Invariants (property test): a rebalance copies to brokers that are alive and take replicas only,
//! keeps every replication factor, has no more than its bound under way, and ends.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::alter_reassignments;
use super::command::{AlterReassignments, Command, Reassignment, TargetReplicas};
use super::context::PlacementBroker;
use super::draft::Draft;
use super::elect_leaders::plan_preferred_elections;
use super::error::Failure;
use super::evacuation::reassignment;
use super::partitions::placement_brokers;
use super::replacement::is_stopping_in_order;
use super::response::{Accepted, Response};
use crate::metadata::{Image, PartitionImage, Rebalance, Record};
use crate::{BrokerId, TopicPartition};

/// Partitions that a rebalance copies at a time.
pub const REBALANCE_MOVES_MAX: usize = 20;

/// Partitions that one step of a rebalance changes, most of which only get another preferred leader.
const CHANGES_PER_STEP_MAX: usize = 500;

/// What a rebalance is planned from.
#[derive(Clone, Copy, Debug)]
pub struct RebalanceRequest<'a> {
    /// All registered brokers. Those that take replicas are available, alive or not.
    pub brokers: &'a [PlacementBroker],
    pub partitions: &'a [PlacedPartition],
}

/// A partition once the reassignment in progress is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPartition {
    pub id: TopicPartition,
    /// The preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Cannot be moved now: it is being reassigned, has no leader, or is on a broker that is not alive.
    pub pinned: bool,
}

/// Where the replicas of one partition go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebalanceMove {
    /// Index into the partitions of the request.
    pub partition: usize,
    /// As many as before, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Why, for people.
    pub reason: String,
}

/// How far a rebalance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalanceProgress {
    /// Partitions that are being copied, those of this step included.
    pub moving: usize,
    /// Partitions that are still to be moved after these; `None` when that was not looked at.
    pub waiting: Option<usize>,
}

/// What to do next for the rebalance.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RebalanceStep {
    /// In this order.
    pub commands: Vec<Command>,
    /// The moves that begin, and why.
    pub begun: Vec<(TopicPartition, String)>,
    /// `None` when the cluster is not being rebalanced.
    pub progress: Option<RebalanceProgress>,
}

pub(super) fn alter(draft: &mut Draft, command: Rebalance) -> Result<Response, Failure> {
    if draft.image().rebalancing != command.rebalancing {
        draft.push(Record::Rebalance(command));
        if !command.rebalancing {
            let marked = marked(draft.image());
            let partitions = marked.map(|(id, _)| reassignment(id, None)).collect();
            alter_reassignments::alter(draft, &reassignments(partitions))?;
        }
    }
    Ok(Response::Accepted(Accepted {}))
}

/// Plans the next step; `plan` says what is to be moved in all, what it copies first. Does nothing
/// when the cluster is not being rebalanced. Call again as moves complete.
///
/// Nothing new begins while a broker that takes replicas is not alive or about to stop, and moves that
/// wait for such a broker are given up: its replicas may have to be re-created elsewhere.
pub fn plan_rebalance(
    image: &Image,
    plan: impl Fn(&RebalanceRequest<'_>) -> Vec<RebalanceMove>,
) -> RebalanceStep {
    if !image.rebalancing {
        return RebalanceStep::default();
    }
    let moving = marked(image).count();
    let mut progress = RebalanceProgress {
        moving,
        waiting: None,
    };
    let (mut commands, mut begun) = (Vec::new(), Vec::new());
    let is_stuck = |state: &PartitionImage| state.target().any(|id| !image.is_active(id));
    let stuck = marked(image).filter(|(_, state)| is_stuck(state));
    let stuck: Vec<_> = stuck.map(|(id, _)| reassignment(id, None)).collect();
    if !stuck.is_empty() {
        commands.push(Command::AlterReassignments(reassignments(stuck)));
    } else if rebalance_hindrance(image).is_none() && moving <= REBALANCE_MOVES_MAX / 2 {
        let partitions = placed_partitions(image);
        let moves = plan(&RebalanceRequest {
            brokers: &balanced_brokers(image),
            partitions: &partitions,
        });
        let next = next_moves(image, &partitions, &moves, REBALANCE_MOVES_MAX - moving);
        let copied = next
            .iter()
            .filter(|planned| copies(image, &partitions, planned));
        progress.moving += copied.count();
        progress.waiting = Some(moves.len() - next.len());
        let id = |planned: &RebalanceMove| partitions[planned.partition].id;
        begun.extend(
            next.iter()
                .map(|planned| (id(planned), planned.reason.clone())),
        );
        if !next.is_empty() {
            let next = next.iter().map(|planned| {
                let replicas = planned.replicas.iter().map(|id| id.0).collect();
                reassignment(id(planned), Some(TargetReplicas { replicas }))
            });
            commands.push(Command::AlterReassignments(reassignments(next.collect())));
        } else if moving == 0 {
            commands.extend(plan_preferred_elections(image));
            commands.push(Command::Rebalance(Rebalance { rebalancing: false }));
        }
    }
    RebalanceStep {
        commands,
        begun,
        progress: Some(progress),
    }
}

/// All partitions as [`plan_rebalance`] has them planned.
#[must_use]
pub fn placed_partitions(image: &Image) -> Vec<PlacedPartition> {
    let partitions = image.partitions();
    partitions
        .map(|(id, state)| PlacedPartition {
            id,
            replicas: state.target().collect(),
            pinned: state.is_reassigning()
                || state.leader.is_none()
                || state.replicas.iter().any(|id| !image.is_active(*id)),
        })
        .collect()
}

/// All brokers as [`plan_rebalance`] has them planned for.
#[must_use]
pub fn balanced_brokers(image: &Image) -> Vec<PlacementBroker> {
    let mut brokers = placement_brokers(image);
    for broker in &mut brokers {
        let known = image.brokers.get(&broker.id);
        broker.available = known.is_some_and(|known| known.takes_replicas());
    }
    brokers
}

fn marked(image: &Image) -> impl Iterator<Item = (TopicPartition, &PartitionImage)> {
    let partitions = image.partitions().map(|(id, state)| (id, &**state));
    partitions.filter(|(_, state)| state.rebalances)
}

/// What keeps a rebalance from moving anything new, for people.
#[must_use]
pub fn rebalance_hindrance(image: &Image) -> Option<String> {
    if let Some(broker) = image.brokers.values().find(|b| is_stopping_in_order(b)) {
        return Some(format!("broker {} is about to stop", broker.id));
    }
    let mut brokers = image.brokers.values();
    let dead = brokers.find(|broker| broker.takes_replicas() && !broker.is_active())?;
    Some(format!(
        "broker {} is not alive; bring it back, or remove it",
        dead.id
    ))
}

/// The first moves, as many of those that copy as there is room for.
fn next_moves<'a>(
    image: &Image,
    partitions: &[PlacedPartition],
    moves: &'a [RebalanceMove],
    mut room: usize,
) -> &'a [RebalanceMove] {
    let has_room = |planned: &&RebalanceMove| {
        let takes = usize::from(copies(image, partitions, planned));
        let fits = takes <= room;
        room -= takes.min(room);
        fits
    };
    let next = moves.iter().take(CHANGES_PER_STEP_MAX).take_while(has_room);
    let count = next.count();
    &moves[..count]
}

/// Whether a broker gets a replica that it does not have.
fn copies(image: &Image, partitions: &[PlacedPartition], planned: &RebalanceMove) -> bool {
    let state = image.partition(partitions[planned.partition].id);
    let is_new = |broker: &BrokerId| state.is_some_and(|state| !state.has_replica(*broker));
    planned.replicas.iter().any(is_new)
}

fn reassignments(partitions: Vec<Reassignment>) -> AlterReassignments {
    AlterReassignments {
        partitions,
        keep_replication_factor: true,
        replaces_dead: false,
        rebalances: true,
    }
}
