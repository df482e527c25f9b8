//! The cluster at a glance.

use broker_core::metadata::{BrokerCounts, BrokerImage, Counts, Image};
use klamm_proto::v1::{BrokerDescription, BrokerState, ClusterDescription};

use crate::controller::{Controller, ControllerView};

/// As this broker knows it.
pub(super) fn describe(controller: &Controller) -> ClusterDescription {
    // Before the image, which may be newer than the offset then, but not older.
    let metadata_offset = controller.metadata_offset().unwrap_or_default();
    let (image, counts) = controller.counts();
    ClusterDescription {
        metadata_offset,
        controller_id: controller.active_controller().map_or(-1, |id| id.0),
        controller_epoch: controller.controller_epoch(),
        voters: controller.voters().into_iter().map(|id| id.0).collect(),
        ..describe_image(&image, &counts)
    }
}

/// As the active controller, which is broker `controller_id`, knows it.
pub(super) fn describe_view(view: &ControllerView, controller_id: i32) -> ClusterDescription {
    let counts = view.image.counts(view.min_insync_replicas_default);
    ClusterDescription {
        metadata_offset: view.metadata_offset,
        controller_id,
        controller_epoch: view.controller_epoch,
        voters: view.voters.iter().map(|id| id.0).collect(),
        ..describe_image(&view.image, &counts)
    }
}

fn describe_image(image: &Image, counts: &Counts) -> ClusterDescription {
    let broker = |broker: &BrokerImage| {
        let carried = counts.brokers.get(&broker.id).copied().unwrap_or_default();
        describe_broker(broker, carried)
    };
    ClusterDescription {
        cluster_id: image.cluster_id.clone(),
        brokers: image.brokers.values().map(broker).collect(),
        offline_partitions: count(counts.offline_partitions),
        under_replicated_partitions: count(counts.under_replicated_partitions),
        under_min_isr_partitions: count(counts.under_min_isr_partitions),
        topics: count(counts.topics),
        partitions: count(counts.partitions),
        rebalancing: image.rebalancing,
        dynamic_config: image.cluster_config.clone().into_iter().collect(),
        ..ClusterDescription::default()
    }
}

fn describe_broker(broker: &BrokerImage, carried: BrokerCounts) -> BrokerDescription {
    BrokerDescription {
        id: broker.id.0,
        incarnation: broker.incarnation.clone(),
        version: broker.version.clone(),
        rack: broker.rack.clone().unwrap_or_default(),
        state: state(broker, carried).into(),
        replicas: carried.replicas,
        leaders: carried.leaders,
        cordoned: broker.cordoned,
        started_at_ms: broker.started_at_ms,
        config_hash: broker.config_hash.clone(),
        in_sync: carried.in_sync,
        preferred: carried.preferred,
        preferred_led: carried.preferred_led,
        drain: broker.evacuating,
    }
}

pub(super) fn state(broker: &BrokerImage, carried: BrokerCounts) -> BrokerState {
    if broker.fenced {
        BrokerState::Fenced
    } else if broker.draining || broker.restart_lease.is_some() {
        BrokerState::Draining
    } else if carried.in_sync < carried.replicas {
        BrokerState::CatchingUp
    } else {
        BrokerState::Serving
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
