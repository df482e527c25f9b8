//! Carries out a plan, in its order: identity is recorded before anything is made from it, and a
//! StatefulSet has its new revision before the pod goes.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use klamm_crds::KafkaCluster;
use kube::api::{PostParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use operator_plan::conditions::{Notice, Severity};
use operator_plan::kafka_cluster::{Action, Judged, Plan, Replacement};
use operator_plan::naming;
use operator_plan::resources::token_secret;
use operator_plan::validate::Validated;
use uuid::Uuid;

use super::ReconcileError;
use super::observe::Observation;
use crate::broker_admin::{AdminError, BrokerAdmin};
use crate::context::Context;
use crate::{apply, events};

/// The cluster as it is after its identity was recorded.
pub(super) async fn execute(
    context: &Context,
    cluster: KafkaCluster,
    plan: &Plan,
    observation: &Observation,
) -> Result<KafkaCluster, ReconcileError> {
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
    delete_unwanted(context, &cluster.namespace().unwrap_or_default(), plan).await?;
    if let Some(change) = &plan.config_change {
        let (brokers, controller_id) = controller(observation)?;
        tracing::info!(?change, "changing settings of running brokers");
        brokers.apply_config(controller_id, change).await?;
    }
    if let Some(action) = &plan.action {
        act(context, &cluster, action, observation).await?;
    }
    Ok(cluster)
}

async fn delete_unwanted(
    context: &Context,
    namespace: &str,
    plan: &Plan,
) -> Result<(), kube::Error> {
    for name in &plan.delete_services {
        let api = context.namespaced::<Service>(namespace);
        apply::delete(&api, name, None).await?;
    }
    if let Some(policy) = &plan.delete_network_policy {
        tracing::info!(?policy, "deleting the NetworkPolicy");
        let api = context.namespaced::<NetworkPolicy>(namespace);
        apply::delete(&api, &policy.name, Some(preconditions(policy))).await?;
    }
    for volume in &plan.delete_volumes {
        tracing::info!(?volume, "deleting the volume of a removed broker");
        let api = context.namespaced::<PersistentVolumeClaim>(namespace);
        apply::delete(&api, &volume.name, Some(preconditions(volume))).await?;
    }
    Ok(())
}

/// Takes the one step.
async fn act(
    context: &Context,
    cluster: &KafkaCluster,
    action: &Action,
    observation: &Observation,
) -> Result<(), ReconcileError> {
    tracing::info!(?action, "acting");
    match action {
        Action::Replace(replacement) => replace(context, cluster, replacement).await?,
        Action::RestoreLeaders => {
            let (brokers, controller_id) = controller(observation)?;
            brokers.restore_leaders(controller_id).await?;
        }
        Action::TransferController(_) => {
            let (brokers, controller_id) = controller(observation)?;
            brokers.transfer_controller(controller_id).await?;
        }
        Action::Prepare { id, incarnation } => {
            let (brokers, controller_id) = controller(observation)?;
            brokers
                .prepare_restart(controller_id, *id, incarnation)
                .await?;
        }
        Action::Scale(step) => {
            let (brokers, controller_id) = controller(observation)?;
            brokers.scale(controller_id, step).await?;
        }
        Action::Stop(set) => {
            let api = context.namespaced::<StatefulSet>(&cluster.namespace().unwrap_or_default());
            apply::delete(&api, &set.name, Some(preconditions(set))).await?;
        }
    }
    Ok(())
}

/// The brokers, and the active controller among them.
fn controller(observation: &Observation) -> Result<(&BrokerAdmin, i32), AdminError> {
    let none = || AdminError::Unavailable("there is no active controller".to_owned());
    let brokers = observation.brokers.as_ref().ok_or_else(none)?;
    let facts = observation.observed.admin.confirmed();
    let id = facts.and_then(|facts| facts.controller_id);
    Ok((brokers, id.ok_or_else(none)?))
}

/// Deletes the broker's pod, of which the StatefulSet makes a new one. It must be as it was when it was
/// judged, not its successor, and nothing may have happened to it since.
async fn replace(
    context: &Context,
    cluster: &KafkaCluster,
    replacement: &Replacement,
) -> Result<(), kube::Error> {
    apply::apply(&context.client, &replacement.stateful_set).await?;
    let Some(pod) = &replacement.pod else {
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
    apply::delete(&api, &pod.name, Some(preconditions(pod))).await?;
    context.metrics.replacements.inc();
    Ok(())
}

fn preconditions(judged: &Judged) -> Preconditions {
    Preconditions {
        uid: Some(judged.uid.clone()),
        resource_version: judged.resource_version.clone(),
    }
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
