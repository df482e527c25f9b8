//! A broker's pod is deleted while clients produce: its leaders move, it comes back and catches up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use klamm_crds::DeletionPolicy;
use klamm_e2e::kubernetes::{CLUSTER, Example, Metadata, SteadyLoad};
use klamm_e2e::process::wait_until;
use kube::ResourceExt as _;
use kube::api::DeleteParams;

const TOPIC: &str = "broker-deleted";
const PARTITIONS: i32 = 6;
const BROKER: i32 = 1;
const MOVE_LIMIT: Duration = Duration::from_secs(30);
const REJOIN_LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    let kcat = example.kcat().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let leads = |metadata: &Metadata| metadata.leaders().values().any(|leader| *leader == BROKER);
    ensure!(
        leads(&Metadata::read(&kcat)?),
        "broker {BROKER} leads nothing"
    );
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    let pods = example.api::<Pod>();
    let name = format!("{CLUSTER}-main-{BROKER}-0");
    let uid = pods.get(&name).await?.uid().context("no uid")?;
    let deleted = Instant::now();
    pods.delete(&name, &DeleteParams::default()).await?;
    wait_until("other brokers lead", MOVE_LIMIT, || {
        Metadata::read(&kcat).is_ok_and(|metadata| {
            let mut leaders = metadata.leaders().into_values();
            !leads(&metadata) && leaders.all(|leader| leader >= 0)
        })
    })?;
    let moved = deleted.elapsed();
    load.wait_for_progress()?;
    wait_until("every replica is in sync", REJOIN_LIMIT, || {
        Metadata::read(&kcat).is_ok_and(|metadata| metadata.is_in_sync())
    })?;
    let rejoined = deleted.elapsed();
    ensure!(
        pods.get(&name).await?.uid().as_ref() != Some(&uid),
        "the pod was not deleted"
    );
    load.wait_for_progress()?;
    let outcome = load.stop_and_verify()?;
    println!(
        "    leaders moved after {moved:.1?}, the broker was in sync after {rejoined:.1?}, \
         {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    example.healthy().await?;
    Ok(())
}
