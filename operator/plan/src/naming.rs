//! Names, labels, annotations and ports of everything that belongs to a cluster.

use std::collections::BTreeMap;

/// On every object of a cluster: the name of its `KafkaCluster`.
pub const CLUSTER_LABEL: &str = "klamm.dev/cluster";
/// On the objects of one broker: the name of its pool.
pub const POOL_LABEL: &str = "klamm.dev/pool";
/// On the objects of one broker: its id.
pub const BROKER_LABEL: &str = "klamm.dev/broker-id";
/// On every object that the operator made.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`], field manager and reporter of events.
pub const OPERATOR: &str = "klamm-operator";

/// On a pod template and its pods: hash of the template.
pub const REVISION_ANNOTATION: &str = "klamm.dev/revision";
/// On every applied object: hash of what was applied.
pub const APPLIED_ANNOTATION: &str = "klamm.dev/applied";
/// On a volume: id of the cluster whose data it holds.
pub const CLUSTER_ID_ANNOTATION: &str = "klamm.dev/cluster-id";
/// On a volume: voters of that cluster.
pub const VOTERS_ANNOTATION: &str = "klamm.dev/voters";
/// On a volume: zone of its broker.
pub const ZONE_ANNOTATION: &str = "klamm.dev/zone";

/// On a volume: its broker was removed, and its data are on others.
pub const RETIRED_ANNOTATION: &str = "klamm.dev/retired";

/// Finalizer of topics that are deleted with their object.
pub const TOPIC_FINALIZER: &str = "klamm.dev/delete-topic";

/// The port of brokers for clients inside Kubernetes.
pub const CLIENT_PORT_NAME: &str = "client";
/// The port of brokers for clients outside.
pub const EXTERNAL_PORT_NAME: &str = "external";
/// gRPC between brokers and from the operator.
pub const RPC_PORT: i32 = 9095;
/// Health and metrics.
pub const HTTP_PORT: i32 = 9404;

/// Key of the brokers' shared token in its Secret.
pub const TOKEN_KEY: &str = "token";

/// A broker's StatefulSet.
#[must_use]
pub fn stateful_set(cluster: &str, pool: &str, id: i32) -> String {
    format!("{cluster}-{pool}-{id}")
}

/// The one pod of a broker's StatefulSet.
#[must_use]
pub fn pod(cluster: &str, pool: &str, id: i32) -> String {
    format!("{cluster}-{pool}-{id}-0")
}

/// A broker's volume.
#[must_use]
pub fn volume(cluster: &str, pool: &str, id: i32) -> String {
    format!("data-{cluster}-{pool}-{id}")
}

/// The headless Service.
#[must_use]
pub fn brokers_service(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// The Service for clients inside Kubernetes.
#[must_use]
pub fn bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-bootstrap")
}

/// The node port Service for clients outside.
#[must_use]
pub fn external_bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-external-bootstrap")
}

/// A broker's node port Service.
#[must_use]
pub fn external_broker_service(cluster: &str, id: i32) -> String {
    format!("{cluster}-external-{id}")
}

#[must_use]
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The Secret with the token that authenticates gRPC calls.
#[must_use]
pub fn token_secret(cluster: &str) -> String {
    format!("{cluster}-broker-token")
}

#[must_use]
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-broker")
}

#[must_use]
pub fn pod_disruption_budget(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

#[must_use]
pub fn network_policy(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// Host name of a broker, stable over restarts.
#[must_use]
pub fn host(cluster: &str, namespace: &str, pool: &str, id: i32) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        pod(cluster, pool, id),
        brokers_service(cluster)
    )
}

/// Labels of an object of the cluster.
#[must_use]
pub fn cluster_labels(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "klamm-broker"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/part-of", "klamm"),
        (MANAGED_BY_LABEL, OPERATOR),
        (CLUSTER_LABEL, cluster),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Labels of an object of one broker.
#[must_use]
pub fn broker_labels(cluster: &str, pool: &str, id: i32) -> BTreeMap<String, String> {
    let mut labels = cluster_labels(cluster);
    labels.insert(POOL_LABEL.to_owned(), pool.to_owned());
    labels.insert(BROKER_LABEL.to_owned(), id.to_string());
    labels
}

/// Selects all broker pods of a cluster.
#[must_use]
pub fn cluster_selector(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned())])
}

/// Selects the pod of one broker.
#[must_use]
pub fn broker_selector(cluster: &str, id: i32) -> BTreeMap<String, String> {
    let mut selector = cluster_selector(cluster);
    selector.insert(BROKER_LABEL.to_owned(), id.to_string());
    selector
}
