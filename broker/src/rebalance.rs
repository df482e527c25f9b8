//! What a rebalance would move, in the terms of the placement.

use broker_core::controller::{
    PlacedPartition, RebalanceMove, RebalanceRequest, balanced_brokers, placed_partitions,
};
use broker_core::metadata::Image;
use broker_core::{BrokerId, TopicPartition};
use klamm_placement::Broker;
use klamm_placement::rebalance::{self, Move, Partition, RebalancePlan};

use crate::controller::PartitionSizes;
use crate::policy;

/// All that has to move for every broker to have its share.
pub(crate) fn plan(request: &RebalanceRequest<'_>, sizes: &PartitionSizes) -> Vec<RebalanceMove> {
    let brokers = policy::brokers(request.brokers);
    let moves = planned(&brokers, &partitions(request.partitions, sizes)).moves;
    moves.into_iter().map(rebalance_move).collect()
}

/// What a rebalance would find.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    pub(crate) moves: Vec<(TopicPartition, RebalanceMove)>,
    /// Brokers that keep more replicas than others, and why.
    pub(crate) kept: Vec<String>,
    /// By an independent check; with the partition where there is one.
    pub(crate) uneven: Vec<(Option<TopicPartition>, String)>,
}

/// Looks at every partition. Their sizes are not known.
pub(crate) fn outlook(image: &Image) -> Outlook {
    let brokers = policy::brokers(&balanced_brokers(image));
    let placed = placed_partitions(image);
    let partitions = partitions(&placed, &PartitionSizes::new());
    let RebalancePlan { moves, stays } = planned(&brokers, &partitions);
    let moves = moves.into_iter().map(rebalance_move);
    let violations = rebalance::lint(&brokers, &partitions).into_iter();
    Outlook {
        moves: moves
            .map(|planned| (placed[planned.partition].id, planned))
            .collect(),
        kept: stays.iter().map(ToString::to_string).collect(),
        uneven: violations
            .map(|violation| {
                (
                    violation.partition().map(|at| placed[at].id),
                    violation.to_string(),
                )
            })
            .collect(),
    }
}

fn planned(brokers: &[Broker], partitions: &[Partition]) -> RebalancePlan {
    rebalance::plan_rebalance(brokers, partitions).expect("ids of registered brokers are distinct")
}

fn partitions(placed: &[PlacedPartition], sizes: &PartitionSizes) -> Vec<Partition> {
    let mut topic = 0;
    let mut before = None;
    let partitions = placed.iter().map(|partition| {
        topic += usize::from(before.replace(partition.id.topic) != Some(partition.id.topic));
        Partition {
            topic,
            replicas: partition.replicas.iter().map(|id| id.0).collect(),
            bytes: sizes.get(&partition.id).copied().unwrap_or(0),
            pinned: partition.pinned,
        }
    });
    partitions.collect()
}

fn rebalance_move(planned: Move) -> RebalanceMove {
    let reasons: Vec<String> = planned.reasons.iter().map(ToString::to_string).collect();
    RebalanceMove {
        partition: planned.partition,
        replicas: planned.replicas.into_iter().map(BrokerId).collect(),
        reason: reasons.join("; "),
    }
}
