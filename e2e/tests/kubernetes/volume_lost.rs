//! The volume of a voter is deleted while clients produce: the broker gets a new one, its replicas from
//! the others, and votes again as who it is now.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use klamm_crds::DeletionPolicy;
use klamm_e2e::client::Java;
use klamm_e2e::kubernetes::{CLUSTER, Example, Metadata, SteadyLoad};
use klamm_e2e::process::wait_until;
use kube::ResourceExt as _;
use kube::api::DeleteParams;

const TOPIC: &str = "volume-lost";
const PARTITIONS: i32 = 6;
const BROKER: i32 = 2;
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    let (kcat, java) = (example.kcat().await?, Java::new(&bootstrap)?);
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let vote = directory_with_vote(&java)?.context("the broker does not vote")?;
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    let volumes = example.api::<PersistentVolumeClaim>();
    let name = format!("{CLUSTER}-main-{BROKER}");
    let volume = format!("data-{name}");
    let uid = volumes.get(&volume).await?.uid().context("no uid")?;
    let params = DeleteParams::default();
    let deleted = Instant::now();
    volumes.delete(&volume, &params).await?;
    let pods = example.api::<Pod>();
    pods.delete(&format!("{name}-0"), &params).await?;
    wait_until("the broker votes with another disk", LIMIT, || {
        let found = directory_with_vote(&java).ok().flatten();
        found.is_some_and(|found| found != vote)
    })?;
    let voted = deleted.elapsed();
    wait_until("every replica is in sync", LIMIT, || {
        Metadata::read(&kcat).is_ok_and(|metadata| metadata.is_in_sync())
    })?;
    let in_sync = deleted.elapsed();
    ensure!(
        volumes.get(&volume).await?.uid().as_ref() != Some(&uid),
        "the volume was not deleted"
    );
    load.wait_for_progress()?;
    let outcome = load.stop_and_verify()?;
    println!(
        "    it voted again after {voted:.1?}, its replicas were seen in sync after {in_sync:.1?}, \
         {} messages, longest stall {:.1?}",
        outcome.acknowledged, outcome.longest_stall
    );
    let status = example.healthy().await?.status.unwrap_or_default();
    ensure!(status.voters == [0, 1, 2], "voters {:?}", status.voters);
    Ok(())
}

/// Nothing while the broker does not vote.
fn directory_with_vote(java: &Java) -> Result<Option<String>> {
    let tool = java.tool("MetadataQuorumCommand");
    let described = tool.args(["describe", "--replication"]).run()?.stdout;
    let directory = |row: &str| {
        let fields: Vec<_> = row.split_whitespace().collect();
        let votes = matches!(*fields.last()?, "Leader" | "Follower");
        let is_it = fields.first()?.parse() == Ok(BROKER);
        (is_it && votes).then_some((*fields.get(1)?).to_owned())
    };
    Ok(described.lines().find_map(directory))
}
