//! A fourth broker joins and gets its share of the replicas that there are. Then one of the three voters is removed: its vote and its
//! replicas go to others first, and its volume stays. Clients notice neither.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use klamm_crds::{DeletionPolicy, KafkaCluster, KafkaClusterStatus};
use klamm_e2e::kubernetes::{CLUSTER, Example, Metadata, SteadyLoad, is_healthy, wait_for};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;

const TOPIC: &str = "scaled";
const PARTITIONS: i32 = 8;
const NEW_BROKER: i32 = 3;
const REMOVED_BROKER: i32 = 1;
const LIMIT: Duration = Duration::from_secs(240);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;
    let start = Instant::now();
    let status = scale(example, 4, &[]).await?;
    let joined = start.elapsed();
    ensure!(status.rebalance.is_none(), "{:?}", status.rebalance);
    ensure!(status.brokers.iter().all(|broker| !broker.joining));
    let kcat = example.kcat().await?;
    let hosts = |metadata: &Metadata, id: i32| -> Result<usize> {
        let partitions = metadata.topic(TOPIC)?.iter();
        Ok(partitions.filter(|p| p.replicas().contains(&id)).count())
    };
    let before = Metadata::read(&kcat)?;
    ensure_share(&before)?;
    ensure!(
        hosts(&before, NEW_BROKER)? > 0,
        "the new broker has nothing of the topic"
    );
    ensure!(hosts(&before, REMOVED_BROKER)? > 0, "the test needs one");

    let start = Instant::now();
    let status = scale(example, 3, &[REMOVED_BROKER]).await?;
    let removed = start.elapsed();
    load.wait_for_progress()?;
    let outcome = load.stop_and_verify()?;
    println!(
        "    joined after {joined:.1?}, removed after {removed:.1?}, {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    let ids: Vec<_> = status.brokers.iter().map(|broker| broker.id).collect();
    ensure!(ids == [0, 2, NEW_BROKER], "brokers {ids:?}");
    ensure!(status.voters == ids, "voters {:?}", status.voters);
    let after = Metadata::read(&example.kcat().await?)?;
    ensure!(
        after
            .brokers
            .iter()
            .all(|broker| broker.id != REMOVED_BROKER)
    );
    ensure!(hosts(&after, REMOVED_BROKER)? == 0);
    ensure!(after.is_in_sync(), "{after:?}");

    let name = format!("{CLUSTER}-main-{REMOVED_BROKER}");
    let set = example.api::<StatefulSet>().get_opt(&name).await?;
    ensure!(set.is_none(), "the StatefulSet is still there");
    let volumes = example.api::<PersistentVolumeClaim>();
    let volume = volumes.get(&format!("data-{name}")).await?;
    ensure!(volume.annotations().contains_key("klamm.dev/retired"));
    Ok(())
}

/// The new broker has as many replicas of all topics as others have, as far as zones allow: it shares its
/// zone with one other.
fn ensure_share(metadata: &Metadata) -> Result<()> {
    let all = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let count = |id: i32| all.clone().filter(|p| p.replicas().contains(&id)).count();
    let counts: Vec<_> = metadata
        .brokers
        .iter()
        .map(|b| (b.id, count(b.id)))
        .collect();
    let zone_mate = (0..NEW_BROKER).map(count).min().unwrap_or(0);
    let new = count(NEW_BROKER);
    ensure!(
        new.abs_diff(zone_mate) <= 1,
        "replicas by broker: {counts:?}"
    );
    Ok(())
}

/// The status once there are so many brokers.
async fn scale(example: &Example, replicas: i32, remove: &[i32]) -> Result<KafkaClusterStatus> {
    let clusters = example.api::<KafkaCluster>();
    let mut pools = clusters.get(CLUSTER).await?.spec.pools;
    pools[0].replicas = replicas;
    pools[0].remove = remove.to_vec();
    let patch = Patch::Merge(json!({"spec": {"pools": pools}}));
    clusters
        .patch(CLUSTER, &PatchParams::default(), &patch)
        .await?;
    let what = format!("{replicas} brokers serve and everything is replicated");
    let met = |cluster: Option<&KafkaCluster>| cluster.is_some_and(is_healthy);
    let cluster = wait_for(&clusters, CLUSTER, &what, LIMIT, met).await?;
    let status = cluster.and_then(|cluster| cluster.status);
    status.context("the cluster is gone")
}
