//! Registration, fencing and controlled shutdown of brokers.

use alloc::format;
use alloc::string::String;

use super::command::{
    BrokerRef, CordonBroker, InitializeCluster, RegisterBroker, UnregisterBroker,
};
use super::draft::Draft;
use super::election::{Disks, Lossy};
use super::error::{CommandError, Failure};
use super::features;
use super::response::{Accepted, BrokerDrained, BrokerRegistered, Response};
use crate::metadata::{self, BrokerChange, Cluster, Feature, Record};
use crate::mutation::{Mutation, mutated};
use crate::{BrokerEpoch, BrokerId};

/// Brokers that can be registered at a time.
pub const BROKERS_MAX: usize = 1_000;

/// Listeners that a broker can advertise.
pub const ENDPOINTS_PER_BROKER_MAX: usize = 32;

type Outcome = Result<Response, Failure>;

pub(super) fn initialize_cluster(draft: &mut Draft, command: &InitializeCluster) -> Outcome {
    if command.cluster_id.is_empty() {
        return Err(Failure::new(
            CommandError::InvalidRequest,
            "give the cluster an id",
        ));
    }
    let cluster_id = &draft.image().cluster_id;
    if !cluster_id.is_empty() {
        check_cluster_id(draft, &command.cluster_id)?;
        return Ok(Response::Accepted(Accepted {}));
    }
    draft.push(Record::Cluster(Cluster {
        cluster_id: command.cluster_id.clone(),
    }));
    for (name, level) in &command.features {
        draft.push(Record::Feature(Feature {
            name: name.clone(),
            level: *level,
        }));
    }
    Ok(Response::Accepted(Accepted {}))
}

pub(super) fn register(draft: &mut Draft, command: &RegisterBroker) -> Outcome {
    check_cluster_id(draft, &command.cluster_id)?;
    check_registration(draft, &command.registration)?;
    let id = BrokerId(command.registration.broker_id);
    let known = draft.image().brokers.get(&id);
    if let Some(known) = known {
        if known.incarnation == command.registration.incarnation {
            return Ok(registered(known.epoch));
        }
        if !known.fenced {
            return Err(Failure::new(
                CommandError::DuplicateBrokerId,
                format!("broker {id} is alive; stop it, or wait until it is fenced"),
            ));
        }
    }
    let is_known = |epoch| known.is_some_and(|known| known.continues(BrokerEpoch(epoch)));
    let stopped_cleanly =
        is_known(command.previous_broker_epoch) || mutated(Mutation::TrustEveryRestart);
    let disks = if is_known(command.disks_broker_epoch) {
        Disks::Kept
    } else {
        Disks::Replaced
    };
    let epoch = BrokerEpoch(draft.image().last_broker_epoch.0 + 1);
    // Before the new registration: nobody who is registered may be taken for one that lost nothing.
    if !stopped_cleanly {
        let lost = Some(Lossy { broker: id, disks });
        draft.settle_partitions(|partition| partition.elr.contains(&id), lost);
    }
    if !draft.is_unfinished() {
        draft.push(Record::RegisterBroker(metadata::RegisterBroker {
            broker_epoch: epoch.0,
            disks_broker_epoch: (disks == Disks::Kept).then_some(command.disks_broker_epoch),
            ..command.registration.clone()
        }));
    }
    Ok(registered(epoch))
}

fn registered(epoch: BrokerEpoch) -> Response {
    Response::RegisterBroker(BrokerRegistered {
        broker_epoch: epoch.0,
    })
}

fn check_cluster_id(draft: &Draft, cluster_id: &str) -> Result<(), Failure> {
    let expected = &draft.image().cluster_id;
    if expected == cluster_id {
        return Ok(());
    }
    Err(Failure::new(
        CommandError::InconsistentClusterId,
        format!(
            "this is cluster {expected:?}, not {cluster_id:?}; check the broker's addresses and disks"
        ),
    ))
}

fn check_registration(
    draft: &Draft,
    registration: &metadata::RegisterBroker,
) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidRequest, reason));
    let is_port = |port: u32| (1..=u32::from(u16::MAX)).contains(&port);
    if registration.broker_id < 0 {
        return refuse(format!(
            "node.id is {}, not 0 or above",
            registration.broker_id
        ));
    }
    if registration.incarnation.is_empty() {
        return refuse(String::from("the incarnation is missing"));
    }
    let endpoints = &registration.endpoints;
    if endpoints.is_empty() || endpoints.len() > ENDPOINTS_PER_BROKER_MAX {
        return refuse(format!(
            "advertise 1 to {ENDPOINTS_PER_BROKER_MAX} listeners"
        ));
    }
    if let Some(endpoint) = endpoints.iter().find(|endpoint| !is_port(endpoint.port)) {
        return refuse(format!(
            "listener {} has port {}",
            endpoint.listener, endpoint.port
        ));
    }
    if !is_port(registration.rpc_port) {
        return refuse(format!(
            "the gRPC server has port {}",
            registration.rpc_port
        ));
    }
    features::check_registration(draft.image(), registration)?;
    let brokers = &draft.image().brokers;
    if brokers.len() >= BROKERS_MAX && !brokers.contains_key(&BrokerId(registration.broker_id)) {
        return Err(Failure::new(
            CommandError::LimitExceeded,
            format!("{BROKERS_MAX} brokers are registered; unregister those that are gone"),
        ));
    }
    Ok(())
}

pub(super) fn fence(draft: &mut Draft, broker: BrokerRef) -> Outcome {
    if !draft.registered(broker)?.fenced {
        let id = BrokerId(broker.broker_id);
        draft.count_out(id);
        // No client waits for a follower.
        draft.settle_partitions(|partition| partition.leader == Some(id), None);
        draft.settle_partitions(|partition| partition.isr.contains(&id), None);
        if !draft.is_unfinished() {
            draft.push(change(broker, |change| change.fenced = Some(true)));
        }
    }
    Ok(Response::Accepted(Accepted {}))
}

/// May be repeated, which elects the leaders that are left.
pub(super) fn unfence(draft: &mut Draft, broker: BrokerRef) -> Outcome {
    if draft.registered(broker)?.fenced {
        draft.push(change(broker, |change| change.fenced = Some(false)));
    }
    let id = BrokerId(broker.broker_id);
    draft.settle_partitions(
        |partition| partition.leader.is_none() && partition.has_replica(id),
        None,
    );
    Ok(Response::Accepted(Accepted {}))
}

/// May be repeated until no leader is left: replicas may have come into sync meanwhile.
pub(super) fn drain(draft: &mut Draft, broker: BrokerRef) -> Outcome {
    if !draft.registered(broker)?.draining {
        draft.push(change(broker, |change| change.draining = Some(true)));
    }
    let id = BrokerId(broker.broker_id);
    draft.settle_partitions(|partition| partition.leader == Some(id), None);
    draft.settle_partitions(|partition| partition.isr.contains(&id), None);
    let leaders = draft
        .image()
        .partitions()
        .filter(|(_, state)| state.leader == Some(id))
        .count();
    let leaders_left = u32::try_from(leaders).unwrap_or(u32::MAX);
    Ok(Response::DrainBroker(BrokerDrained { leaders_left }))
}

pub(super) fn cordon(draft: &mut Draft, command: CordonBroker) -> Outcome {
    let broker = known(draft, command.broker_id)?;
    if broker.cordoned != command.cordoned {
        let broker = BrokerRef {
            broker_id: broker.id.0,
            broker_epoch: broker.epoch.0,
        };
        draft.push(change(broker, |change| {
            change.cordoned = Some(command.cordoned)
        }));
    }
    Ok(Response::Accepted(Accepted {}))
}

pub(super) fn unregister(draft: &mut Draft, command: &UnregisterBroker) -> Outcome {
    let broker = known(draft, command.broker_id)?;
    let id = broker.id;
    if let Some(incarnation) = &command.expected_incarnation {
        check_incarnation(broker, incarnation)?;
    }
    let hosts_replicas = draft
        .image()
        .partitions()
        .any(|(_, state)| state.has_replica(id));
    if !broker.fenced || hosts_replicas {
        return Err(Failure::new(
            CommandError::BrokerInUse,
            format!("broker {id} is alive or has replicas; move them and stop the broker"),
        ));
    }
    draft.push(Record::UnregisterBroker(metadata::UnregisterBroker {
        broker_id: id.0,
    }));
    Ok(Response::Accepted(Accepted {}))
}

/// Refuses what was meant for another process than the one that is registered now.
pub(super) fn check_incarnation(
    broker: &metadata::BrokerImage,
    expected: &str,
) -> Result<(), Failure> {
    if broker.incarnation == expected {
        return Ok(());
    }
    Err(Failure::new(
        CommandError::PreconditionFailed,
        format!(
            "broker {} has the incarnation {:?}, not {expected:?}",
            broker.id, broker.incarnation
        ),
    ))
}

pub(super) fn known(draft: &Draft, broker_id: i32) -> Result<&metadata::BrokerImage, Failure> {
    draft
        .image()
        .brokers
        .get(&BrokerId(broker_id))
        .ok_or_else(|| {
            Failure::new(
                CommandError::UnknownBroker,
                format!("broker {broker_id} is not registered"),
            )
        })
}

fn change(broker: BrokerRef, set: impl FnOnce(&mut BrokerChange)) -> Record {
    let mut change = BrokerChange {
        broker_id: broker.broker_id,
        broker_epoch: broker.broker_epoch,
        fenced: None,
        draining: None,
        cordoned: None,
    };
    set(&mut change);
    Record::BrokerChange(change)
}
