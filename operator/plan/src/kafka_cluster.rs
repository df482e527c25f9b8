//! From a `KafkaCluster` and what was observed to the plan of one reconciliation.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use klamm_crds::{KafkaCluster, KafkaClusterStatus};

use crate::allocation::{self, Allocation};
use crate::naming;
use crate::observed::Observed;
use crate::resources::{self, Disruptions, Object, revision, unless_applied};
use crate::rollout::{self, BrokerPod, PodState, Rollout, pod_state};
use crate::status::{self, Findings};
use crate::validate::{Problem, Validated, validate};

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Identity to be recorded before anything else is done.
    pub record_first: Option<KafkaClusterStatus>,
    /// For the token's Secret, in case there is none.
    pub validated: Option<Validated>,
    /// Objects that are missing or differ.
    pub apply: Vec<Object>,
    /// Services that nobody wants any more.
    pub delete_services: Vec<String>,
    /// Pod to be replaced, after its StatefulSet was applied.
    pub replace: Option<Replacement>,
    /// The status once all this was done.
    pub status: KafkaClusterStatus,
    /// Whether something is expected to change soon.
    pub settled: bool,
}

/// One broker's turn of a rollout.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub broker_id: i32,
    /// The newest revision.
    pub stateful_set: Object,
    /// Name and uid of the pod to delete, if there is one that is not going anyway.
    pub pod: Option<(String, String)>,
    pub reason: &'static str,
}

/// Plans one reconciliation.
#[must_use]
pub fn plan(cluster: &KafkaCluster, observed: &Observed, now: Timestamp) -> Plan {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let recorded = Allocation::recorded(cluster.status.as_ref(), uid, &observed.volumes);
    let validated = recorded.and_then(|recorded| {
        let valid = validate(cluster, &recorded.brokers, &observed.defaults)?;
        Ok((recorded.extended(&valid, observed), valid))
    });
    match validated {
        Ok((allocation, valid)) => planned(cluster, observed, valid, &allocation, now),
        Err(problem) => refused(cluster, observed, &problem, now),
    }
}

fn planned(
    cluster: &KafkaCluster,
    observed: &Observed,
    valid: Validated,
    allocation: &Allocation,
    now: Timestamp,
) -> Plan {
    let newest = newest_stateful_sets(&valid, allocation);
    let brokers: Vec<_> = newest
        .iter()
        .map(|(id, set)| broker_pod(*id, set.as_ref(), &valid.name, observed))
        .collect();
    let hindrance = rollout::hindrance(&brokers, &observed.admin);
    let rollout = rollout::decide(&brokers, &observed.admin);
    let findings = Findings {
        allocation,
        brokers: &brokers,
        rollout: &rollout,
        admin: &observed.admin,
        problem: valid.refused.as_ref(),
    };
    let status = status::of_cluster(cluster, Some(&valid), &findings, now);
    let settled = hindrance.is_none() && rollout == Rollout::UpToDate;
    if cluster.spec.paused {
        return Plan {
            status,
            settled,
            ..Plan::nothing()
        };
    }
    let identity = status::with_identity(cluster.status.clone().unwrap_or_default(), allocation);
    let disruptions = if hindrance.is_none() {
        Disruptions::Allowed
    } else {
        Disruptions::Forbidden
    };
    let mut apply = shared_objects(&valid, allocation, observed, disruptions);
    apply.extend(volumes(&valid, allocation, observed));
    apply.extend(current_stateful_sets(&newest, observed));
    Plan {
        record_first: (cluster.status.as_ref() != Some(&identity)).then_some(identity),
        apply,
        delete_services: unwanted_services(&valid, observed),
        replace: replacement(&rollout, newest, &valid, allocation, observed),
        validated: Some(valid),
        status,
        settled,
    }
}

impl Plan {
    fn nothing() -> Self {
        Self {
            record_first: None,
            validated: None,
            apply: Vec::new(),
            delete_services: Vec::new(),
            replace: None,
            status: KafkaClusterStatus::default(),
            settled: true,
        }
    }
}

/// Nothing of the spec can be carried out: what exists stays as it is.
fn refused(cluster: &KafkaCluster, observed: &Observed, problem: &Problem, now: Timestamp) -> Plan {
    let allocation = Allocation::recorded(cluster.status.as_ref(), "", &[]).unwrap_or_default();
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let brokers: Vec<_> = allocation
        .brokers
        .iter()
        .map(|broker| broker_pod(broker.id, None, name, observed))
        .collect();
    let findings = Findings {
        allocation: &allocation,
        brokers: &brokers,
        rollout: &Rollout::UpToDate,
        admin: &observed.admin,
        problem: Some(problem),
    };
    let status = status::of_cluster(cluster, None, &findings, now);
    Plan {
        status,
        ..Plan::nothing()
    }
}

/// By broker; nothing where the address for clients outside is not known yet, or the pool is not.
fn newest_stateful_sets(
    valid: &Validated,
    allocation: &Allocation,
) -> Vec<(i32, Option<StatefulSet>)> {
    let newest = |broker: &allocation::Broker| {
        let pool = valid.pools.iter().find(|pool| pool.name == broker.pool)?;
        resources::stateful_set(valid, allocation, broker, pool)
    };
    allocation
        .brokers
        .iter()
        .map(|broker| (broker.id, newest(broker)))
        .collect()
}

fn shared_objects(
    valid: &Validated,
    allocation: &Allocation,
    observed: &Observed,
    disruptions: Disruptions,
) -> Vec<Object> {
    let service_account = resources::service_account(valid);
    let budget = resources::pod_disruption_budget(valid, disruptions);
    let sets = &observed.stateful_sets;
    let config_map = observed.config_map.as_ref();
    let desired_config_map = resources::config_map(valid, allocation, config_map, sets);
    let services = resources::services(valid, allocation);
    let services = services.into_iter().filter_map(|service| {
        let live = observed
            .services
            .iter()
            .find(|s| s.metadata.name == service.metadata.name);
        unless_applied(service, live, Object::Service)
    });
    let live_account = observed.service_account.as_ref();
    let live_budget = observed.pod_disruption_budget.as_ref();
    unless_applied(service_account, live_account, Object::ServiceAccount)
        .into_iter()
        .chain(services)
        .chain(unless_applied(
            desired_config_map,
            config_map,
            Object::ConfigMap,
        ))
        .chain(unless_applied(
            budget,
            live_budget,
            Object::PodDisruptionBudget,
        ))
        .collect()
}

fn volumes(valid: &Validated, allocation: &Allocation, observed: &Observed) -> Vec<Object> {
    let volume = |broker: &allocation::Broker| {
        let pool = valid.pools.iter().find(|pool| pool.name == broker.pool)?;
        let volume = resources::volume(valid, allocation, broker, &pool.storage);
        let name = &volume.metadata.name;
        let live = observed.volumes.iter().find(|v| v.metadata.name == *name);
        unless_applied(volume, live, Object::PersistentVolumeClaim)
    };
    allocation.brokers.iter().filter_map(volume).collect()
}

/// StatefulSets that are missing or were changed by somebody else. A new revision waits for the
/// broker's turn.
fn current_stateful_sets(
    newest: &[(i32, Option<StatefulSet>)],
    observed: &Observed,
) -> Vec<Object> {
    let due = |set: &StatefulSet| {
        let live = live_stateful_set(observed, set);
        let new_revision = live.is_some_and(|live| set_revision(live) != set_revision(set));
        (!new_revision)
            .then(|| unless_applied(set.clone(), live, boxed))
            .flatten()
    };
    newest
        .iter()
        .filter_map(|(_, set)| due(set.as_ref()?))
        .collect()
}

fn replacement(
    rollout: &Rollout,
    newest: Vec<(i32, Option<StatefulSet>)>,
    valid: &Validated,
    allocation: &Allocation,
    observed: &Observed,
) -> Option<Replacement> {
    let Rollout::Replace { id, reason } = rollout else {
        return None;
    };
    let set = newest
        .into_iter()
        .find_map(|(of, set)| set.filter(|_| of == *id))?;
    let broker = allocation.brokers.iter().find(|broker| broker.id == *id)?;
    let pod = live_pod(observed, &naming::pod(&valid.name, &broker.pool, *id))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| revision(&pod.metadata) != set_revision(&set))
        .and_then(|pod| Some((pod.metadata.name.clone()?, pod.metadata.uid.clone()?)));
    let stateful_set = unless_applied(set, None, boxed)?;
    Some(Replacement {
        broker_id: *id,
        stateful_set,
        pod,
        reason,
    })
}

fn boxed(set: StatefulSet) -> Object {
    Object::StatefulSet(Box::new(set))
}

fn unwanted_services(valid: &Validated, observed: &Observed) -> Vec<String> {
    if valid.node_port.is_some() {
        return Vec::new();
    }
    let external = observed.services.iter().filter(|service| {
        service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("NodePort")
    });
    external
        .filter_map(|service| service.metadata.name.clone())
        .collect()
}

fn broker_pod(
    id: i32,
    newest: Option<&StatefulSet>,
    cluster: &str,
    observed: &Observed,
) -> BrokerPod {
    let name = newest.and_then(|set| set.metadata.name.as_deref());
    let pod = observed.pods.iter().find(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(naming::BROKER_LABEL)) == Some(&id.to_string())
            && labels
                .and_then(|labels| labels.get(naming::CLUSTER_LABEL))
                .map(String::as_str)
                == Some(cluster)
    });
    let wanted = newest.and_then(set_revision);
    let set = observed
        .stateful_sets
        .iter()
        .find(|set| set.metadata.name.as_deref() == name);
    let of_pod = pod.is_some_and(|pod| {
        pod.metadata.deletion_timestamp.is_none() && revision(&pod.metadata) != wanted
    });
    let of_set = set.is_some_and(|set| set_revision(set) != wanted);
    BrokerPod {
        id,
        pod: pod.map_or(PodState::Absent, pod_state),
        outdated: newest.is_some() && (of_pod || of_set),
    }
}

fn live_stateful_set<'a>(observed: &'a Observed, set: &StatefulSet) -> Option<&'a StatefulSet> {
    observed
        .stateful_sets
        .iter()
        .find(|live| live.metadata.name == set.metadata.name)
}

fn live_pod<'a>(observed: &'a Observed, name: &str) -> Option<&'a Pod> {
    observed
        .pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some(name))
}

fn set_revision(set: &StatefulSet) -> Option<&str> {
    revision(set.spec.as_ref()?.template.metadata.as_ref()?)
}

#[cfg(test)]
mod tests;
