//! `spec.rollout` of a `KafkaCluster`: how carefully its brokers are restarted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How carefully brokers are restarted, one at a time and only while nothing is missing.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutPolicy {
    /// Time for which every broker must have been ready before the next one is restarted.
    #[schemars(range(min = 0, max = 86_400))]
    pub soak_seconds: i32,

    /// Of the partitions that a broker leads by preference, how many percent it must lead again
    /// before the next broker is restarted. 0: leaders are not waited for.
    #[schemars(range(min = 0, max = 100))]
    pub min_preferred_leaders_percent: i32,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            soak_seconds: 30,
            min_preferred_leaders_percent: 95,
        }
    }
}
