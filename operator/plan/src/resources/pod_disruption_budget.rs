//! How many brokers a node drain may stop: one while nothing is missing, none otherwise.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::naming;
use crate::validate::Validated;

/// Whether others may stop a broker now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disruptions {
    /// Everything is replicated and serving: one broker.
    Allowed,
    /// Something is missing or unknown.
    Forbidden,
}

/// Brokers that do not run may always be evicted: they have nothing to lose, and a node with a
/// broken pod can be drained.
#[must_use]
pub fn pod_disruption_budget(valid: &Validated, disruptions: Disruptions) -> PodDisruptionBudget {
    let brokers = match disruptions {
        Disruptions::Allowed => 1,
        Disruptions::Forbidden => 0,
    };
    PodDisruptionBudget {
        metadata: owned(valid, naming::pod_disruption_budget(&valid.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(brokers)),
            selector: Some(LabelSelector {
                match_labels: Some(naming::cluster_selector(&valid.name)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
