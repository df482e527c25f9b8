use std::collections::BTreeSet;

use jiff::Timestamp;
use klamm_crds::{KafkaCluster, KafkaClusterStatus};
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use operator_plan::conditions::{Truth, Verdict};
use serde_json::json;

use super::*;

/// What users read about the metrics.
const DOCUMENTATION: &str = include_str!("../../../docs/monitoring.md");

fn cluster(name: &str) -> KafkaCluster {
    let mut cluster: KafkaCluster = serde_json::from_value(json!({
        "apiVersion": "klamm.dev/v1alpha1",
        "kind": "KafkaCluster",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "controllers": {"count": 3},
            "pools": [{"name": "main", "replicas": 3, "storage": {"size": "1Gi"}}],
            "listeners": [{"name": "internal", "type": "Internal", "port": 9092}],
        },
    }))
    .unwrap();
    let verdict = Verdict::new(Truth::False, "CanaryFailed", "the image does not exist");
    let now = Timestamp::UNIX_EPOCH;
    cluster.status = Some(KafkaClusterStatus {
        conditions: vec![verdict.into_condition("UpToDate", &[], Some(1), now)],
        ..KafkaClusterStatus::default()
    });
    cluster
}

#[test]
fn a_clusters_conditions_are_told_for_as_long_as_it_exists() {
    let metrics = Metrics::default();
    let (store, mut writer) = reflector::store();
    metrics.watch_clusters(store);
    for name in ["demo", "other"] {
        writer.apply_watcher_event(&Event::Apply(cluster(name)));
    }
    let line = |name| {
        format!(
            "klamm_operator_cluster_condition{{namespace=\"shop\",klamm_cluster=\"{name}\",\
             condition=\"UpToDate\",status=\"False\",reason=\"CanaryFailed\"}} 1\n"
        )
    };
    assert!(metrics.encoded().contains(&line("demo")));
    assert!(metrics.encoded().contains(&line("other")));

    writer.apply_watcher_event(&Event::Delete(cluster("demo")));
    assert!(!metrics.encoded().contains(&line("demo")));
    assert!(metrics.encoded().contains(&line("other")));
}

#[test]
fn the_documentation_lists_every_metric() {
    let metrics = Metrics::default();
    // Without a reconciliation there is nothing to tell of them.
    metrics.reconciled("Topic", true, Duration::from_millis(3));
    let text = metrics.encoded();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exposed: BTreeSet<_> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{suffix}"), kind.to_owned())
        })
        .collect();
    let rows = DOCUMENTATION.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        let is_ours = name.starts_with("klamm_operator_");
        is_ours.then_some((name.to_owned(), cells.next()?.to_owned()))
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), exposed);
}
