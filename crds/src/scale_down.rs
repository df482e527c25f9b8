//! `spec.scaleDown` of a `KafkaCluster`: what becomes of brokers that are removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DeletionPolicy;

/// What becomes of brokers that are removed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// What happens to the volume of a removed broker, whose replicas are all on others by then. A
    /// retained one is of no more use to the cluster.
    pub volume_policy: DeletionPolicy,

    /// A broker of which no replica has left for so long makes the cluster `Degraded`. Nothing else
    /// comes of it: a broker with replicas is never removed.
    #[schemars(range(min = 1, max = 604_800))]
    pub drain_stall_timeout_seconds: i32,
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            volume_policy: DeletionPolicy::default(),
            drain_stall_timeout_seconds: 1_800,
        }
    }
}
