//! Whatever belongs to a cluster and is deleted by hand comes back as it was.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use klamm_e2e::kubernetes::{Example, OPERATOR_NAMESPACE, wait_for};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clients_outside::everything_is_there;

const RETURN_LIMIT: Duration = Duration::from_secs(30);

/// The StatefulSet last: its pod goes with it, and needs all the others to come back.
pub(crate) async fn come_back(example: &Example) -> Result<()> {
    let bootstrap = example.external_bootstrap().await?;
    for service in [
        "demo-brokers",
        "demo-bootstrap",
        "demo-external-bootstrap",
        "demo-external-0",
    ] {
        comes_back::<Service>(example, service, &["/spec/selector", "/spec/ports"]).await?;
    }
    comes_back::<ConfigMap>(example, "demo-config", &["/data"]).await?;
    comes_back::<Secret>(example, "demo-broker-token", &["/data"]).await?;
    comes_back::<NetworkPolicy>(example, "demo-brokers", &["/spec"]).await?;
    operator_is_let_in(example).await?;
    comes_back::<PodDisruptionBudget>(example, "demo-brokers", &["/spec/selector"]).await?;
    comes_back::<StatefulSet>(example, "demo-main-0", &["/spec/template"]).await?;
    ensure!(
        example.external_bootstrap().await? == bootstrap,
        "the address changed"
    );
    everything_is_there(&example.kcat().await?)
}

/// Not every network plugin enforces the policy; what the chart told the operator about its own pods can
/// be looked at everywhere.
async fn operator_is_let_in(example: &Example) -> Result<()> {
    let policy = example.api::<NetworkPolicy>().get("demo-brokers").await?;
    let rules = policy.spec.and_then(|spec| spec.ingress);
    let mut peers = rules
        .iter()
        .flatten()
        .flat_map(|rule| rule.from.iter().flatten());
    let operator = peers.find(|peer| peer.namespace_selector.is_some());
    let operator = operator.context("the gRPC port is open to everybody")?;
    let labels = |selector: &Option<LabelSelector>| {
        let labels = selector.as_ref()?.match_labels.as_ref()?.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Some(labels.join(","))
    };
    let namespace = labels(&operator.namespace_selector);
    ensure!(
        namespace.as_deref() == Some(&format!("kubernetes.io/metadata.name={OPERATOR_NAMESPACE}")),
        "{namespace:?}"
    );
    let pods = labels(&operator.pod_selector).context("any pod is let in")?;
    let client = example.access.client.clone();
    let operators = Api::<Pod>::namespaced(client, OPERATOR_NAMESPACE)
        .list(&ListParams::default().labels(&pods))
        .await?;
    ensure!(!operators.items.is_empty(), "no pod has the labels {pods}");
    Ok(())
}

/// Deletes the object and waits for its successor, which is the same at the pointers.
async fn comes_back<K>(example: &Example, name: &str, pointers: &[&str]) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static,
{
    let api = example.api::<K>();
    let before = api.get(name).await?;
    api.delete(name, &DeleteParams::background()).await?;
    let what = format!("{} comes back", K::kind(&()));
    let after = wait_for(&api, name, &what, RETURN_LIMIT, |object| {
        object.is_some_and(|object| object.uid() != before.uid())
    })
    .await?;
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    for pointer in pointers {
        let (before, after) = (before.pointer(pointer), after.pointer(pointer));
        ensure!(
            before.is_some() && before == after,
            "{name}: {before:?} became {after:?}"
        );
    }
    Ok(())
}
