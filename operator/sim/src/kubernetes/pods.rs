//! What a pod says of itself, and how its status is written.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use operator_plan::naming;

use crate::clock;
use crate::trace::Seconds;

pub(crate) fn broker_id(pod: &Pod) -> i32 {
    let labels = pod.metadata.labels.as_ref();
    let id = labels.and_then(|labels| labels.get(naming::BROKER_LABEL)?.parse().ok());
    id.unwrap_or(-1)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    operator_plan::broker_pod::ready_since(pod).is_some()
}

/// Name of the pod's StatefulSet.
pub(crate) fn set_of(pod: &Pod) -> &str {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    name.strip_suffix("-0").unwrap_or_default()
}

pub(super) fn volume_of(pod: &Pod) -> String {
    format!("data-{}", set_of(pod))
}

pub(super) fn image(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container
        .and_then(|container| container.image.as_deref())
        .unwrap_or_default()
}

pub(super) fn pod_of(set: &StatefulSet) -> Pod {
    let name = set.metadata.name.clone().unwrap_or_default();
    let template = set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let owner = OwnerReference {
        name: name.clone(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{name}-0")),
            owner_references: Some(vec![owner]),
            ..template.metadata.unwrap_or_default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The zone that the pod must be in.
pub(super) fn zone(pod: &Pod) -> Option<&str> {
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let expressions = required
        .node_selector_terms
        .first()?
        .match_expressions
        .as_ref()?;
    Some(expressions.first()?.values.as_ref()?.first()?)
}

/// The version of the configuration that the pod names.
pub(super) fn config_key(pod: &Pod) -> Option<&String> {
    let volumes = pod.spec.as_ref()?.volumes.iter().flatten();
    let projected = volumes.filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| projected.sources.iter().flatten());
    let maps = sources.filter_map(|source| source.config_map.as_ref());
    let mut items = maps.flat_map(|map| map.items.iter().flatten());
    items.next().map(|item| &item.key)
}

pub(super) fn container(reason: &str) -> ContainerStatus {
    ContainerStatus {
        state: Some(ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.to_owned()),
                message: None,
            }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

pub(super) fn set_scheduled(status: &mut PodStatus, scheduled: bool) {
    let reason = (!scheduled).then(|| "Unschedulable".to_owned());
    set_condition(status, "PodScheduled", scheduled, reason, None);
}

pub(super) fn set_ready(pod: &mut Pod, ready: bool, now: Seconds) {
    let was = is_ready(pod);
    let status = pod.status.get_or_insert_default();
    if was != ready
        || !status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready")
    {
        set_condition(
            status,
            "Ready",
            ready,
            None,
            Some(Time(clock::timestamp(now))),
        );
    }
}

fn set_condition(
    status: &mut PodStatus,
    type_: &str,
    truth: bool,
    reason: Option<String>,
    last_transition_time: Option<Time>,
) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != type_);
    conditions.push(PodCondition {
        type_: type_.to_owned(),
        status: if truth { "True" } else { "False" }.to_owned(),
        reason,
        last_transition_time,
        ..PodCondition::default()
    });
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
}
