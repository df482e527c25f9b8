//! The CEL rules, evaluated as the API server does: the examples pass, and each mistake is refused
//! with a message that says what to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use klamm_crds::{KafkaCluster, Topic};
use kube::core::cel::{validate_cel, validate_cel_update};
use serde_json::{Value, json};

fn example(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap()
}

fn cluster() -> Value {
    example(include_str!("../../examples/cluster.yaml"))
}

fn topic() -> Value {
    example(include_str!("../../examples/topic.yaml"))
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        _ => parent[key] = value,
    }
    object
}

fn refused_cluster(object: Value) -> String {
    let cluster: KafkaCluster = serde_json::from_value(object).unwrap();
    validate_cel(&cluster).unwrap_err().to_string()
}

fn refused_topic_update(new: Value) -> String {
    let new: Topic = serde_json::from_value(new).unwrap();
    let old: Topic = serde_json::from_value(topic()).unwrap();
    validate_cel_update(&new, &old).unwrap_err().to_string()
}

#[test]
fn examples_are_accepted() {
    validate_cel(&serde_json::from_value::<KafkaCluster>(cluster()).unwrap()).unwrap();
    validate_cel(&serde_json::from_value::<Topic>(topic()).unwrap()).unwrap();
}

#[test]
fn bad_clusters_are_refused_with_advice() {
    let cases = [
        ("/metadata/name", json!("my.cluster"), "no dots"),
        ("/spec/controllers/count", json!(2), "1, 3 or 5"),
        (
            "/spec/pools/0/replicas",
            json!(1),
            "set controllers.count to 1",
        ),
        ("/spec/pools/0/storage/size", json!("big"), "such as 500Gi"),
        ("/spec/config/node.id", json!(7), "set by the operator"),
        (
            "/spec/config/klamm.rpc.listener",
            json!("x"),
            "set by the operator",
        ),
        ("/spec/config/Min ISR", json!(2), "Kafka property names"),
        (
            "/spec/listeners/0/port",
            json!(9404),
            "brokers use themselves",
        ),
        ("/spec/listeners/0/port", json!(9094), "different ports"),
        (
            "/spec/listeners/0/type",
            json!("NodePort"),
            "exactly one listener",
        ),
        ("/spec/listeners/0/nodePort", json!(30000), "type NodePort"),
        (
            "/spec/listeners/0/networkPolicyPeers",
            json!([{}]),
            "a peer has an ipBlock",
        ),
        (
            "/spec/listeners/0/networkPolicyPeers",
            json!([{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]),
            "a peer has an ipBlock",
        ),
    ];
    for (pointer, value, advice) in cases {
        let message = refused_cluster(with(cluster(), pointer, value));
        assert!(message.contains(advice), "{pointer}: {message}");
    }
}

#[test]
fn peers_without_a_network_policy_are_refused() {
    let peers = json!([
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "shop"}}},
        {"ipBlock": {"cidr": "10.0.0.0/8"}},
    ]);
    let restricted = with(cluster(), "/spec/listeners/0/networkPolicyPeers", peers);
    validate_cel(&serde_json::from_value::<KafkaCluster>(restricted.clone()).unwrap()).unwrap();
    let disabled = json!({"mode": "Disabled"});
    let message = refused_cluster(with(restricted, "/spec/networkPolicy", disabled.clone()));
    assert!(message.contains("restrict nobody"), "{message}");
    let open = with(cluster(), "/spec/networkPolicy", disabled);
    validate_cel(&serde_json::from_value::<KafkaCluster>(open).unwrap()).unwrap();
}

#[test]
fn unsafe_cluster_changes_are_refused() {
    let old: KafkaCluster = serde_json::from_value(cluster()).unwrap();
    let cases = [
        ("/spec/pools/0/storage/size", json!("500Mi"), "not shrink"),
        (
            "/spec/pools/0/storage/storageClass",
            json!("fast"),
            "keeps its class",
        ),
    ];
    for (pointer, value, advice) in cases {
        let new = serde_json::from_value(with(cluster(), pointer, value)).unwrap();
        let message = validate_cel_update::<KafkaCluster>(&new, &old)
            .unwrap_err()
            .to_string();
        assert!(message.contains(advice), "{pointer}: {message}");
    }
    let grown = with(cluster(), "/spec/pools/0/storage/size", json!("2Gi"));
    validate_cel_update::<KafkaCluster>(&serde_json::from_value(grown).unwrap(), &old).unwrap();
    let fewer = with(cluster(), "/spec/controllers/count", json!(1));
    validate_cel_update::<KafkaCluster>(&serde_json::from_value(fewer).unwrap(), &old).unwrap();
}

#[test]
fn unsafe_topic_changes_are_refused() {
    let cases = [
        ("/spec/partitions", json!(3), "cannot shrink"),
        ("/spec/replicationFactor", json!(2), "cannot be changed"),
        (
            "/spec/topicName",
            json!("other"),
            "topicName cannot be changed",
        ),
        (
            "/spec/clusterRef/name",
            json!("other"),
            "clusterRef cannot be changed",
        ),
        (
            "/spec/topicName",
            json!("__offsets"),
            "belong to the brokers",
        ),
    ];
    for (pointer, value, advice) in cases {
        let message = refused_topic_update(with(topic(), pointer, value));
        assert!(message.contains(advice), "{pointer}: {message}");
    }
}
