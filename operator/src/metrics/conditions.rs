//! The conditions of all clusters, as their statuses have them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use klamm_crds::KafkaCluster;
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Read from what is watched, so that a cluster that is deleted is told of no more.
#[derive(Clone, Default)]
pub(super) struct ClusterConditions(Arc<OnceLock<Store<KafkaCluster>>>);

impl ClusterConditions {
    /// Has the conditions told from now on.
    pub(super) fn watch(&self, clusters: Store<KafkaCluster>) {
        // Called once, when the controller of clusters starts.
        let _ = self.0.set(clusters);
    }
}

impl fmt::Debug for ClusterConditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterConditions")
    }
}

impl Collector for ClusterConditions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "1 for what each condition of a KafkaCluster says now";
        let name = "cluster_condition";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let clusters = self.0.get().map(Store::state).unwrap_or_default();
        for cluster in clusters {
            let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
            let status = cluster.status.as_ref();
            for condition in status.iter().flat_map(|status| &status.conditions) {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("klamm_cluster", name.as_str()),
                    ("condition", condition.type_.as_str()),
                    ("status", condition.status.as_str()),
                    ("reason", condition.reason.as_str()),
                ];
                ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
