//! The Kubernetes API of Klamm: the custom resources `KafkaCluster` and `Topic` of
//! `klamm.dev/v1alpha1`, their validation rules and the YAML of their definitions.
//!
//! Whatever the API server can check, it checks (schema and CEL), so that `kubectl apply` refuses a
//! bad spec with a message that says what to do. What needs more than the object itself is checked
//! by the operator and reported as the condition `SpecValid`.

mod config_value;
mod kafka_cluster;
mod network_policy;
mod rebalance;
mod rollout;
mod scale_down;
mod topic;

use kube::CustomResourceExt as _;

pub use config_value::ConfigValue;
pub use kafka_cluster::{
    BrokerStatus, Controllers, DeletionPolicy, KafkaCluster, KafkaClusterSpec, KafkaClusterStatus,
    Listener, ListenerStatus, ListenerType, PodTemplate, Pool, Rack, Storage,
};
pub use network_policy::{NetworkPolicyMode, NetworkPolicySettings};
pub use rebalance::{RebalanceMode, RebalancePolicy, RebalanceStatus};
pub use rollout::RolloutPolicy;
pub use scale_down::ScaleDown;
pub use topic::{AdoptionPolicy, ClusterRef, Topic, TopicSpec, TopicStatus};

/// API group of both resources.
pub const GROUP: &str = "klamm.dev";

/// The custom resource definitions as one YAML stream, as the Helm chart ships them.
///
/// # Panics
/// Never: the definitions are constants that serialize.
#[must_use]
pub fn definitions_yaml() -> String {
    [KafkaCluster::crd(), Topic::crd()]
        .iter()
        .map(|crd| {
            let yaml = serde_yaml::to_string(crd).expect("definitions are plain data");
            format!("---\n{yaml}")
        })
        .collect()
}
