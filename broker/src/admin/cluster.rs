//! The cluster at a glance.

use broker_core::metadata::BrokerImage;
use klamm_proto::v1::{BrokerDescription, BrokerState, ClusterDescription};

use crate::controller::Controller;

pub(super) fn describe(controller: &Controller) -> ClusterDescription {
    // Before the image, which may be newer than the offset then, but not older.
    let metadata_offset = controller.metadata_offset().unwrap_or_default();
    let (image, counts) = controller.counts();
    let broker = |broker: &BrokerImage| {
        let carried = counts.brokers.get(&broker.id).copied().unwrap_or_default();
        BrokerDescription {
            id: broker.id.0,
            incarnation: broker.incarnation.clone(),
            version: broker.version.clone(),
            rack: broker.rack.clone().unwrap_or_default(),
            state: state(broker).into(),
            replicas: carried.replicas,
            leaders: carried.leaders,
        }
    };
    ClusterDescription {
        cluster_id: image.cluster_id.clone(),
        metadata_offset,
        controller_id: controller.active_controller().map_or(-1, |id| id.0),
        controller_epoch: controller.controller_epoch(),
        brokers: image.brokers.values().map(broker).collect(),
        voters: controller.voters().into_iter().map(|id| id.0).collect(),
        offline_partitions: count(counts.offline_partitions),
        under_replicated_partitions: count(counts.under_replicated_partitions),
        under_min_isr_partitions: count(counts.under_min_isr_partitions),
        topics: count(counts.topics),
        partitions: count(counts.partitions),
    }
}

fn state(broker: &BrokerImage) -> BrokerState {
    match (broker.fenced, broker.draining) {
        (true, _) => BrokerState::Fenced,
        (false, true) => BrokerState::Draining,
        (false, false) => BrokerState::Serving,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
