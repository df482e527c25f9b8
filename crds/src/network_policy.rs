//! `spec.networkPolicy` of a `KafkaCluster`: whether a NetworkPolicy protects its brokers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a NetworkPolicy protects the brokers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySettings {
    pub mode: NetworkPolicyMode,
}

/// Whether a NetworkPolicy protects the brokers. It takes a network plugin that enforces them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum NetworkPolicyMode {
    /// Clients reach the listeners, everybody health and metrics, and only brokers and the operator
    /// the gRPC port.
    #[default]
    Enabled,
    /// There is none; the one that the operator made is deleted.
    Disabled,
}
