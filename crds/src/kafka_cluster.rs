//! `KafkaCluster`: the brokers that shall exist, where their data lives and how clients reach them.

#![allow(
    unreachable_pub,
    reason = "KubeSchema expands to private copies of the types"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ConfigValue, NetworkPolicySettings, RebalancePolicy, RebalanceStatus, RolloutPolicy, ScaleDown,
};

/// A Kafka-compatible cluster of Klamm brokers.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "klamm.dev",
    version = "v1alpha1",
    kind = "KafkaCluster",
    doc = "A Kafka-compatible cluster of Klamm brokers.",
    namespaced,
    status = "KafkaClusterStatus",
    shortname = "kc",
    category = "klamm",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(
        name = "Brokers",
        type_ = "integer",
        json_path = ".status.readyBrokers",
        description = "Brokers that serve clients"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.replicas",
        description = "Brokers that the cluster consists of"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "URP",
        type_ = "integer",
        json_path = ".status.underReplicatedPartitions",
        description = "Partitions whose ISR is smaller than their replica set"
    ),
    printcolumn(
        name = "Bootstrap",
        type_ = "string",
        json_path = ".status.listeners[0].bootstrap",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z][-a-z0-9]{0,29}$')")
        .message("metadata.name must begin with a letter and have at most 30 characters and no dots: pod and Service names are derived from it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.pools.map(p, p.replicas).sum() >= self.controllers.count")
        .message("controllers.count must not exceed the number of brokers: add replicas to a pool, or set controllers.count to 1"),
    validation = Rule::new("self.networkPolicy.mode != 'Disabled' || self.listeners.all(l, !has(l.networkPolicyPeers))")
        .message("networkPolicyPeers restrict nobody without a NetworkPolicy: remove them, or set networkPolicy.mode to Enabled"),
)]
pub struct KafkaClusterSpec {
    /// Image that holds `/klamm-broker`. Default: the image that the operator itself runs, so that
    /// both are of one version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// How many brokers vote in the metadata quorum.
    #[serde(default)]
    pub controllers: Controllers,

    /// Groups of equal brokers.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(
        validation = Rule::new("oldSelf.all(old, self.exists(new, new.name == old.name))")
            .message("a pool cannot be removed or renamed: its brokers hold data")
    )]
    pub pools: Vec<Pool>,

    /// How brokers learn where they are.
    #[serde(default)]
    pub rack: Rack,

    /// Broker configuration by Kafka's property names. What brokers can take while they run they
    /// are given at once; other changes restart them one by one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    #[x_kube(
        validation = Rule::new("self.all(k, !(k in ['node.id', 'broker.id', 'log.dir', 'log.dirs', 'broker.rack', 'listeners', 'advertised.listeners', 'listener.security.protocol.map', 'inter.broker.listener.name', 'controller.quorum.voters', 'process.roles']) && !k.startsWith('klamm.rpc.') && !k.startsWith('klamm.http.') && !k.startsWith('klamm.cluster.') && !k.startsWith('klamm.quorum.'))")
            .message("ids, listeners, directories, racks and the quorum are set by the operator: remove node.id, broker.id, log.dir(s), broker.rack, *listeners*, controller.quorum.voters, process.roles, klamm.rpc.*, klamm.http.*, klamm.cluster.* and klamm.quorum.* from config"),
        validation = Rule::new("self.all(k, k.matches('^[a-z0-9][a-z0-9._]{0,127}$'))")
            .message("config keys are Kafka property names, such as min.insync.replicas"),
    )]
    pub config: BTreeMap<String, ConfigValue>,

    /// Where clients connect. Exactly one of type Internal, at most one of type NodePort.
    #[serde(default = "Listener::defaults")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(
        validation = Rule::new("self.filter(l, l.type == 'Internal').size() == 1")
            .message("exactly one listener must be of type Internal"),
        validation = Rule::new("self.filter(l, l.type == 'NodePort').size() <= 1")
            .message("at most one listener may be of type NodePort"),
        validation = Rule::new("self.all(l, self.filter(m, m.port == l.port).size() == 1)")
            .message("listeners must have different ports"),
    )]
    pub listeners: Vec<Listener>,

    /// How carefully brokers are restarted.
    #[serde(default)]
    pub rollout: RolloutPolicy,

    /// What becomes of brokers that are removed.
    #[serde(default)]
    pub scale_down: ScaleDown,

    /// When replicas move between brokers that stay.
    #[serde(default)]
    pub rebalance: RebalancePolicy,

    /// Whether a NetworkPolicy protects the brokers.
    #[serde(default)]
    pub network_policy: NetworkPolicySettings,

    /// Ids of brokers that the operator does not restart, whatever changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "set"))]
    pub hold: Vec<i32>,

    /// Whether the operator only watches and reports. Brokers keep running; nothing is created,
    /// changed or restarted.
    #[serde(default)]
    pub paused: bool,

    /// What happens to the volumes when the KafkaCluster is deleted. Retained volumes are taken
    /// over by a new KafkaCluster of the same name, with all data.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The metadata quorum.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Controllers {
    /// Voters: 1, 3 or 5. Three survive the loss of one broker. Changed one by one while brokers run.
    #[x_kube(
        validation = Rule::new("self in [1, 3, 5]").message("controllers.count must be 1, 3 or 5")
    )]
    pub count: i32,
}

impl Default for Controllers {
    fn default() -> Self {
        Self { count: 3 }
    }
}

/// A group of brokers with the same volumes, resources and node requirements.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    #[schemars(
        length(min = 1, max = 15),
        regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// Brokers in the pool. With fewer than there are, the surplus ones are emptied and then removed,
    /// those in `remove` first, then those with the highest ids.
    #[schemars(range(min = 1, max = 200))]
    pub replicas: i32,

    /// Ids of the brokers to remove first when `replicas` is lowered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "set"))]
    pub remove: Vec<i32>,

    /// Zones to spread the brokers over. Default: every zone that has nodes for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub zones: Vec<String>,

    pub storage: Storage,

    /// Compute resources of the broker container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    #[serde(default, skip_serializing_if = "PodTemplate::is_empty")]
    pub pod_template: PodTemplate,
}

/// The volume of each broker of a pool.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("storage.size can grow, not shrink"),
    validation = Rule::new("(has(self.storageClass) ? self.storageClass : '') == (has(oldSelf.storageClass) ? oldSelf.storageClass : '')")
        .message("storage.storageClass cannot be changed: a volume keeps its class"),
)]
pub struct Storage {
    /// Size of the volume, such as 500Gi.
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
            .message("storage.size must be a quantity such as 500Gi")
    )]
    pub size: String,

    /// StorageClass. Default: the default class of the Kubernetes cluster.
    #[schemars(length(min = 1, max = 253))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// What may be set on the broker pods.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Additional labels. Those of the operator win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations. Those of the operator win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the brokers tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

impl PodTemplate {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How brokers learn where they are.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// Node label whose value is a broker's zone, and its `broker.rack`. Read when a broker is
    /// added: a broker never changes its zone.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,
}

impl Default for Rack {
    fn default() -> Self {
        Self {
            topology_key: "topology.kubernetes.io/zone".to_owned(),
        }
    }
}

/// A door for clients.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'NodePort' || (!has(self.nodePort) && !has(self.advertisedHost))")
        .message("nodePort and advertisedHost belong to listeners of type NodePort")
)]
pub struct Listener {
    #[schemars(
        length(min = 1, max = 15),
        regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    #[serde(rename = "type")]
    pub type_: ListenerType,

    /// Port on which the brokers listen; for type Internal also the port of the bootstrap Service.
    #[x_kube(
        validation = Rule::new("self >= 1024 && self <= 65535 && !(self in [9095, 9404])")
            .message("port must be between 1024 and 65535, except 9095 and 9404, which brokers use themselves")
    )]
    pub port: i32,

    /// Node port of the bootstrap address. Default: chosen by Kubernetes.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,

    /// Host that brokers give to clients, with `{brokerId}` replaced. Default: the internal address
    /// of a node in the broker's zone.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([A-Za-z0-9.:-]|\{brokerId\})+$")
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,

    /// Who may connect, as in a NetworkPolicy. Default: everybody. Brokers may see clients of type
    /// NodePort under the address of a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))")
            .message("a peer has an ipBlock, or else a podSelector, a namespaceSelector or both")
    )]
    pub network_policy_peers: Vec<NetworkPolicyPeer>,
}

impl Listener {
    fn defaults() -> Vec<Self> {
        vec![Self {
            name: "internal".to_owned(),
            type_: ListenerType::Internal,
            port: 9092,
            node_port: None,
            advertised_host: None,
            network_policy_peers: Vec::new(),
        }]
    }
}

/// Who can reach a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ListenerType {
    /// Pods of this Kubernetes cluster.
    Internal,
    /// Whoever reaches the nodes: one node port for the bootstrap address and one per broker.
    NodePort,
}

/// What happens to data when the object that describes it is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// The data stays.
    #[default]
    Retain,
    /// The data is deleted too.
    Delete,
}

/// What the operator last saw and decided.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaClusterStatus {
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Identity of the cluster, made once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,

    /// Ids of the brokers that vote in the metadata quorum.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub voters: Vec<i32>,

    /// Whether the voters have formed their quorum. From then on no broker may form another one.
    #[serde(default)]
    pub quorum_formed: bool,

    /// Keys of `spec.config` that brokers were given while they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub dynamic_config: Vec<String>,

    /// Id of the next broker; ids are never reused.
    #[serde(default)]
    pub next_broker_id: i32,

    /// Every broker of the cluster. An entry is made before the broker, and goes after it.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub brokers: Vec<BrokerStatus>,

    /// Addresses for clients.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<ListenerStatus>,

    /// Brokers that the cluster consists of.
    #[serde(default)]
    pub replicas: i32,

    /// Brokers that serve clients.
    #[serde(default)]
    pub ready_brokers: i32,

    /// Partitions without a leader. Unset while no broker answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline_partitions: Option<i32>,

    /// Partitions whose ISR is smaller than their replica set. Unset while no broker answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_replicated_partitions: Option<i32>,

    /// How far the rebalance is. Unset while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<RebalanceStatus>,

    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One broker.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// `node.id`, never reused.
    pub id: i32,
    pub pool: String,
    /// Zone in which the broker's volume is. Unset where nodes have no zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Host that the broker gives to clients of the NodePort listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_host: Option<String>,
    /// Node port of the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
    /// Unknown, Pending, Starting, CatchingUp, Serving, Draining, Stopping, Fenced or Removing.
    #[serde(default)]
    pub state: String,
    /// Whether the pod runs the newest configuration.
    #[serde(default)]
    pub up_to_date: bool,
    /// Whether the broker is being emptied, to be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Whether the broker was added and has not got its share of the replicas yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joining: bool,
    /// Replicas that a leaving broker still has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas_left: Option<i32>,
}

/// Addresses of a listener.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    pub name: String,
    /// `bootstrap.servers` for clients.
    pub bootstrap: String,
    /// Node port of the bootstrap address, kept when its Service is made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
}
