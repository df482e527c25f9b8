//! The cluster as this broker's metadata has it: every broker tells the same unless it is cut off.

use std::fmt;
use std::sync::Arc;

use broker_core::BrokerId;
use broker_core::metadata::{Counts, Image};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{count, counter, gauge};
use crate::controller::Controller;

/// The cluster as this broker's metadata has it.
pub struct ClusterMetrics(pub Arc<Controller>);

impl fmt::Debug for ClusterMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterMetrics")
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (image, counts) = self.0.counts();
        let mut numbers = ClusterNumbers::of(self.0.id(), &image, &counts);
        numbers.controller = self.0.active_controller();
        numbers.unclean_elections = self.0.unclean_elections();
        numbers.encode(encoder)
    }
}

/// What is told of the cluster.
#[derive(Debug)]
pub(super) struct ClusterNumbers {
    me: BrokerId,
    pub(super) controller: Option<BrokerId>,
    active_brokers: usize,
    fenced_brokers: usize,
    partitions: usize,
    offline: usize,
    under_replicated: usize,
    under_min_isr: usize,
    reassigning: usize,
    unclean_elections: u64,
}

impl ClusterNumbers {
    /// The numbers of `image`, whose totals are `counts`, as broker `me` tells them.
    pub(super) fn of(me: BrokerId, image: &Image, counts: &Counts) -> Self {
        let brokers = || image.brokers.values();
        let partitions = image.partitions();
        Self {
            me,
            controller: None,
            active_brokers: brokers().filter(|broker| broker.is_active()).count(),
            fenced_brokers: brokers().filter(|broker| broker.fenced).count(),
            partitions: counts.partitions,
            offline: counts.offline_partitions,
            under_replicated: counts.under_replicated_partitions,
            under_min_isr: counts.under_min_isr_partitions,
            reassigning: partitions.filter(|(_, p)| p.is_reassigning()).count(),
            unclean_elections: 0,
        }
    }
}

impl Collector for ClusterNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        for (name, help, number) in [
            (
                "cluster_active_brokers",
                "Brokers that may lead",
                self.active_brokers,
            ),
            (
                "cluster_fenced_brokers",
                "Registered brokers that are down or cut off",
                self.fenced_brokers,
            ),
            (
                "cluster_partitions",
                "Partitions of all topics",
                self.partitions,
            ),
            (
                "cluster_offline_partitions",
                "Partitions without a leader",
                self.offline,
            ),
            (
                "cluster_under_replicated_partitions",
                "Partitions with a replica out of sync",
                self.under_replicated,
            ),
            (
                "cluster_under_min_isr_partitions",
                "Partitions with fewer replicas in sync than min.insync.replicas: acks=all is refused",
                self.under_min_isr,
            ),
            (
                "cluster_reassigning_partitions",
                "Partitions with a reassignment in progress",
                self.reassigning,
            ),
        ] {
            gauge(e, name, help, count(number))?;
        }
        gauge(
            e,
            "cluster_controller_id",
            "Id of the active controller, -1 for none",
            self.controller.map_or(-1, |id| i64::from(id.0)),
        )?;
        gauge(
            e,
            "active_controller",
            "1 on the broker that is the active controller",
            i64::from(self.controller == Some(self.me)),
        )?;
        counter(
            e,
            "cluster_unclean_leader_elections",
            "Leaders that this broker elected as the controller and that may lack acknowledged records",
            self.unclean_elections,
        )
    }
}
