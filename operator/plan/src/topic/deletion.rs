//! A Topic that is being deleted. It has a finalizer only if the topic shall go with it.
//!
//! The topic is deleted only when it is certain that it is the one which this object made or
//! adopted; otherwise it is left, and never is the object's deletion held up by a cluster that is
//! gone.

use k8s_openapi::jiff::Timestamp;
use klamm_crds::{DeletionPolicy, Topic, TopicStatus};

use super::{Action, Observed, Plan, former, has_finalizer};
use crate::conditions::{Truth, Verdict};
use crate::observed::Admin;

pub(super) fn plan(topic: &Topic, observed: &Observed, now: Timestamp) -> Plan {
    let status = former(topic);
    if !has_finalizer(topic) {
        return Plan {
            actions: Vec::new(),
            status,
            settled: true,
        };
    }
    match decide(topic, &status, observed) {
        Ok(actions) => Plan {
            actions,
            status,
            settled: true,
        },
        Err(blocked) => {
            let mut status = status;
            let condition = blocked.into_condition(
                "DeletionBlocked",
                &status.conditions,
                topic.metadata.generation,
                now,
            );
            status
                .conditions
                .retain(|former| former.type_ != condition.type_);
            status.conditions.push(condition);
            Plan {
                actions: Vec::new(),
                status,
                settled: false,
            }
        }
    }
}

fn decide(
    topic: &Topic,
    status: &TopicStatus,
    observed: &Observed,
) -> Result<Vec<Action>, Verdict> {
    let leave = Ok(vec![Action::RemoveFinalizer]);
    let cluster_gone = observed
        .cluster
        .as_ref()
        .is_none_or(|cluster| cluster.metadata.deletion_timestamp.is_some());
    if topic.spec.deletion_policy == DeletionPolicy::Retain || cluster_gone {
        return leave;
    }
    let Some(topic_id) = &status.topic_id else {
        return leave;
    };
    if let Admin::Unreachable(why) = &observed.admin {
        return Err(Verdict::new(
            Truth::True,
            "ClusterUnreachable",
            format!(
                "the topic cannot be deleted while the brokers cannot be asked ({why}); to leave \
                 the topic in place, set deletionPolicy to Retain"
            ),
        ));
    }
    match &observed.live {
        Some(live) if live.topic_id == *topic_id => Ok(vec![
            Action::Delete {
                topic_id: topic_id.clone(),
            },
            Action::RemoveFinalizer,
        ]),
        _ => leave,
    }
}
