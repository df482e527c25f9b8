//! The only reader of a cluster's objects.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use klamm_crds::KafkaCluster;
use kube::api::ListParams;
use kube::{Resource, ResourceExt as _};
use operator_plan::kafka_cluster::{Question, question};
use operator_plan::naming;
use operator_plan::observed::{Admin, Answers, Observed};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::broker_admin::BrokerAdmin;
use crate::context::Context;

pub(super) struct Observation {
    pub(super) observed: Observed,
    /// The brokers' token, if its Secret exists.
    pub(super) token: Option<String>,
    /// The brokers, if there is anybody to ask.
    pub(super) brokers: Option<BrokerAdmin>,
}

pub(super) async fn observe(
    context: &Context,
    cluster: &KafkaCluster,
) -> Result<Observation, kube::Error> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let token = token(context, cluster).await?;
    let (pods, stateful_sets, services, volumes) = tokio::try_join!(
        list(context, &namespace, &name),
        list(context, &namespace, &name),
        list(context, &namespace, &name),
        list(context, &namespace, &name),
    )?;
    let (config_map, network_policy, pod_disruption_budget, service_account) = tokio::try_join!(
        get(context, &namespace, naming::config_map(&name)),
        get(context, &namespace, naming::network_policy(&name)),
        get(context, &namespace, naming::pod_disruption_budget(&name)),
        get(context, &namespace, naming::service_account(&name)),
    )?;
    let (brokers, admin) = match BrokerAdmin::new(cluster, token.as_deref(), context.epoch) {
        Ok(brokers) => {
            let admin = brokers.describe_cluster().await;
            (Some(brokers), admin)
        }
        Err(why) => (None, Admin::Unreachable(why)),
    };
    let mut observed = Observed {
        nodes: context
            .nodes
            .state()
            .iter()
            .map(|node| node.as_ref().clone())
            .collect(),
        pods,
        stateful_sets,
        services,
        volumes,
        config_map,
        network_policy,
        pod_disruption_budget,
        service_account,
        admin,
        quorum: None,
        answers: Answers::default(),
        defaults: context.defaults.clone(),
        fresh_cluster_id: Uuid::new_v4().to_string(),
    };
    if let Some(brokers) = &brokers {
        if observed.admin.confirmed().is_some() {
            observed.quorum = brokers.describe_quorum().await;
        }
        ask(brokers, cluster, &mut observed).await;
    }
    Ok(Observation {
        observed,
        token,
        brokers,
    })
}

/// Asks the brokers what the plan depends on. It ends: no question is asked twice.
async fn ask(brokers: &BrokerAdmin, cluster: &KafkaCluster, observed: &mut Observed) {
    while let Some(question) = question(cluster, observed, Timestamp::now()) {
        match question {
            Question::ValidateConfig(properties) => {
                observed.answers.config = Some(brokers.validate_config(properties).await);
            }
            Question::CheckRestart(id) => {
                let verdict = brokers.check_restart(id).await;
                observed.answers.restarts.insert(id, verdict);
            }
            Question::RebalanceStatus => {
                observed.answers.rebalance = Some(brokers.rebalance_status().await);
            }
            Question::DrainStatus(id) => {
                let progress = brokers.drain_status(id).await;
                observed.answers.drains.insert(id, progress);
            }
        }
    }
}

async fn list<K>(context: &Context, namespace: &str, cluster: &str) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let selector = format!("{}={cluster}", naming::CLUSTER_LABEL);
    let params = ListParams::default().labels(&selector);
    Ok(context
        .namespaced::<K>(namespace)
        .list(&params)
        .await?
        .items)
}

async fn get<K>(context: &Context, namespace: &str, name: String) -> Result<Option<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    context.namespaced::<K>(namespace).get_opt(&name).await
}

/// The brokers' token, if its Secret exists.
pub(crate) async fn token(
    context: &Context,
    cluster: &KafkaCluster,
) -> Result<Option<String>, kube::Error> {
    let name = naming::token_secret(&cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    let secret = context
        .namespaced::<Secret>(&namespace)
        .get_opt(&name)
        .await?;
    let token = secret
        .and_then(|secret| secret.data?.remove(naming::TOKEN_KEY))
        .and_then(|token| String::from_utf8(token.0).ok());
    if let Some(token) = &token {
        context.remember_token(&cluster.uid().unwrap_or_default(), token);
    }
    Ok(token)
}
