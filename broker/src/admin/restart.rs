//! Restarts as the operator orders them: asked for, prepared, and waited for.

use std::collections::BTreeSet;

use broker_core::BrokerId;
use broker_core::controller::{
    AcceptedRisk as Risk, Command, ElectLeaders, ElectionType, Finding, PrepareRestart,
    Response as CommandResponse, RestartBlocker as Blocker, RestartCheck, check_restart,
};
use klamm_proto::v1::{
    AcceptedRisk, CheckRestartRequest, CheckRestartResponse, PrepareRestartRequest,
    PrepareRestartResponse, RestartBlocker, RestartRecoveryRequest, RestartRecoveryResponse,
    RestorePreferredLeadersResponse, Snapshot, accepted_risk, restart_blocker,
};
use tonic::Status;

use super::caller::Caller;
use super::cluster;
use super::status::mismatch;
use crate::controller::ControllerView;

/// Of `parts` in `whole`; 100 only when they are equal, and when there is nothing.
fn percent(parts: u32, whole: u32) -> u32 {
    let hundredths = u64::from(parts) * 100;
    u32::try_from(hundredths.checked_div(u64::from(whole)).unwrap_or(100)).unwrap_or(100)
}

pub(super) fn snapshot(view: &ControllerView) -> Snapshot {
    Snapshot {
        metadata_offset: view.metadata_offset,
        controller_epoch: view.controller_epoch,
    }
}

pub(super) fn check(
    view: &ControllerView,
    request: &CheckRestartRequest,
) -> Result<CheckRestartResponse, Status> {
    let brokers: BTreeSet<BrokerId> = request.brokers.iter().copied().map(BrokerId).collect();
    if brokers.is_empty() {
        return Err(Status::invalid_argument("name a broker or more"));
    }
    let registered = &view.image.brokers;
    if let Some(unknown) = brokers.iter().find(|id| !registered.contains_key(id)) {
        return Err(unknown_broker(*unknown));
    }
    let verdict = check_restart(
        &view.image,
        &RestartCheck {
            brokers: &brokers,
            voters: &view.voters,
            doubtful: &view.doubtful,
            min_insync_replicas_default: view.min_insync_replicas_default,
        },
    );
    Ok(CheckRestartResponse {
        snapshot: Some(snapshot(view)),
        safe: verdict.is_safe(),
        blockers: verdict.blockers.named.iter().map(blocker).collect(),
        blockers_total: cluster::count(verdict.blockers.total),
        accepted: verdict.accepted.named.iter().map(risk).collect(),
        accepted_total: cluster::count(verdict.accepted.total),
    })
}

pub(super) async fn prepare(
    caller: &Caller,
    request: PrepareRestartRequest,
) -> Result<PrepareRestartResponse, Status> {
    let command = PrepareRestart {
        broker_id: request.broker,
        incarnation: request.incarnation,
        ttl_ms: request.ttl_ms,
    };
    let response = caller.submit(Command::PrepareRestart(command)).await?;
    let CommandResponse::PrepareRestart(prepared) = response else {
        return Err(mismatch());
    };
    Ok(PrepareRestartResponse {
        leaders_left: prepared.leaders_left,
        leaders_kept: prepared.leaders_kept,
    })
}

pub(super) async fn restore_leaders(
    caller: &Caller,
) -> Result<RestorePreferredLeadersResponse, Status> {
    let command = ElectLeaders {
        election_type: ElectionType::Preferred.into(),
        partitions: Vec::new(),
    };
    let response = caller.submit(Command::ElectLeaders(command)).await?;
    let CommandResponse::ElectLeaders(elected) = response else {
        return Err(mismatch());
    };
    let elected = elected.partitions.iter();
    let restored = elected.filter(|partition| partition.failure.is_none());
    Ok(RestorePreferredLeadersResponse {
        restored: cluster::count(restored.count()),
    })
}

pub(super) fn recovery(
    view: &ControllerView,
    request: RestartRecoveryRequest,
) -> Result<RestartRecoveryResponse, Status> {
    let id = BrokerId(request.broker);
    let broker = view.image.brokers.get(&id);
    let broker = broker.ok_or_else(|| unknown_broker(id))?;
    let counts = view.image.counts(view.min_insync_replicas_default);
    let carried = counts.brokers.get(&id).copied().unwrap_or_default();
    Ok(RestartRecoveryResponse {
        snapshot: Some(snapshot(view)),
        state: cluster::state(broker, carried).into(),
        incarnation: broker.incarnation.clone(),
        replicas: carried.replicas,
        replicas_not_in_sync: carried.replicas.saturating_sub(carried.in_sync),
        in_sync_pct: percent(carried.in_sync, carried.replicas),
        preferred_leaders_pct: percent(carried.preferred_led, carried.preferred),
    })
}

pub(super) fn unknown_broker(id: BrokerId) -> Status {
    Status::not_found(format!("broker {id} is not registered"))
}

fn place<R>(finding: &Finding<R>) -> (String, i32) {
    let place = finding.partition.as_ref();
    place.map_or((String::new(), -1), |(topic, partition)| {
        (topic.to_string(), partition.0)
    })
}

fn blocker(finding: &Finding<Blocker>) -> RestartBlocker {
    use restart_blocker::Reason;
    let (topic, partition) = place(finding);
    let reason = match finding.reason {
        Blocker::BelowMinIsr => Reason::BelowMinIsr,
        Blocker::Unavailable => Reason::Unavailable,
        Blocker::QuorumLoss => Reason::QuorumLoss,
        Blocker::NotCaughtUp => Reason::NotCaughtUp,
    };
    RestartBlocker {
        topic,
        partition,
        reason: reason.into(),
    }
}

fn risk(finding: &Finding<Risk>) -> AcceptedRisk {
    use accepted_risk::Reason;
    let (topic, partition) = place(finding);
    let reason = match finding.reason {
        Risk::SingleReplica => Reason::SingleReplica,
        Risk::MinIsrNeedsEveryReplica => Reason::MinIsrNeedsEveryReplica,
        Risk::QuorumNeedsEveryVoter => Reason::QuorumNeedsEveryVoter,
    };
    AcceptedRisk {
        topic,
        partition,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(0, 3), 0);
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(1000, 1000), 100);
    }
}
