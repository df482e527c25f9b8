//! Clients do not need the operator: it may go at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use klamm_crds::DeletionPolicy;
use klamm_e2e::kubernetes::{Example, OPERATOR_NAMESPACE, SteadyLoad, wait_for};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};

const TOPIC: &str = "operator-deleted";
const PARTITIONS: i32 = 6;
const LEASE: &str = "klamm-operator";
const TAKEOVER_LIMIT: Duration = Duration::from_secs(60);
/// What clients may see on a machine that is busy starting a pod.
const STALL_MAX: Duration = Duration::from_secs(2);

pub(crate) async fn under_load(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let brokers = containers(example).await?;
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;

    delete_operator(example).await?;
    example
        .create_topic("made-by-the-next", 1, DeletionPolicy::Delete)
        .await?;

    load.wait_for_progress()?;
    let outcome = load.stop_and_verify()?;
    ensure!(outcome.longest_stall < STALL_MAX, "{outcome:?}");
    ensure!(
        containers(example).await? == brokers,
        "brokers were restarted"
    );
    Ok(())
}

/// Kills the operator at once and waits until another one works.
pub(crate) async fn delete_operator(example: &Example) -> Result<()> {
    let client = &example.access.client;
    let pods = Api::<Pod>::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let leases = Api::<Lease>::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let former = holder(&leases.get(LEASE).await?).context("nobody holds the lease")?;
    let operators = ListParams::default().labels("app.kubernetes.io/name=klamm-operator");
    for pod in pods.list(&operators).await? {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
    }
    wait_for(
        &leases,
        LEASE,
        "another operator works",
        TAKEOVER_LIMIT,
        |lease| {
            lease
                .and_then(holder)
                .is_some_and(|holder| holder != former)
        },
    )
    .await?;
    Ok(())
}

fn holder(lease: &Lease) -> Option<String> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .clone()
        .filter(|holder| !holder.is_empty())
}

/// Uid and number of container restarts of each broker.
async fn containers(example: &Example) -> Result<BTreeMap<String, (Option<String>, i32)>> {
    let restarts = |pod: &Pod| {
        let containers = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        containers.map(|container| container.restart_count).sum()
    };
    let pods = example.broker_pods().await?.into_iter();
    Ok(pods
        .map(|(name, pod)| (name, (pod.uid(), restarts(&pod))))
        .collect())
}
