//! Drains: all replicas of a broker go to others. The controller calls it an evacuation.

use broker_core::BrokerId;
use broker_core::controller::{BlockedMove, Command};
use broker_core::metadata::{Evacuation, Image};
use klamm_proto::v1::drain_status_response::State;
use klamm_proto::v1::{DrainBlocker, DrainStatusResponse};
use tonic::Status;

use super::caller::Caller;
use super::cluster::count;
use super::restart::{snapshot, unknown_broker};
use crate::controller::{ControllerView, EvacuationStatus};

pub(super) async fn alter(caller: &Caller, evacuation: Evacuation) -> Result<(), Status> {
    let command = Command::EvacuateBroker(evacuation);
    caller.submit(command).await?;
    Ok(())
}

/// `known` is what the controller noted when it last looked at the drain, `bytes_left` what the broker
/// said.
pub(super) fn status(
    view: &ControllerView,
    known: Option<EvacuationStatus>,
    bytes_left: Option<u64>,
    id: BrokerId,
) -> Result<DrainStatusResponse, Status> {
    let broker = view.image.brokers.get(&id);
    let broker = broker.ok_or_else(|| unknown_broker(id))?;
    let hosted = view.image.partitions().filter(|(_, s)| s.has_replica(id));
    let replicas_left = hosted.count();
    let moving = view
        .image
        .partitions()
        .filter(|(_, s)| s.removing.contains(&id));
    let state = match (broker.evacuating, replicas_left) {
        (false, _) => State::None,
        (true, 0) => State::Drained,
        (true, _) => State::Draining,
    };
    let mut response = DrainStatusResponse {
        snapshot: Some(snapshot(view)),
        state: state.into(),
        replicas_left: count(replicas_left),
        replicas_moving: count(moving.count()),
        bytes_left,
        ..DrainStatusResponse::default()
    };
    if let Some(known) = known {
        let blocked = known.progress.blocked.iter();
        response.last_progress_at_ms = known.last_progress_at.0;
        response.blocked_by = blocked.filter_map(|b| blocker(&view.image, b)).collect();
        response.blocked_total = count(known.progress.blocked_total);
    }
    Ok(response)
}

/// `None` when the topic is gone meanwhile.
fn blocker(image: &Image, blocked: &BlockedMove) -> Option<DrainBlocker> {
    let topic = image.topics.get(&blocked.partition.topic)?;
    Some(DrainBlocker {
        topic: topic.name.to_string(),
        partition: blocked.partition.partition.0,
        reason: blocked.reason.clone(),
    })
}
