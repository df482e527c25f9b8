//! A changed broker setting: one broker after the other is restarted, and only while every other
//! one serves.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use klamm_crds::{DeletionPolicy, KafkaCluster};
use klamm_e2e::kubernetes::{BROKERS, CLUSTER, Example, SteadyLoad, is_healthy, wait_for};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::every_broker_deleted::is_ready;

const TOPIC: &str = "config-changed";
const PARTITIONS: i32 = 6;
const SETTING: (&str, u32) = ("log.retention.check.interval.ms", 60_000);
const ROLLOUT_LIMIT: Duration = Duration::from_secs(240);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let before = example.broker_pods().await?;
    let load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    let (key, value) = SETTING;
    let patch = Patch::Merge(json!({"spec": {"config": {key: value}}}));
    let clusters = example.api::<KafkaCluster>();
    clusters
        .patch(CLUSTER, &PatchParams::default(), &patch)
        .await?;
    let what = "every broker was restarted";
    let met = |cluster: Option<&KafkaCluster>| cluster.is_some_and(is_healthy);
    let mut rollout = pin!(wait_for(&clusters, CLUSTER, what, ROLLOUT_LIMIT, met));
    loop {
        tokio::select! {
            ended = &mut rollout => { ended?; break; }
            missing = missing_brokers(example) => {
                let missing = missing?;
                ensure!(missing <= 1, "{missing} brokers were down at the same time");
            }
        }
    }
    let after = example.broker_pods().await?;
    let restarted = |(name, pod): (&String, &Pod)| before[name].uid() != pod.uid();
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

/// How many brokers are not ready now.
async fn missing_brokers(example: &Example) -> Result<usize> {
    tokio::time::sleep(LOOK_INTERVAL).await;
    let pods = example.broker_pods().await?;
    let serving = pods.values().filter(|pod| is_ready(pod));
    Ok(BROKERS - serving.count())
}
