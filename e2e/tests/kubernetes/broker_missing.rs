//! While a broker is missing no other one is restarted, whatever changes; what was waiting goes on by
//! itself when it is back. Clients go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use klamm_crds::{DeletionPolicy, KafkaCluster};
use klamm_e2e::kubernetes::{CLUSTER, Example, SteadyLoad, condition, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

const TOPIC: &str = "broker-missing";
const PARTITIONS: i32 = 6;
/// One of the voters.
const BROKER: i32 = 2;
const SETTING: &str = "log.retention.check.interval.ms";
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    let name = format!("{CLUSTER}-main-{BROKER}-0");
    let pods = example.api::<Pod>();
    let pod = pods.get(&name).await?;
    let node = pod.spec.and_then(|spec| spec.node_name);
    let node = node.context("the broker has no node")?;
    let nodes = Api::<Node>::all(example.access.client.clone());
    // Its volume is there: it can run nowhere else.
    nodes.cordon(&node).await?;
    let held = nobody_else_stops(example, &name).await;
    nodes.uncordon(&node).await?;
    held?;
    example.healthy().await?;
    load.wait_for_progress()?;

    let outcome = load.stop_and_verify()?;
    println!(
        "    {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    Ok(())
}

/// Deletes the pod, which stays away, and changes a setting that takes a restart.
async fn nobody_else_stops(example: &Example, name: &str) -> Result<()> {
    let before = uids(example).await?;
    let pods = example.api::<Pod>();
    pods.delete(name, &DeleteParams::default()).await?;
    let clusters = example.api::<KafkaCluster>();
    let patch = Patch::Merge(json!({"spec": {"config": {SETTING: 120_000}}}));
    clusters
        .patch(CLUSTER, &PatchParams::default(), &patch)
        .await?;
    let what = "the condition says that restarts wait for the missing broker";
    wait_for(&clusters, CLUSTER, what, LIMIT, |cluster| {
        cluster.is_some_and(|cluster| {
            let status = cluster.status.as_ref();
            let conditions = status.map_or(&[][..], |status| &status.conditions);
            let generation = cluster.metadata.generation;
            condition(conditions, "UpToDate", "False", generation)
                .is_some_and(|told| told.reason == "Unscheduled")
        })
    })
    .await?;
    let after = uids(example).await?;
    let restarted: Vec<_> = (before.iter())
        .filter(|(other, uid)| *other != name && after.get(*other) != Some(*uid))
        .collect();
    ensure!(restarted.is_empty(), "restarted: {restarted:?}");
    Ok(())
}

async fn uids(example: &Example) -> Result<BTreeMap<String, Option<String>>> {
    let pods = example.broker_pods().await?.into_iter();
    Ok(pods.map(|(name, pod)| (name, pod.uid())).collect())
}
