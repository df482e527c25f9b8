//! Prometheus metrics of the operator. `docs/monitoring.md` lists them all; a test holds the two
//! together.

mod conditions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use klamm_crds::KafkaCluster;
use kube::runtime::reflector::Store;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use conditions::ClusterConditions;

const DURATION_BUCKETS_SECONDS: [f64; 8] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Kind {
    kind: &'static str,
}

pub(crate) struct Metrics {
    registry: Registry,
    /// 1 in the replica that works.
    pub(crate) leader: Gauge,
    /// Broker pods replaced.
    pub(crate) replacements: Counter,
    reconciliations: Family<Outcome, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    conditions: ClusterConditions,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("klamm_operator");
        let durations: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS_SECONDS);
        let metrics = Self {
            leader: Gauge::default(),
            replacements: Counter::default(),
            reconciliations: Family::default(),
            durations: Family::new_with_constructor(durations),
            conditions: ClusterConditions::default(),
            registry: Registry::default(),
        };
        registry.register(
            "leader",
            "1 in the replica that works",
            metrics.leader.clone(),
        );
        let help = "Broker pods that were replaced";
        registry.register("broker_replacements", help, metrics.replacements.clone());
        let help = "Reconciliations by kind and outcome";
        registry.register("reconciliations", help, metrics.reconciliations.clone());
        let help = "Duration of reconciliations";
        registry.register(
            "reconciliation_duration_seconds",
            help,
            metrics.durations.clone(),
        );
        registry.register_collector(Box::new(metrics.conditions.clone()));
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// Counts one reconciliation.
    pub(crate) fn reconciled(&self, kind: &'static str, succeeded: bool, duration: Duration) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.reconciliations
            .get_or_create(&Outcome { kind, outcome })
            .inc();
        self.durations
            .get_or_create(&Kind { kind })
            .observe(duration.as_secs_f64());
    }

    /// Tells the conditions of these clusters from now on.
    pub(crate) fn watch_clusters(&self, clusters: Store<KafkaCluster>) {
        self.conditions.watch(clusters);
    }

    /// In the text format of OpenMetrics.
    pub(crate) fn encoded(&self) -> String {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry).expect("a String takes everything");
        encoded
    }
}
