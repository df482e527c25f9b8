//! The rebalance: replicas move until every broker has its share.

use broker_core::TopicPartition;
use broker_core::controller::{Command, rebalance_hindrance};
use broker_core::metadata::{Image, Rebalance};
use klamm_proto::v1::rebalance_status_response::State;
use klamm_proto::v1::{PlannedMove, RebalanceStatusResponse};
use tonic::Status;

use super::caller::Caller;
use super::cluster::count;
use super::restart::snapshot;
use crate::controller::{ControllerView, RebalanceStatus};
use crate::rebalance::{Outlook, outlook};

/// Entries of each list that an answer has at most.
const LISTED_MAX: usize = 20;

pub(super) async fn alter(caller: &Caller, rebalance: Rebalance) -> Result<(), Status> {
    caller.submit(Command::Rebalance(rebalance)).await?;
    Ok(())
}

/// `known` is what the controller noted when it last looked at the rebalance. Looks at every partition
/// if there is none, or if asked to `explain`.
pub(super) async fn status(
    view: ControllerView,
    known: Option<RebalanceStatus>,
    explain: bool,
) -> Result<RebalanceStatusResponse, Status> {
    let image = std::sync::Arc::clone(&view.image);
    let outlook = if explain || !image.rebalancing {
        let looked = tokio::task::spawn_blocking(move || outlook(&image));
        looked
            .await
            .map_err(|error| Status::internal(error.to_string()))?
    } else {
        Outlook::default()
    };
    let image = &view.image;
    let mut response = RebalanceStatusResponse {
        snapshot: Some(snapshot(&view)),
        state: State::None.into(),
        paused: rebalance_hindrance(image).unwrap_or_default(),
        partitions_left: count(outlook.moves.len()),
        planned: first(outlook.moves.iter(), |(id, planned)| {
            let (topic, partition) = name(image, *id);
            PlannedMove {
                topic,
                partition,
                replicas: planned.replicas.iter().map(|id| id.0).collect(),
                reason: planned.reason.clone(),
            }
        }),
        kept: first(outlook.kept.iter(), String::clone),
        uneven_total: count(outlook.uneven.len()),
        uneven: first(outlook.uneven.iter(), |(id, what)| {
            id.map_or_else(
                || what.clone(),
                |id| {
                    let (topic, partition) = name(image, id);
                    format!("{topic}-{partition}: {what}")
                },
            )
        }),
        ..RebalanceStatusResponse::default()
    };
    if image.rebalancing {
        let known = known.unwrap_or_default();
        response.state = State::Rebalancing.into();
        response.partitions_left = count(known.partitions_left());
        response.partitions_moving = count(known.progress.moving);
        response.last_progress_at_ms = known.last_progress_at.0;
    }
    Ok(response)
}

fn first<T, U>(all: impl Iterator<Item = T>, tell: impl FnMut(T) -> U) -> Vec<U> {
    all.take(LISTED_MAX).map(tell).collect()
}

fn name(image: &Image, id: TopicPartition) -> (String, i32) {
    let topic = image.topics.get(&id.topic);
    let name = topic.map_or_else(String::new, |topic| topic.name.to_string());
    (name, id.partition.0)
}
