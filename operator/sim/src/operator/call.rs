//! A plan as a list of calls, in the order of `operator/src/kafka_cluster/execute.rs`.

use std::collections::VecDeque;

use klamm_crds::{KafkaCluster, KafkaClusterStatus};
use operator_plan::kafka_cluster::{Action, Judged, Plan};
use operator_plan::resources::Object;
use operator_plan::scale::Step;

use crate::admin::Request;

/// One call of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Record(Box<KafkaClusterStatus>),
    CreateToken,
    Apply(Box<Object>),
    DeleteVolume(Judged),
    DeletePod { id: i32, pod: Judged },
    DeleteStatefulSet(Judged),
    Ask(Request),
    Report(Box<KafkaClusterStatus>),
}

/// The calls of the plan, in their order.
pub(super) fn calls(plan: &Plan, has_token: bool) -> VecDeque<Call> {
    let mut calls = VecDeque::new();
    let record = plan.record_first.iter().cloned();
    calls.extend(record.map(|status| Call::Record(Box::new(status))));
    if plan.validated.is_some() && !has_token {
        calls.push_back(Call::CreateToken);
    }
    calls.extend(plan.apply.iter().cloned().map(Box::new).map(Call::Apply));
    calls.extend(plan.delete_volumes.iter().cloned().map(Call::DeleteVolume));
    let change = plan.config_change.iter().cloned();
    calls.extend(change.map(|change| Call::Ask(Request::ApplyConfig(change))));
    match plan.action.clone() {
        None => {}
        Some(Action::RestoreLeaders) => calls.push_back(Call::Ask(Request::RestoreLeaders)),
        Some(Action::TransferController(_)) => {
            calls.push_back(Call::Ask(Request::TransferController));
        }
        Some(Action::Prepare { id, incarnation }) => {
            calls.push_back(Call::Ask(Request::Prepare { id, incarnation }));
        }
        Some(Action::Replace(replacement)) => {
            calls.push_back(Call::Apply(Box::new(replacement.stateful_set)));
            let id = replacement.broker_id;
            let pod = replacement.pod.into_iter();
            calls.extend(pod.map(|pod| Call::DeletePod { id, pod }));
        }
        Some(Action::Scale(Step::AddVoter(id))) => {
            calls.push_back(Call::Ask(Request::AddLearner(id)));
            calls.push_back(Call::Ask(Request::Promote(id)));
        }
        Some(Action::Scale(step)) => calls.push_back(Call::Ask(Request::Scale(step))),
        Some(Action::Stop(set)) => calls.push_back(Call::DeleteStatefulSet(set)),
    }
    calls.push_back(Call::Report(Box::new(plan.status.clone())));
    calls
}

/// Whether the plan changes nothing.
pub(crate) fn is_idle(plan: &Plan, cluster: &KafkaCluster) -> bool {
    plan.record_first.is_none()
        && plan.apply.is_empty()
        && plan.delete_services.is_empty()
        && plan.delete_network_policy.is_none()
        && plan.delete_volumes.is_empty()
        && plan.config_change.is_none()
        && plan.action.is_none()
        && cluster.status.as_ref() == Some(&plan.status)
}

/// Kind and name.
pub(super) fn name(object: &Object) -> String {
    let (kind, metadata) = match object {
        Object::ServiceAccount(object) => ("ServiceAccount", &object.metadata),
        Object::Service(object) => ("Service", &object.metadata),
        Object::ConfigMap(object) => ("ConfigMap", &object.metadata),
        Object::NetworkPolicy(object) => ("NetworkPolicy", &object.metadata),
        Object::PodDisruptionBudget(object) => ("PodDisruptionBudget", &object.metadata),
        Object::PersistentVolumeClaim(object) => ("PersistentVolumeClaim", &object.metadata),
        Object::StatefulSet(object) => ("StatefulSet", &object.metadata),
    };
    format!("{kind} {}", metadata.name.as_deref().unwrap_or_default())
}
