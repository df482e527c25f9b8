//! `spec.rebalance` of a `KafkaCluster` and how far a rebalance is: when replicas move between brokers
//! that stay.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When replicas move so that every broker has its share of replicas, bytes and leaders.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RebalancePolicy {
    pub mode: RebalanceMode,
}

/// When replicas move between brokers that stay. They are copied within the replication throttle, and
/// not while brokers are restarted or removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RebalanceMode {
    /// Once brokers were added.
    #[default]
    OnScaleUp,
    /// Whenever brokers carry unequally much.
    Automatic,
    /// Never; a rebalance that is under way is broken off. What has moved stays where it is.
    Disabled,
}

/// A rebalance that is under way.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RebalanceStatus {
    /// Partitions that are moving or still to be moved. Of some only the preferred leader changes.
    pub partitions_left: i32,
    /// Partitions that are being copied to other brokers now.
    pub partitions_moving: i32,
    /// When there were more partitions left for the last time, or when the active controller learned of
    /// the rebalance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
}
