//! Carries out a topic's plan: finalizers at the API server, everything else at the controller.

use klamm_crds::Topic;
use klamm_proto::v1::AlterTopicRequest;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use operator_plan::naming;
use operator_plan::topic::{Action, Plan};
use serde_json::json;

use super::observe::Observation;
use super::{ReconcileError, TopicContext};
use crate::broker_admin::{AdminError, BrokerAdmin, replica_assignments};

/// The id of the topic if it was created.
pub(super) async fn execute(
    context: &TopicContext,
    topic: &Topic,
    plan: &Plan,
    observation: &Observation,
) -> Result<Option<String>, ReconcileError> {
    let mut created = None;
    for action in &plan.actions {
        match action {
            Action::AddFinalizer | Action::RemoveFinalizer => {
                set_finalizer(context, topic, action == &Action::AddFinalizer).await?;
            }
            Action::Create { .. } | Action::Alter { .. } | Action::Delete { .. } => {
                let (admin, id) = observation.controller.as_ref().ok_or_else(|| {
                    AdminError::Unavailable("there is no active controller".to_owned())
                })?;
                let topic_id = at_controller(admin, *id, topic.topic_name(), action).await?;
                created = created.or(topic_id);
            }
        }
    }
    Ok(created)
}

async fn at_controller(
    admin: &BrokerAdmin,
    controller_id: i32,
    name: &str,
    action: &Action,
) -> Result<Option<String>, AdminError> {
    match action {
        Action::Create {
            assignments,
            config,
        } => {
            tracing::info!(topic = name, partitions = assignments.len(), "creating");
            admin
                .create_topic(controller_id, name, assignments, config)
                .await
                .map(Some)
        }
        Action::Alter {
            topic_id,
            partitions_expected,
            added_partitions,
            set_config,
            reset_config,
        } => {
            tracing::info!(topic = name, ?set_config, ?reset_config, "altering");
            let request = AlterTopicRequest {
                name: name.to_owned(),
                topic_id: topic_id.clone(),
                expected_partitions: u32::try_from(*partitions_expected).unwrap_or(u32::MAX),
                added_partitions: replica_assignments(added_partitions),
                set_config: set_config.clone().into_iter().collect(),
                reset_config: reset_config.clone(),
            };
            admin.alter_topic(controller_id, request).await?;
            Ok(None)
        }
        Action::Delete { topic_id } => {
            tracing::info!(topic = name, topic_id, "deleting");
            admin.delete_topic(controller_id, name, topic_id).await?;
            Ok(None)
        }
        Action::AddFinalizer | Action::RemoveFinalizer => Ok(None),
    }
}

/// The version makes the API server refuse if somebody else changed the list in between.
async fn set_finalizer(
    context: &TopicContext,
    topic: &Topic,
    present: bool,
) -> Result<(), kube::Error> {
    let mut finalizers = topic.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != naming::TOPIC_FINALIZER);
    if present {
        finalizers.push(naming::TOPIC_FINALIZER.to_owned());
    }
    let patch = json!({
        "metadata": { "finalizers": finalizers, "resourceVersion": topic.resource_version() }
    });
    let api = context
        .shared
        .namespaced::<Topic>(&topic.namespace().unwrap_or_default());
    api.patch(
        &topic.name_any(),
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await?;
    Ok(())
}
