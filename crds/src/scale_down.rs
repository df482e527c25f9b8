//! `spec.scaleDown` of a `KafkaCluster`: what becomes of brokers that are removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DeletionPolicy;

/// What becomes of brokers that are removed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// What happens to the volume of a removed broker, whose replicas are all on others by then. A
    /// retained one is of no more use to the cluster.
    pub volume_policy: DeletionPolicy,
}
