//! The objects of a cluster: as they are to be, and which of them are to be written.

use k8s_openapi::api::apps::v1::StatefulSet;
use klamm_crds::NetworkPolicyMode;

use super::{Judged, View};
use crate::allocation::{self, Allocation};
use crate::dynamic_config::ConfigPlan;
use crate::naming;
use crate::observed::Observed;
use crate::resources::{self, Disruptions, Object, revision, unless_applied};
use crate::validate::Validated;

/// By broker; nothing where the address for clients outside is not known yet, or the pool is not.
pub(super) fn newest_stateful_sets(
    valid: &Validated,
    allocation: &Allocation,
    brokers: &[&allocation::Broker],
    (config, wanted): (&ConfigPlan, &str),
) -> Vec<(i32, Option<StatefulSet>)> {
    let newest = |broker: &allocation::Broker| {
        let pool = valid.pools.iter().find(|pool| pool.name == broker.pool)?;
        let name = naming::stateful_set(&valid.name, &broker.pool, broker.id);
        let version = config.version(&name, wanted);
        resources::stateful_set(valid, allocation, broker, pool, version)
    };
    brokers
        .iter()
        .map(|broker| (broker.id, newest(broker)))
        .collect()
}

pub(super) fn shared_objects(
    view: &View,
    allocation: &Allocation,
    observed: &Observed,
    disruptions: Disruptions,
) -> Vec<Object> {
    let valid = &view.valid;
    let service_account = resources::service_account(valid);
    let budget = resources::pod_disruption_budget(valid, disruptions);
    let network_policy = resources::network_policy(valid, &observed.pods);
    let sets = &observed.stateful_sets;
    let config_map = observed.config_map.as_ref();
    let desired_config_map = resources::config_map(valid, view.wanted.clone(), config_map, sets);
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
        .chain(network_policy.and_then(|policy| {
            let live = observed.network_policy.as_ref();
            unless_applied(policy, live, Object::NetworkPolicy)
        }))
        .collect()
}

/// StatefulSets that are missing or were changed by somebody else. A new revision waits for the
/// broker's turn.
pub(super) fn current_stateful_sets(
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

pub(super) fn boxed(set: StatefulSet) -> Object {
    Object::StatefulSet(Box::new(set))
}

pub(super) fn unwanted_services(
    valid: &Validated,
    allocation: &Allocation,
    observed: &Observed,
) -> Vec<String> {
    let wanted = resources::services(valid, allocation);
    let is_wanted = |name: &String| {
        let mut names = wanted.iter().map(|service| &service.metadata.name);
        names.any(|wanted| wanted.as_ref() == Some(name))
    };
    let external = observed.services.iter().filter(|service| {
        service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("NodePort")
    });
    external
        .filter_map(|service| service.metadata.name.clone())
        .filter(|name| !is_wanted(name))
        .collect()
}

/// The one that this cluster had, once there shall be none.
pub(super) fn unwanted_network_policy(valid: &Validated, observed: &Observed) -> Option<Judged> {
    match valid.network_policy {
        NetworkPolicyMode::Enabled => None,
        NetworkPolicyMode::Disabled => {
            let metadata = &observed.network_policy.as_ref()?.metadata;
            let mut owners = metadata.owner_references.iter().flatten();
            let is_ours = owners.any(|owner| owner.uid == valid.owner.uid);
            (is_ours && metadata.deletion_timestamp.is_none())
                .then(|| Judged::any_version(metadata))
                .flatten()
        }
    }
}

fn live_stateful_set<'a>(observed: &'a Observed, set: &StatefulSet) -> Option<&'a StatefulSet> {
    observed
        .stateful_sets
        .iter()
        .find(|live| live.metadata.name == set.metadata.name)
}

pub(super) fn set_revision(set: &StatefulSet) -> Option<&str> {
    revision(set.spec.as_ref()?.template.metadata.as_ref()?)
}
