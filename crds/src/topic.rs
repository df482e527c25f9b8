//! `Topic`: a topic that shall exist in a `KafkaCluster` of the same namespace.

#![allow(
    unreachable_pub,
    reason = "KubeSchema expands to private copies of the types"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConfigValue, DeletionPolicy};

/// A topic of a KafkaCluster.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "klamm.dev",
    version = "v1alpha1",
    kind = "Topic",
    doc = "A topic of a KafkaCluster.",
    namespaced,
    status = "TopicStatus",
    shortname = "kt",
    category = "klamm",
    derive = "PartialEq",
    selectable = ".spec.clusterRef.name",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topicName"),
    printcolumn(name = "Partitions", type_ = "integer", json_path = ".status.partitions"),
    printcolumn(
        name = "RF",
        type_ = "integer",
        json_path = ".status.replicationFactor",
        description = "Replication factor"
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
        name = "TopicId",
        type_ = "string",
        json_path = ".status.topicId",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.topicName) || self.metadata.name.size() <= 249")
        .message("the name is too long for a topic (249 characters): set spec.topicName"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.topicName) ? self.topicName : '') == (has(oldSelf.topicName) ? oldSelf.topicName : '')")
        .message("topicName cannot be changed: create another Topic"),
    validation = Rule::new("(has(self.replicationFactor) ? self.replicationFactor : 0) == (has(oldSelf.replicationFactor) ? oldSelf.replicationFactor : 0)")
        .message("replicationFactor cannot be changed after creation in this version"),
)]
pub struct TopicSpec {
    /// KafkaCluster in the same namespace.
    pub cluster_ref: ClusterRef,

    /// Name of the topic. Default: `metadata.name`.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    #[x_kube(
        validation = Rule::new("self != '.' && self != '..'")
            .message("topicName must not be '.' or '..'"),
        validation = Rule::new("!self.startsWith('__')")
            .message("topics whose names begin with __ belong to the brokers"),
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,

    /// Number of partitions. Can grow, not shrink.
    #[schemars(range(min = 1, max = 10000))]
    #[x_kube(
        validation = Rule::new("self >= oldSelf")
            .message("partitions cannot shrink: records of the removed partitions would be lost")
    )]
    pub partitions: i32,

    /// Replicas of each partition. Default: `default.replication.factor` of the cluster.
    #[schemars(range(min = 1, max = 32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,

    /// Topic configuration by Kafka's names. A key that is removed here goes back to its default; a
    /// key that was never here is left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.matches('^[a-z0-9][a-z0-9._]{0,127}$'))")
            .message("config keys are Kafka topic settings, such as retention.ms")
    )]
    pub config: BTreeMap<String, ConfigValue>,

    /// What to do when the topic exists already.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// What happens to the topic when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A KafkaCluster by name.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.name == oldSelf.name")
        .message("clusterRef cannot be changed: create another Topic")
)]
pub struct ClusterRef {
    #[schemars(length(min = 1, max = 30))]
    pub name: String,
}

/// What to do with a topic that was not made by this object.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AdoptionPolicy {
    /// Adopt it if its partitions and replication factor are those of the spec.
    #[default]
    IfMatches,
    /// Adopt it; partitions and config are brought to those of the spec.
    Always,
    /// Leave it alone and report a conflict.
    Never,
}

/// What the operator last saw.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the topic in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// Identity of the topic. A topic of the same name with another id is not touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Keys that this object has set.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub managed_config: Vec<String>,
    /// Overrides that somebody else has set.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub unmanaged_config: Vec<String>,
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Topic {
    /// Name of the topic in the cluster.
    #[must_use]
    pub fn topic_name(&self) -> &str {
        match &self.spec.topic_name {
            Some(name) => name,
            None => self.metadata.name.as_deref().unwrap_or_default(),
        }
    }
}
