//! What the shell must observe before anything is planned: plain data.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// Everything that concerns one cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub stateful_sets: Vec<StatefulSet>,
    pub services: Vec<Service>,
    pub volumes: Vec<PersistentVolumeClaim>,
    pub config_map: Option<ConfigMap>,
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    pub service_account: Option<ServiceAccount>,
    pub admin: Admin,
    /// Settings of the operator.
    pub defaults: Defaults,
    /// Random; becomes the id of a cluster that has none.
    pub fresh_cluster_id: String,
}

/// Settings of the operator that concern brokers.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image of clusters that name none.
    pub image: String,
    pub image_pull_policy: Option<String>,
}

/// The brokers' own view.
#[derive(Clone, Debug)]
pub enum Admin {
    /// Too few voters answered; why.
    Unreachable(String),
    /// The newest answer of a majority of the voters.
    Answered(ClusterFacts),
}

/// The brokers' answer to DescribeCluster.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// Active controller.
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, BrokerFacts>,
    /// Partitions without a leader.
    pub offline_partitions: u32,
    /// Partitions whose ISR is smaller than their replica set.
    pub under_replicated_partitions: u32,
    /// Partitions whose ISR is smaller than min.insync.replicas.
    pub under_min_isr_partitions: u32,
}

/// A broker as the controller sees it.
#[derive(Clone, Debug)]
pub struct BrokerFacts {
    pub state: BrokerState,
    pub rack: Option<String>,
    pub replicas: u32,
    pub leaders: u32,
}

/// State of a registered broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BrokerState {
    /// Not heartbeating, or not caught up with the metadata yet.
    Fenced,
    Serving,
    /// Moving its leaders away before it stops.
    Draining,
}

impl Admin {
    /// Whether the controller says that the broker serves.
    #[must_use]
    pub fn serves(&self, id: i32) -> bool {
        match self {
            Self::Unreachable(_) => false,
            Self::Answered(facts) => facts
                .brokers
                .get(&id)
                .is_some_and(|broker| broker.state == BrokerState::Serving),
        }
    }
}
