//! The API server refuses what can be seen to be wrong, with a message that says what to do; what
//! needs more than the object is refused by the operator, in the status.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use klamm_crds::{KafkaCluster, Topic};
use klamm_e2e::kubernetes::{CLUSTER, EXAMPLE_TOPIC, Example, condition, wait_for};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Resource};
use serde_json::{Value, json};

const STATUS_LIMIT: Duration = Duration::from_secs(20);
const MANAGER: &str = "klamm-e2e";

pub(crate) async fn of_clusters(example: &Example) -> Result<()> {
    let new = [
        ("/metadata/name", json!("my.cluster"), "no dots"),
        (
            "/metadata/name",
            json!("a-name-that-is-longer-than-thirty"),
            "at most 30 characters",
        ),
        ("/spec/controllers/count", json!(2), "must be 1, 3 or 5"),
        (
            "/spec/pools/0/replicas",
            json!(1),
            "set controllers.count to 1",
        ),
        (
            "/spec/pools/0/replicas",
            json!(0),
            "greater than or equal to 1",
        ),
        ("/spec/pools/0/name", json!("Main"), "should match"),
        ("/spec/pools/0/storage/size", json!("big"), "such as 500Gi"),
        ("/spec/pools", json!([]), "at least 1 items"),
        ("/spec/config/node.id", json!(7), "set by the operator"),
        (
            "/spec/config/advertised.listeners",
            json!("x"),
            "set by the operator",
        ),
        ("/spec/config/Min ISR", json!(2), "Kafka property names"),
        (
            "/spec/listeners/0/port",
            json!(9404),
            "brokers use themselves",
        ),
        (
            "/spec/listeners/0/port",
            json!(80),
            "between 1024 and 65535",
        ),
        ("/spec/listeners/0/port", json!(9094), "different ports"),
        (
            "/spec/listeners/0/type",
            json!("NodePort"),
            "exactly one listener must be of type Internal",
        ),
        (
            "/spec/listeners/0/type",
            json!("LoadBalancer"),
            "supported values: \"Internal\", \"NodePort\"",
        ),
        (
            "/spec/listeners/0/nodePort",
            json!(30000),
            "belong to listeners of type NodePort",
        ),
        (
            "/spec/listeners/0/networkPolicyPeers",
            json!([{}]),
            "a peer has an ipBlock",
        ),
        (
            "/spec/networkPolicy",
            json!({"mode": "Off"}),
            "supported values: \"Enabled\", \"Disabled\"",
        ),
        (
            "/spec/deletionPolicy",
            json!("Keep"),
            "supported values: \"Retain\", \"Delete\"",
        ),
        ("/spec/brokers", json!(3), "field not declared in schema"),
    ];
    let cluster = serde_yaml::from_str(include_str!("../../../examples/cluster.yaml"))?;
    let cluster = with(cluster, "/metadata/name", json!("another"));
    let api = untyped::<KafkaCluster>(example);
    accept(&api, &cluster).await?;
    for (pointer, value, advice) in new {
        refuse(&api, &with(cluster.clone(), pointer, value), advice).await?;
    }
    peers_need_a_network_policy(&api, cluster).await?;
    let changes = [
        (
            json!({"pools": [pool("main", "500Mi")]}),
            "storage.size can grow, not shrink",
        ),
        (
            json!({"pools": [pool("other", "1Gi")]}),
            "a pool cannot be removed or renamed",
        ),
    ];
    for (spec, advice) in changes {
        refuse_change(&api, CLUSTER, spec, advice).await?;
    }
    Ok(())
}

async fn peers_need_a_network_policy(api: &Api<DynamicObject>, cluster: Value) -> Result<()> {
    let peers = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "shop"}}}]);
    let restricted = with(cluster, "/spec/listeners/0/networkPolicyPeers", peers);
    accept(api, &restricted).await?;
    let open = with(
        restricted,
        "/spec/networkPolicy",
        json!({"mode": "Disabled"}),
    );
    refuse(api, &open, "restrict nobody").await?;
    Ok(())
}

pub(crate) async fn of_topics(example: &Example) -> Result<()> {
    let new = [
        ("/spec/partitions", json!(0), "greater than or equal to 1"),
        ("/spec/partitions", json!("many"), "expected numeric"),
        (
            "/spec/replicationFactor",
            json!(0),
            "greater than or equal to 1",
        ),
        ("/spec/topicName", json!("no spaces"), "should match"),
        (
            "/spec/topicName",
            json!("__offsets"),
            "belong to the brokers",
        ),
        ("/spec/topicName", json!(".."), "must not be '.' or '..'"),
        ("/spec/config/Retention", json!(1), "such as retention.ms"),
        (
            "/spec/clusterRef",
            json!({}),
            "spec.clusterRef.name: Required value",
        ),
        (
            "/spec/deletionPolicy",
            json!("Keep"),
            "supported values: \"Retain\", \"Delete\"",
        ),
        ("/spec/replicas", json!(3), "field not declared in schema"),
    ];
    let topic = serde_yaml::from_str(include_str!("../../../examples/topic.yaml"))?;
    let topic = with(topic, "/metadata/name", json!("another"));
    let api = untyped::<Topic>(example);
    accept(&api, &topic).await?;
    for (pointer, value, advice) in new {
        refuse(&api, &with(topic.clone(), pointer, value), advice).await?;
    }
    let changes = [
        (
            json!({"partitions": 3}),
            "records of the removed partitions would be lost",
        ),
        (
            json!({"replicationFactor": 2}),
            "replicationFactor cannot be changed",
        ),
        (json!({"topicName": "other"}), "topicName cannot be changed"),
        (
            json!({"clusterRef": {"name": "other"}}),
            "clusterRef cannot be changed",
        ),
    ];
    for (spec, advice) in changes {
        refuse_change(&api, EXAMPLE_TOPIC, spec, advice).await?;
    }
    Ok(())
}

/// A line break in a value would forge a line of the brokers' properties file. The API server does
/// not look into values; the operator makes nothing of such a cluster.
pub(crate) async fn found_by_operator(example: &Example) -> Result<()> {
    let cluster = serde_yaml::from_str(include_str!("../../../examples/cluster.yaml"))?;
    let cluster = with(cluster, "/metadata/name", json!("forged"));
    let cluster = with(
        cluster,
        "/spec/config/log.retention.ms",
        json!("1\nnode.id=7"),
    );
    let cluster: KafkaCluster = serde_json::from_value(cluster)?;
    let clusters = example.api::<KafkaCluster>();
    clusters.create(&PostParams::default(), &cluster).await?;
    wait_for(
        &clusters,
        "forged",
        "the spec is refused",
        STATUS_LIMIT,
        |cluster| {
            cluster.is_some_and(|cluster| {
                let status = cluster.status.as_ref();
                let conditions = status.map_or(&[][..], |status| &status.conditions);
                condition(
                    conditions,
                    "SpecValid",
                    "False",
                    cluster.metadata.generation,
                )
                .is_some_and(|refused| {
                    refused.reason == "InvalidConfig"
                        && refused.message.contains("must be one line")
                })
            })
        },
    )
    .await?;
    let of_cluster = ListParams::default().labels("klamm.dev/cluster=forged");
    let pods = example.api::<Pod>().list(&of_cluster).await?;
    ensure!(pods.items.is_empty(), "a refused cluster has pods");
    clusters
        .delete("forged", &DeleteParams::background())
        .await?;

    let topic = serde_yaml::from_str(include_str!("../../../examples/topic.yaml"))?;
    let topic = with(topic, "/metadata/name", json!("homeless"));
    let topic = with(topic, "/spec/clusterRef/name", json!("nowhere"));
    let topics = example.api::<Topic>();
    let topic: Topic = serde_json::from_value(topic)?;
    topics.create(&PostParams::default(), &topic).await?;
    wait_for(
        &topics,
        "homeless",
        "the cluster is missed",
        STATUS_LIMIT,
        |topic| {
            topic.is_some_and(|topic| {
                let status = topic.status.as_ref();
                let conditions = status.map_or(&[][..], |status| &status.conditions);
                condition(conditions, "Ready", "False", topic.metadata.generation)
                    .is_some_and(|ready| ready.reason == "ClusterMissing")
            })
        },
    )
    .await?;
    topics
        .delete("homeless", &DeleteParams::background())
        .await?;
    Ok(())
}

/// The API without the types of this crate, which could not say what is wrong.
fn untyped<K: Resource<DynamicType = ()>>(example: &Example) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<K>(&());
    Api::namespaced_with(example.access.client.clone(), &example.namespace, &resource)
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer into the object");
    let parent = object.pointer_mut(parent).expect("what the example has");
    match parent {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        _ => parent[key] = value,
    }
    object
}

fn pool(name: &str, size: &str) -> Value {
    json!({"name": name, "replicas": 3, "storage": {"size": size}})
}

fn dry_run() -> PatchParams {
    PatchParams::apply(MANAGER).dry_run().validation_strict()
}

async fn accept(api: &Api<DynamicObject>, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    api.patch(name, &dry_run(), &Patch::Apply(object)).await?;
    Ok(())
}

async fn refuse(api: &Api<DynamicObject>, object: &Value, advice: &str) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let result = api.patch(name, &dry_run(), &Patch::Apply(object)).await;
    check(result, advice, object)
}

async fn refuse_change(
    api: &Api<DynamicObject>,
    name: &str,
    spec: Value,
    advice: &str,
) -> Result<()> {
    let patch = json!({"spec": spec});
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let result = api.patch(name, &params, &Patch::Merge(&patch)).await;
    check(result, advice, &patch)
}

fn check(result: kube::Result<DynamicObject>, advice: &str, object: &Value) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.message.contains(advice) => Ok(()),
        Err(error) => bail!("instead of {advice:?}: {error}\n{object}"),
        Ok(_) => bail!("accepted, instead of {advice:?}: {object}"),
    }
}
