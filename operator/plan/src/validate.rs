//! From a `KafkaCluster` to a [`Validated`] one. After this nobody reads the raw spec.
//!
//! The API server has checked what concerns the object alone; checked here is what it cannot see: text
//! that would break out of a properties file.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use klamm_crds::{
    DeletionPolicy, KafkaCluster, ListenerType, NetworkPolicyMode, Pool, RebalanceMode,
};

use crate::observed::{Defaults, OperatorPods};
use crate::rollout::Policy;

/// Why a spec is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// CamelCase reason of the condition.
    pub reason: &'static str,
    /// What the user can do.
    pub message: String,
}

/// A spec that can be carried out.
#[derive(Clone, Debug)]
pub struct Validated {
    pub name: String,
    pub namespace: String,
    pub owner: OwnerReference,
    pub image: String,
    pub image_pull_policy: Option<String>,
    pub voters: usize,
    pub pools: Vec<Pool>,
    pub config: BTreeMap<String, String>,
    pub internal: InternalListener,
    pub node_port: Option<NodePortListener>,
    pub topology_key: String,
    pub deletion_policy: DeletionPolicy,
    /// For volumes of brokers that are removed.
    pub volume_policy: DeletionPolicy,
    /// How long a broker that is being emptied may lose no replica before that is told.
    pub drain_stall_timeout: Duration,
    pub rebalance: RebalanceMode,
    pub rollout: Policy,
    pub network_policy: NetworkPolicyMode,
    /// Let in by the NetworkPolicy, if known.
    pub operator_pods: Option<OperatorPods>,
}

/// The listener for clients inside Kubernetes.
#[derive(Clone, Debug)]
pub struct InternalListener {
    pub name: String,
    pub port: i32,
    /// Who may connect; nobody in it means everybody.
    pub peers: Vec<NetworkPolicyPeer>,
}

/// The listener for clients that reach the nodes.
#[derive(Clone, Debug)]
pub struct NodePortListener {
    pub name: String,
    pub port: i32,
    /// Node port of the bootstrap address, if it shall be a certain one.
    pub bootstrap_node_port: Option<i32>,
    /// Host with `{brokerId}` to be replaced, if not a node's address.
    pub advertised_host: Option<String>,
    /// Who may connect; nobody in it means everybody.
    pub peers: Vec<NetworkPolicyPeer>,
}

/// # Errors
/// When nothing of the spec can be carried out.
pub fn validate(cluster: &KafkaCluster, defaults: &Defaults) -> Result<Validated, Problem> {
    let spec = &cluster.spec;
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let internal = spec
        .listeners
        .iter()
        .find(|listener| listener.type_ == ListenerType::Internal)
        .map(|listener| InternalListener {
            name: listener.name.clone(),
            port: listener.port,
            peers: listener.network_policy_peers.clone(),
        })
        .ok_or_else(|| Problem {
            reason: "InvalidListeners",
            message: "one listener must be of type Internal".to_owned(),
        })?;
    let node_port = spec
        .listeners
        .iter()
        .find(|listener| listener.type_ == ListenerType::NodePort)
        .map(|listener| NodePortListener {
            name: listener.name.clone(),
            port: listener.port,
            bootstrap_node_port: listener.node_port,
            advertised_host: listener.advertised_host.clone(),
            peers: listener.network_policy_peers.clone(),
        });
    Ok(Validated {
        namespace: cluster.metadata.namespace.clone().unwrap_or_default(),
        owner: OwnerReference {
            api_version: "klamm.dev/v1alpha1".to_owned(),
            kind: "KafkaCluster".to_owned(),
            name: name.clone(),
            uid: cluster.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        },
        name,
        image: spec.image.clone().unwrap_or_else(|| defaults.image.clone()),
        image_pull_policy: defaults.image_pull_policy.clone(),
        voters: usize::try_from(spec.controllers.count).unwrap_or(1),
        pools: spec.pools.clone(),
        config: config(cluster)?,
        internal,
        node_port,
        topology_key: spec.rack.topology_key.clone(),
        deletion_policy: spec.deletion_policy,
        volume_policy: spec.scale_down.volume_policy,
        drain_stall_timeout: seconds(spec.scale_down.drain_stall_timeout_seconds),
        rebalance: spec.rebalance.mode,
        rollout: rollout(cluster),
        network_policy: spec.network_policy.mode,
        operator_pods: defaults.operator_pods.clone(),
    })
}

fn rollout(cluster: &KafkaCluster) -> Policy {
    let rollout = &cluster.spec.rollout;
    let percent = rollout.min_preferred_leaders_percent;
    Policy {
        soak: seconds(rollout.soak_seconds),
        preferred_leaders_min_pct: u32::try_from(percent).unwrap_or(0),
        hold: cluster.spec.hold.clone(),
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A value that ends in a backslash or holds a line break would swallow or forge the next line of
/// the brokers' properties file.
fn config(cluster: &KafkaCluster) -> Result<BTreeMap<String, String>, Problem> {
    let mut config = BTreeMap::new();
    for (key, value) in &cluster.spec.config {
        let value = value.to_string();
        if value.contains(['\n', '\r']) || value.ends_with('\\') {
            return Err(Problem {
                reason: "InvalidConfig",
                message: format!(
                    "spec.config[{key}] must be one line that does not end with a backslash"
                ),
            });
        }
        config.insert(key.clone(), value);
    }
    Ok(config)
}
