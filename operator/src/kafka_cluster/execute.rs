//! Carries out a plan, in its order: identity is recorded before anything is made from it, and a
//! StatefulSet has its new revision before the pod goes.

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use klamm_crds::KafkaCluster;
use kube::api::PostParams;
use kube::{Resource as _, ResourceExt as _};
use operator_plan::conditions::{Notice, Severity};
use operator_plan::kafka_cluster::{Plan, Replacement};
use operator_plan::naming;
use operator_plan::resources::token_secret;
use operator_plan::validate::Validated;
use uuid::Uuid;

use super::observe::Observation;
use crate::context::Context;
use crate::{apply, events};

/// The cluster as it is after its identity was recorded.
pub(super) async fn execute(
    context: &Context,
    cluster: KafkaCluster,
    plan: &Plan,
    observation: &Observation,
) -> Result<KafkaCluster, kube::Error> {
    let cluster = match &plan.record_first {
        Some(status) => {
            let api = context.namespaced(&cluster.namespace().unwrap_or_default());
            let recorded = KafkaCluster {
                status: Some(status.clone()),
                ..cluster
            };
            api.replace_status(&recorded.name_any(), &PostParams::default(), &recorded)
                .await?
        }
        None => cluster,
    };
    if let (Some(valid), None) = (&plan.validated, &observation.token) {
        create_token(
            context,
            &cluster,
            valid,
            !observation.observed.pods.is_empty(),
        )
        .await?;
    }
    for object in &plan.apply {
        apply::apply(&context.client, object).await?;
    }
    for name in &plan.delete_services {
        let api = context.namespaced::<Service>(&cluster.namespace().unwrap_or_default());
        apply::delete(&api, name, None).await?;
    }
    if let Some(replacement) = &plan.replace {
        replace(context, &cluster, replacement).await?;
    }
    Ok(cluster)
}

/// Deletes the broker's pod, of which the StatefulSet makes a new one. The uid makes sure that it is
/// the pod that was judged, not its successor.
async fn replace(
    context: &Context,
    cluster: &KafkaCluster,
    replacement: &Replacement,
) -> Result<(), kube::Error> {
    apply::apply(&context.client, &replacement.stateful_set).await?;
    let Some((name, uid)) = &replacement.pod else {
        return Ok(());
    };
    let notice = Notice {
        severity: Severity::Normal,
        reason: "ReplacingPod".to_owned(),
        message: format!(
            "the pod of broker {} is replaced: {}",
            replacement.broker_id, replacement.reason
        ),
    };
    events::publish(context, &cluster.object_ref(&()), &[notice]).await;
    let api = context.namespaced::<Pod>(&cluster.namespace().unwrap_or_default());
    apply::delete(&api, name, Some(uid)).await?;
    context.metrics.replacements.inc();
    Ok(())
}

/// Makes the token's Secret: the one that was there before, if this process has seen it.
async fn create_token(
    context: &Context,
    cluster: &KafkaCluster,
    valid: &Validated,
    brokers_run: bool,
) -> Result<(), kube::Error> {
    let uid = cluster.uid().unwrap_or_default();
    let remembered = context.remembered_token(&uid);
    if remembered.is_none() && brokers_run {
        let notice = Notice {
            severity: Severity::Warning,
            reason: "TokenReplaced".to_owned(),
            message: format!(
                "the brokers' token was lost and a new one is made; running brokers hold the old \
                 one: restart all of them with kubectl delete pod -l {}={}",
                naming::CLUSTER_LABEL,
                valid.name
            ),
        };
        events::publish(context, &cluster.object_ref(&()), &[notice]).await;
    }
    let token = remembered
        .unwrap_or_else(|| format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    let api = context.namespaced::<Secret>(&valid.namespace);
    match api
        .create(&PostParams::default(), &token_secret(valid, &token))
        .await
    {
        Ok(_) => context.remember_token(&uid, &token),
        // Made by whoever was faster; it is read the next time.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
