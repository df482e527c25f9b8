//! Topics grow, get settings, and go or stay when their object is deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use klamm_crds::{DeletionPolicy, Topic};
use klamm_e2e::client::{Java, Kcat};
use klamm_e2e::kubernetes::{Example, Metadata, wait_for};
use klamm_e2e::process::wait_until;
use klamm_e2e::{messages, suite};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

const MESSAGES: std::ops::Range<u64> = 0..1000;
const DELETION_LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn grows(example: &Example) -> Result<()> {
    let topic = "grows";
    let java = Java::new(&example.external_bootstrap().await?)?;
    example
        .create_topic(topic, 3, DeletionPolicy::Delete)
        .await?;
    let config = json!({"retention.ms": 3_600_000, "segment.bytes": "1048576"});
    change(example, topic, json!({"partitions": 5, "config": config})).await?;
    let metadata = Metadata::read(&Kcat::new(java.bootstrap()))?;
    let partitions = metadata.topic(topic)?;
    ensure!(partitions.len() == 5, "{partitions:?}");
    ensure!(
        partitions.iter().all(|p| p.replicas().len() == 3),
        "{partitions:?}"
    );
    let settings = described_settings(&java, topic)?;
    ensure!(
        settings.contains("retention.ms=3600000") && settings.contains("segment.bytes=1048576"),
        "settings {settings:?}"
    );
    // null removes a key in a merge patch.
    change(example, topic, json!({"config": {"retention.ms": null}})).await?;
    let settings = described_settings(&java, topic)?;
    ensure!(
        !settings.contains("retention.ms") && settings.contains("segment.bytes=1048576"),
        "settings {settings:?}"
    );
    Ok(())
}

async fn change(example: &Example, topic: &str, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    let api = example.api::<Topic>();
    api.patch(topic, &PatchParams::default(), &patch).await?;
    example.synced_topic(topic).await?;
    Ok(())
}

/// The overrides, as Kafka's own tool prints them.
fn described_settings(java: &Java, topic: &str) -> Result<String> {
    let output = java
        .tool("TopicCommand")
        .args(["--describe", "--topic", topic])
        .run()?;
    let settings = output.stdout.split_once("Configs:");
    let settings = settings.with_context(|| format!("no settings in {}", output.stdout))?;
    Ok(settings.1.lines().next().unwrap_or_default().to_owned())
}

pub(crate) async fn deletion_policies(example: &Example) -> Result<()> {
    let kcat = example.kcat().await?;
    let stays = example
        .create_topic("stays", 3, DeletionPolicy::Retain)
        .await?;
    example
        .create_topic("goes", 3, DeletionPolicy::Delete)
        .await?;
    for topic in ["stays", "goes"] {
        suite::produce(&kcat, topic, MESSAGES, "none")?;
        delete(example, topic).await?;
    }
    wait_until("the topic is gone", DELETION_LIMIT, || {
        Metadata::read(&kcat).is_ok_and(|metadata| metadata.topic("goes").is_err())
    })?;
    let output = kcat.reader("stays").run()?;
    messages::verify(&[messages::parse(&output.stdout)?], MESSAGES)?;

    let adopted = example
        .create_topic("stays", 3, DeletionPolicy::Delete)
        .await?;
    let id = |topic: &Topic| {
        topic
            .status
            .as_ref()
            .and_then(|status| status.topic_id.clone())
    };
    ensure!(
        id(&adopted) == id(&stays),
        "another topic: {:?}, not {:?}",
        id(&adopted),
        id(&stays)
    );
    delete(example, "stays").await?;
    wait_until("the adopted topic is gone", DELETION_LIMIT, || {
        Metadata::read(&kcat).is_ok_and(|metadata| metadata.topic("stays").is_err())
    })
}

async fn delete(example: &Example, topic: &str) -> Result<()> {
    let api = example.api::<Topic>();
    api.delete(topic, &DeleteParams::default()).await?;
    wait_for(&api, topic, "the object is gone", DELETION_LIMIT, |topic| {
        topic.is_none()
    })
    .await?;
    Ok(())
}
