//! An image that does not exist stops at the first broker, and the former one heals it without help.
//! One that exists gets to all of them, one after the other. Clients go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use klamm_crds::{DeletionPolicy, KafkaCluster};
use klamm_e2e::kubernetes::{CLUSTER, Example, SteadyLoad, condition, is_healthy, wait_for};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

const TOPIC: &str = "image-changed";
const PARTITIONS: i32 = 6;
/// A registry that nobody serves, so that it is refused at once.
const MISSING_IMAGE: &str = "127.0.0.1:1/klamm:missing";
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let before = example.broker_pods().await?;
    let former = images(&before);
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    set_image(example, json!(MISSING_IMAGE)).await?;
    degraded(example, "CanaryFailed").await?;
    load.wait_for_progress()?;
    let stopped = example.broker_pods().await?;
    let changed = |pods: &BTreeMap<String, Pod>| {
        let changed = pods
            .iter()
            .filter(|(name, pod)| before[*name].uid() != pod.uid());
        changed.count()
    };
    ensure!(changed(&stopped) == 1, "{:?}", images(&stopped));

    set_image(example, Value::Null).await?;
    healthy(example).await?;
    let healed = example.broker_pods().await?;
    ensure!(images(&healed) == former, "{:?}", images(&healed));
    ensure!(changed(&healed) == 1, "another broker was restarted");

    let other = another_name(former.values().next().context("no brokers")?)?;
    set_image(example, json!(other)).await?;
    healthy(example).await?;
    let rolled = images(&example.broker_pods().await?);
    ensure!(rolled.values().all(|image| *image == other), "{rolled:?}");

    let outcome = load.stop_and_verify()?;
    println!(
        "    {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    Ok(())
}

/// The image was loaded under two names.
fn another_name(image: &str) -> Result<String> {
    let (repository, _) = image.rsplit_once(':').context("an image without a tag")?;
    Ok(format!("{repository}:dev"))
}

async fn set_image(example: &Example, image: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"image": image}}));
    let clusters = example.api::<KafkaCluster>();
    clusters
        .patch(CLUSTER, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn degraded(example: &Example, reason: &str) -> Result<()> {
    let clusters = example.api::<KafkaCluster>();
    wait_for(&clusters, CLUSTER, reason, LIMIT, |cluster| {
        cluster.is_some_and(|cluster| {
            let status = cluster.status.as_ref();
            let conditions = status.map_or(&[][..], |status| &status.conditions);
            let generation = cluster.metadata.generation;
            condition(conditions, "UpToDate", "False", generation)
                .is_some_and(|told| told.reason == reason)
        })
    })
    .await?;
    Ok(())
}

async fn healthy(example: &Example) -> Result<()> {
    let what = "every broker runs the wanted image";
    let met = |cluster: Option<&KafkaCluster>| cluster.is_some_and(is_healthy);
    wait_for(&example.api(), CLUSTER, what, LIMIT, met).await?;
    Ok(())
}

fn images(pods: &BTreeMap<String, Pod>) -> BTreeMap<String, String> {
    let image = |pod: &Pod| pod.spec.as_ref()?.containers.first()?.image.clone();
    let named = pods.iter().map(|(name, pod)| (name.clone(), image(pod)));
    named
        .map(|(name, image)| (name, image.unwrap_or_default()))
        .collect()
}
