//! Whether replicas are to move onto brokers that were added, and how far that is.
//!
//! A broker that joins is recorded as such until nothing is left to be moved, so that whoever comes
//! after a crash goes on. Nothing moves while brokers leave: their replicas are on the way already.

use klamm_crds::RebalanceMode;

use super::{Reason, Scale, Situation, Step, waiting};
use crate::allocation::Broker;
use crate::observed::{Admin, ClusterFacts, RebalanceProgress};

/// A rebalance that must not go on.
pub(super) fn break_off(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let forbidden = situation.rebalance == RebalanceMode::Disabled || !situation.leaving.is_empty();
    (facts.rebalancing && forbidden).then_some(Step::CancelRebalance)
}

/// What is due once nothing else is; nothing when every broker has its share, as far as that is wanted.
pub(super) fn decide(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Scale> {
    let mut joined = situation.brokers.iter();
    let wanted = match situation.rebalance {
        RebalanceMode::Disabled => false,
        RebalanceMode::Automatic => true,
        RebalanceMode::OnScaleUp => {
            joined.any(|broker| broker.joining && situation.admin.serves(broker.id))
        }
    };
    if !wanted && !facts.rebalancing {
        return None;
    }
    match situation.rebalance_progress {
        None => Some(Scale::AskRebalance),
        Some(RebalanceProgress::Unknown(why)) => {
            let message = format!("nobody can tell whether replicas are even: {why}");
            Some(waiting(Reason::AdminUnreachable, message))
        }
        Some(progress) if facts.rebalancing => Some(told(progress)),
        Some(RebalanceProgress::Known {
            partitions_left: 0, ..
        }) => None,
        Some(RebalanceProgress::Known { .. }) => Some(Scale::Step(Step::StartRebalance)),
    }
}

fn told(progress: &RebalanceProgress) -> Scale {
    match progress {
        RebalanceProgress::Known {
            partitions_left,
            paused: Some(why),
            ..
        } => waiting(
            Reason::RebalancePaused,
            format!("{partitions_left} partitions are to move to other brokers, and wait: {why}"),
        ),
        RebalanceProgress::Known {
            partitions_left: left,
            partitions_moving: moving,
            ..
        } => waiting(
            Reason::Rebalancing,
            format!(
                "{left} partitions move until every broker has its share, {moving} of them now"
            ),
        ),
        RebalanceProgress::Unknown(why) => waiting(Reason::AdminUnreachable, why.clone()),
    }
}

/// Whether the broker, which was added, has its share by now.
pub(crate) fn has_share(
    broker: &Broker,
    admin: &Admin,
    progress: Option<&RebalanceProgress>,
) -> bool {
    let nothing_left = matches!(
        progress,
        Some(RebalanceProgress::Known {
            partitions_left: 0,
            paused: None,
            ..
        })
    );
    let is_over = admin.confirmed().is_some_and(|facts| !facts.rebalancing);
    nothing_left && is_over && admin.serves(broker.id)
}
