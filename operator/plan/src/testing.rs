//! Fixtures: the published examples, as the API server would hand them to the operator.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use klamm_crds::{KafkaCluster, Topic};
use serde_json::json;

use crate::observed::{
    Admin, Answers, BrokerFacts, BrokerState, ClusterFacts, Defaults, Observed, OperatorPods,
    QuorumFacts, QuorumMember,
};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn cluster() -> KafkaCluster {
    let yaml = include_str!("../../../examples/cluster.yaml");
    let mut cluster: KafkaCluster = serde_yaml::from_str(yaml).unwrap();
    cluster.metadata.namespace = Some("shop".to_owned());
    cluster.metadata.uid = Some("uid-of-demo".to_owned());
    cluster.metadata.generation = Some(1);
    cluster
}

pub(crate) fn topic() -> Topic {
    let yaml = include_str!("../../../examples/topic.yaml");
    let mut topic: Topic = serde_yaml::from_str(yaml).unwrap();
    topic.metadata.namespace = Some("shop".to_owned());
    topic.metadata.uid = Some("uid-of-events".to_owned());
    topic.metadata.generation = Some(1);
    topic
}

pub(crate) fn node(name: &str, zone: Option<&str>, address: &str) -> Node {
    let mut labels = json!({ "kubernetes.io/hostname": name });
    if let Some(zone) = zone {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    let node = json!({
        "metadata": { "name": name, "labels": labels },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
    });
    serde_json::from_value(node).unwrap()
}

/// Three nodes in three zones, nothing made yet.
pub(crate) fn observed() -> Observed {
    Observed {
        nodes: vec![
            node("worker-0", Some("a"), "10.0.0.10"),
            node("worker-1", Some("b"), "10.0.0.11"),
            node("worker-2", Some("c"), "10.0.0.12"),
        ],
        pods: Vec::new(),
        stateful_sets: Vec::new(),
        services: Vec::new(),
        volumes: Vec::new(),
        config_map: None,
        network_policy: None,
        pod_disruption_budget: None,
        service_account: None,
        admin: Admin::Unreachable("no voter answered".to_owned()),
        quorum: None,
        answers: Answers::default(),
        defaults: Defaults {
            image: "ghcr.io/klamm-dev/klamm:0.1.0".to_owned(),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            operator_pods: Some(OperatorPods {
                namespace: "klamm-system".to_owned(),
                labels: BTreeMap::from([(
                    "app.kubernetes.io/name".to_owned(),
                    "klamm-operator".to_owned(),
                )]),
            }),
        },
        fresh_cluster_id: "5f0c7a52-1d0b-4a3e-9a55-2f4f7a6f8f10".to_owned(),
    }
}

/// A process that has run since long before [`now`].
pub(crate) fn started_at() -> Timestamp {
    Timestamp::from_second(1_799_000_000).unwrap()
}

pub(crate) fn serving(id: i32) -> BrokerFacts {
    BrokerFacts {
        state: BrokerState::Serving,
        incarnation: format!("incarnation-of-{id}"),
        started_at: Some(started_at()),
        rack: Some(["a", "b", "c"][usize::try_from(id % 3).unwrap()].to_owned()),
        replicas: 0,
        in_sync: 0,
        leaders: 0,
        preferred: 0,
        preferred_led: 0,
        cordoned: false,
        drain: false,
    }
}

pub(crate) fn healthy(brokers: i32) -> ClusterFacts {
    ClusterFacts {
        confirmed: true,
        controller_id: Some(0),
        voters: (0..brokers.min(3)).collect(),
        brokers: (0..brokers).map(|id| (id, serving(id))).collect(),
        offline_partitions: 0,
        under_replicated_partitions: 0,
        under_min_isr_partitions: 0,
        rebalancing: false,
        dynamic_config: BTreeMap::new(),
    }
}

pub(crate) fn member(id: i32) -> QuorumMember {
    QuorumMember {
        id,
        directory: format!("directory-of-{id}"),
        reachable: true,
    }
}

/// A quorum of these voters, all of whom answer.
pub(crate) fn quorum(voters: &[i32]) -> QuorumFacts {
    QuorumFacts {
        voters: voters.iter().copied().map(member).collect(),
        ..QuorumFacts::default()
    }
}

/// Xorshift: a history depends on nothing but its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}
