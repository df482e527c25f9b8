//! Changed broker settings. What brokers take while they run restarts none; for the rest, one broker
//! after the other is restarted, and only while every other one serves. What they refuse changes
//! nothing.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use klamm_crds::{DeletionPolicy, KafkaCluster};
use klamm_e2e::kubernetes::{
    BROKERS, CLUSTER, Example, SteadyLoad, condition, is_healthy, wait_for,
};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::every_broker_deleted::is_ready;
use crate::operator_deleted::delete_operator;

const TOPIC: &str = "config-changed";
const PARTITIONS: i32 = 6;
const SETTING: (&str, u32) = ("log.retention.check.interval.ms", 60_000);
/// Not in the example.
const DYNAMIC_SETTING: (&str, &str) = ("log.retention.hours", "48");
const ROLLOUT_LIMIT: Duration = Duration::from_secs(300);
const CONDITION_LIMIT: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The operator is killed when the first broker has been stopped; the next one goes on.
pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let before = uids(example).await?;
    let load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    let (key, value) = SETTING;
    set(example, json!({key: value})).await?;
    let clusters = example.api::<KafkaCluster>();
    let what = "every broker was restarted";
    let met = |cluster: Option<&KafkaCluster>| cluster.is_some_and(is_healthy);
    let mut rollout = pin!(wait_for(&clusters, CLUSTER, what, ROLLOUT_LIMIT, met));
    let mut killed = false;
    loop {
        tokio::select! {
            ended = &mut rollout => { ended?; break; }
            missing = missing_brokers(example) => {
                let missing = missing?;
                ensure!(missing <= 1, "{missing} brokers were down at the same time");
                if missing == 1 && !killed {
                    killed = true;
                    delete_operator(example).await?;
                }
            }
        }
    }
    let after = uids(example).await?;
    let restarted = |(name, uid): (&String, &Option<String>)| before[name] != *uid;
    ensure!(
        after.iter().all(restarted),
        "not every broker was restarted"
    );
    let config = example.api::<ConfigMap>().get("demo-config").await?;
    let line = format!("{key}={value}\n");
    let mut versions = config.data.iter().flat_map(|data| data.values());
    ensure!(
        versions.any(|version| version.contains(&line)),
        "{:?}",
        config.data
    );

    let outcome = load.stop_and_verify()?;
    println!(
        "    {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    Ok(())
}

/// A topic's default is taken by running brokers, and so is its return to what it was.
pub(crate) async fn without_restart(example: &Example) -> Result<()> {
    example.healthy().await?;
    let before = uids(example).await?;
    let (key, value) = DYNAMIC_SETTING;
    set(example, json!({key: value})).await?;
    dynamic_config_is(example, &[key]).await?;
    set(example, json!({key: null})).await?;
    dynamic_config_is(example, &[]).await?;
    example.healthy().await?;
    ensure!(uids(example).await? == before, "a broker was restarted");
    Ok(())
}

/// The brokers' word is a condition, and nothing is restarted.
pub(crate) async fn refused(example: &Example) -> Result<()> {
    example.healthy().await?;
    let before = uids(example).await?;
    set(
        example,
        json!({"num.network.thread": 3, "log.segment.bytes": "many"}),
    )
    .await?;
    let clusters = example.api::<KafkaCluster>();
    let what = "the condition says what to correct";
    wait_for(&clusters, CLUSTER, what, CONDITION_LIMIT, |cluster| {
        cluster.is_some_and(|cluster| {
            let status = cluster.status.as_ref();
            let conditions = status.map_or(&[][..], |status| &status.conditions);
            let generation = cluster.metadata.generation;
            condition(conditions, "SpecValid", "False", generation).is_some_and(|refused| {
                refused.reason == "InvalidConfig"
                    && refused.message.contains("unknown configuration key")
                    && refused.message.contains("must be a whole number")
            })
        })
    })
    .await?;
    set(
        example,
        json!({"num.network.thread": null, "log.segment.bytes": null}),
    )
    .await?;
    example.healthy().await?;
    ensure!(uids(example).await? == before, "a broker was restarted");
    Ok(())
}

async fn set(example: &Example, config: serde_json::Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"config": config}}));
    let clusters = example.api::<KafkaCluster>();
    clusters
        .patch(CLUSTER, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn dynamic_config_is(example: &Example, keys: &[&str]) -> Result<()> {
    let clusters = example.api::<KafkaCluster>();
    let what = "the status names what was set while brokers ran";
    wait_for(&clusters, CLUSTER, what, CONDITION_LIMIT, |cluster| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.dynamic_config == keys)
    })
    .await?;
    Ok(())
}

/// Uid of each broker's pod.
async fn uids(example: &Example) -> Result<BTreeMap<String, Option<String>>> {
    let pods = example.broker_pods().await?.into_iter();
    Ok(pods.map(|(name, pod)| (name, pod.uid())).collect())
}

/// How many brokers are not ready now.
async fn missing_brokers(example: &Example) -> Result<usize> {
    tokio::time::sleep(LOOK_INTERVAL).await;
    let pods = example.broker_pods().await?;
    let serving = pods.values().filter(|pod| is_ready(pod));
    Ok(BROKERS - serving.count())
}
