//! The only reader for a topic: its cluster, its siblings, and the brokers.

use klamm_crds::{KafkaCluster, Topic};
use kube::ResourceExt as _;
use operator_plan::observed::Admin;
use operator_plan::topic::Observed;

use super::TopicContext;
use crate::broker_admin::BrokerAdmin;
use crate::kafka_cluster;

pub(super) struct Observation {
    pub(super) observed: Observed,
    /// The brokers and the active controller, if they answered.
    pub(super) controller: Option<(BrokerAdmin, i32)>,
}

/// The active controller is asked, as it is the first to know.
pub(super) async fn observe(
    context: &TopicContext,
    topic: &Topic,
) -> Result<Observation, kube::Error> {
    let namespace = topic.namespace().unwrap_or_default();
    let clusters = context.shared.namespaced::<KafkaCluster>(&namespace);
    let cluster = clusters.get_opt(&topic.spec.cluster_ref.name).await?;
    let siblings = context.topics.state().into_iter();
    let siblings = siblings
        .filter(|sibling| sibling.namespace() == topic.namespace())
        .map(|sibling| sibling.as_ref().clone())
        .collect();
    let mut observed = Observed {
        cluster,
        siblings,
        admin: Admin::Unreachable("the cluster does not exist".to_owned()),
        live: None,
    };
    let Some(cluster) = &observed.cluster else {
        return Ok(Observation {
            observed,
            controller: None,
        });
    };
    let token = kafka_cluster::token(&context.shared, cluster).await?;
    let admin = match BrokerAdmin::new(cluster, token.as_deref(), context.shared.epoch) {
        Ok(admin) => admin,
        Err(why) => {
            observed.admin = Admin::Unreachable(why);
            return Ok(Observation {
                observed,
                controller: None,
            });
        }
    };
    observed.admin = admin.describe_cluster().await;
    let controller_id = match &observed.admin {
        Admin::Answered(facts) => facts.controller_id,
        Admin::Unreachable(_) => {
            return Ok(Observation {
                observed,
                controller: None,
            });
        }
    };
    let Some(id) = controller_id else {
        observed.admin = Admin::Unreachable("there is no active controller".to_owned());
        return Ok(Observation {
            observed,
            controller: None,
        });
    };
    match admin.describe_topic(id, topic.topic_name()).await {
        Ok(live) => observed.live = live,
        Err(error) => observed.admin = Admin::Unreachable(error.to_string()),
    }
    Ok(Observation {
        observed,
        controller: Some((admin, id)),
    })
}
