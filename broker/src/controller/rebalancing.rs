//! The rebalance of the cluster, carried on by the active controller, and how far it is.

use std::sync::Arc;

use broker_core::controller::{Command, RebalanceProgress, RebalanceStep, plan_rebalance};
use broker_core::metadata::Image;
use broker_core::{Time, Timestamp};
use parking_lot::Mutex;

use super::options::PlanRebalance;
use super::sizes::{PartitionSizes, Sizes};

/// How far the rebalance is, as the active controller knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebalanceStatus {
    pub progress: RebalanceProgress,
    /// When fewer partitions were left than before, or this controller learned of the rebalance.
    pub last_progress_at: Timestamp,
}

impl RebalanceStatus {
    /// Partitions that are being moved and that are still to be.
    #[must_use]
    pub fn partitions_left(&self) -> usize {
        self.progress.moving + self.progress.waiting.unwrap_or(0)
    }
}

/// See the module's documentation.
pub(crate) struct Rebalancing {
    sizes: Sizes,
    known: Mutex<Option<RebalanceStatus>>,
}

impl Rebalancing {
    pub(crate) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            known: Mutex::default(),
        }
    }

    /// Notes how far the rebalance is, and returns what to decide next. Waits for the first sizes.
    pub(crate) fn tick(
        &self,
        (now, clock): (Time, Timestamp),
        image: &Image,
        plan: &PlanRebalance,
    ) -> Vec<Command> {
        if !image.rebalancing {
            self.end();
            return Vec::new();
        }
        let sizes = self.sizes.look(now, image);
        sizes.map_or_else(Vec::new, |sizes| self.step(clock, image, plan, &sizes))
    }

    fn step(
        &self,
        clock: Timestamp,
        image: &Image,
        plan: &PlanRebalance,
        sizes: &Arc<PartitionSizes>,
    ) -> Vec<Command> {
        let RebalanceStep {
            commands,
            begun,
            progress,
        } = plan_rebalance(image, |request| plan(request, sizes));
        for (partition, reason) in begun {
            let topic = image.topics.get(&partition.topic);
            let topic = topic.map_or("", |topic| &topic.name);
            tracing::info!(topic, index = %partition.partition, reason, "moving for a rebalance");
        }
        if let Some(progress) = progress {
            let mut known = self.known.lock();
            let before = known.take();
            *known = Some(noted(before, clock, progress));
        }
        commands
    }

    /// The rebalance is over, or this broker is no longer the active controller.
    pub(crate) fn end(&self) {
        *self.known.lock() = None;
        self.sizes.forget();
    }

    /// `None` when there is no rebalance, or before the first look at it.
    pub(crate) fn status(&self) -> Option<RebalanceStatus> {
        self.known.lock().clone()
    }
}

fn noted(
    before: Option<RebalanceStatus>,
    clock: Timestamp,
    mut progress: RebalanceProgress,
) -> RebalanceStatus {
    let waiting_before = before.as_ref().and_then(|before| before.progress.waiting);
    progress.waiting = progress.waiting.or(waiting_before);
    let mut status = RebalanceStatus {
        progress,
        last_progress_at: clock,
    };
    if let Some(before) = before
        && before.partitions_left() <= status.partitions_left()
    {
        status.last_progress_at = before.last_progress_at;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_when_fewer_partitions_are_left() {
        let mut known = None;
        let mut look = |now, moving, waiting| {
            let progress = RebalanceProgress { moving, waiting };
            let status = noted(known.take(), Timestamp(now), progress);
            let seen = (status.partitions_left(), status.last_progress_at.0);
            known = Some(status);
            seen
        };
        assert_eq!(look(1, 0, Some(30)), (30, 1));
        assert_eq!(look(2, 20, Some(10)), (30, 1), "begun is not done");
        assert_eq!(look(3, 15, None), (25, 3), "the others still wait");
        assert_eq!(look(4, 15, None), (25, 3));
        assert_eq!(look(5, 5, Some(40)), (45, 3), "a topic was made");
        assert_eq!(look(6, 0, Some(40)), (40, 6));
    }
}
