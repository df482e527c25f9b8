//! What the shell must observe before anything is planned: plain data.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;

/// Everything that concerns one cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub stateful_sets: Vec<StatefulSet>,
    pub services: Vec<Service>,
    pub volumes: Vec<PersistentVolumeClaim>,
    pub config_map: Option<ConfigMap>,
    pub network_policy: Option<NetworkPolicy>,
    pub pod_disruption_budget: Option<PodDisruptionBudget>,
    pub service_account: Option<ServiceAccount>,
    pub admin: Admin,
    /// Members of the metadata quorum, if its leader has told them.
    pub quorum: Option<QuorumFacts>,
    /// What the brokers were asked after that, see [`crate::kafka_cluster::question`].
    pub answers: Answers,
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
    /// Who the brokers' NetworkPolicies let in beside brokers; nothing if that is not known.
    pub operator_pods: Option<OperatorPods>,
}

/// How the operator's own pods are selected.
#[derive(Clone, Debug)]
pub struct OperatorPods {
    pub namespace: String,
    /// Labels that all of them have, and others in the namespace have not.
    pub labels: BTreeMap<String, String>,
}

/// The brokers' own view.
#[derive(Clone, Debug)]
pub enum Admin {
    /// Too few voters answered; why.
    Unreachable(String),
    /// The newest answer.
    Answered(ClusterFacts),
}

/// The brokers' answer to DescribeCluster.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// Whether the active controller has answered, while a majority of the voters followed it. If not,
    /// it is what a majority of the voters knew, which may be old.
    pub confirmed: bool,
    /// Active controller.
    pub controller_id: Option<i32>,
    pub voters: Vec<i32>,
    pub brokers: BTreeMap<i32, BrokerFacts>,
    /// Partitions without a leader.
    pub offline_partitions: u32,
    /// Partitions whose ISR is smaller than their replica set.
    pub under_replicated_partitions: u32,
    /// Partitions whose ISR is smaller than min.insync.replicas.
    pub under_min_isr_partitions: u32,
    /// Whether the controller moves replicas until every broker has its share.
    pub rebalancing: bool,
    /// Settings that were made for all brokers while they ran.
    pub dynamic_config: BTreeMap<String, String>,
}

/// A broker as the controller sees it.
#[derive(Clone, Debug)]
pub struct BrokerFacts {
    pub state: BrokerState,
    /// New for every process start.
    pub incarnation: String,
    /// When the process started, by the clock of its node; nothing when it is not known.
    pub started_at: Option<Timestamp>,
    pub rack: Option<String>,
    pub replicas: u32,
    /// Replicas that are in the ISR.
    pub in_sync: u32,
    pub leaders: u32,
    /// Partitions whose preferred leader it is.
    pub preferred: u32,
    /// Of these, those that it leads.
    pub preferred_led: u32,
    /// Gets no new replicas.
    pub cordoned: bool,
    /// Is being emptied by the controller, or was.
    pub drain: bool,
}

/// The active controller's answer to DescribeQuorum.
#[derive(Clone, Debug, Default)]
pub struct QuorumFacts {
    pub voters: Vec<QuorumMember>,
    pub learners: Vec<QuorumMember>,
    /// Directories of registered brokers that are no members, by id. A broker whose id is a member's as
    /// well has lost the disk on which it was that member.
    pub observers: BTreeMap<i32, String>,
}

/// A broker together with the directory that holds its metadata log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuorumMember {
    pub id: i32,
    /// UUID of the directory.
    pub directory: String,
    /// Has answered within the election time-out.
    pub reachable: bool,
}

/// State of a registered broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BrokerState {
    /// Not heartbeating, or not caught up with the metadata yet.
    Fenced,
    /// Alive, with replicas that are not in sync.
    CatchingUp,
    Serving,
    /// Moving its leaders away before it stops, or prepared for a restart.
    Draining,
}

/// Answers to the questions of one pass. None is asked twice.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By broker: whether it may be stopped.
    pub restarts: BTreeMap<i32, RestartVerdict>,
    pub config: Option<ConfigVerdicts>,
    /// By broker: how far it is emptied.
    pub drains: BTreeMap<i32, DrainProgress>,
    /// How far a rebalance is, or what it would move.
    pub rebalance: Option<RebalanceProgress>,
}

/// The answer to DrainStatus of one broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DrainProgress {
    Known {
        /// Size of the logs that the broker still has, if it has said so.
        bytes_left: Option<u64>,
        /// When a replica left last, by the controller's clock; or when it learned of the drain.
        last_progress_at: Option<Timestamp>,
        /// What keeps replicas from moving, in words; nothing when they move.
        blocked: Option<String>,
    },
    /// Nobody could tell; why.
    Unknown(String),
}

/// The answer to RebalanceStatus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RebalanceProgress {
    Known {
        /// Those that are moving included.
        partitions_left: u32,
        partitions_moving: u32,
        /// When there were more for the last time, by the controller's clock; or when it learned of the
        /// rebalance.
        last_progress_at: Option<Timestamp>,
        /// What keeps anything new from moving, in words. Partitions may not be counted meanwhile.
        paused: Option<String>,
    },
    /// Nobody could tell; why.
    Unknown(String),
}

/// The answer to CheckRestart of one broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestartVerdict {
    Safe,
    /// The first of `total` reasons.
    Unsafe {
        blockers: Vec<Blocker>,
        total: u32,
    },
    /// Nobody could tell; why.
    Unknown(String),
}

/// What forbids a restart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blocker {
    /// Topic and partition, unless it is the metadata quorum.
    pub partition: Option<(String, i32)>,
    pub reason: BlockerReason,
}

/// Why a restart would harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlockerReason {
    BelowMinIsr,
    Unavailable,
    QuorumLoss,
    NotCaughtUp,
    /// A reason that this version does not know.
    Other,
}

/// The answer to ValidateConfig.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigVerdicts {
    /// By key.
    Known(BTreeMap<String, KeyVerdict>),
    /// Nobody could tell; why.
    Unknown(String),
}

/// What becomes of a property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyVerdict {
    /// Running brokers take it.
    Dynamic,
    NeedsRestart,
    /// No broker would start with it; why.
    Refused(String),
}

impl Admin {
    /// Whether the controller says that the broker serves, be it without all its replicas in sync.
    #[must_use]
    pub fn serves(&self, id: i32) -> bool {
        self.broker(id).is_some_and(|broker| {
            matches!(broker.state, BrokerState::Serving | BrokerState::CatchingUp)
        })
    }

    /// The broker, if it is registered.
    #[must_use]
    pub fn broker(&self, id: i32) -> Option<&BrokerFacts> {
        match self {
            Self::Unreachable(_) => None,
            Self::Answered(facts) => facts.brokers.get(&id),
        }
    }

    /// The answer of an active controller that a majority follows.
    #[must_use]
    pub fn confirmed(&self) -> Option<&ClusterFacts> {
        match self {
            Self::Answered(facts) if facts.confirmed && facts.controller_id.is_some() => {
                Some(facts)
            }
            Self::Answered(_) | Self::Unreachable(_) => None,
        }
    }
}
