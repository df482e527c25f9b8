//! All brokers are killed at the same time: what was acknowledged is on their volumes.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use klamm_crds::DeletionPolicy;
use klamm_e2e::kubernetes::{BROKERS, Example, SteadyLoad, wait_for};
use kube::ResourceExt as _;
use kube::api::DeleteParams;

use crate::clients_outside::everything_is_there;

const TOPIC: &str = "every-broker-deleted";
const PARTITIONS: i32 = 6;
const READY_LIMIT: Duration = Duration::from_secs(180);

pub(crate) async fn data_stays(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    example
        .create_topic(TOPIC, PARTITIONS, DeletionPolicy::Delete)
        .await?;
    let mut load = SteadyLoad::start(&bootstrap, TOPIC, PARTITIONS)?;
    let before = example.broker_pods().await?;
    ensure!(before.len() == BROKERS, "{} brokers", before.len());
    let pods = example.api::<Pod>();
    // No time to say goodbye: this is as near to a power loss as a kubelet goes.
    let params = DeleteParams::default().grace_period(0);
    for name in before.keys() {
        pods.delete(name, &params).await?;
    }
    for (name, former) in &before {
        wait_for(
            &pods,
            name,
            "the broker is ready again",
            READY_LIMIT,
            |pod| pod.is_some_and(|pod| pod.uid() != former.uid() && is_ready(pod)),
        )
        .await?;
    }
    load.wait_for_progress()?;
    load.stop_and_verify()?;
    example.healthy().await?;
    everything_is_there(&example.kcat().await?)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
