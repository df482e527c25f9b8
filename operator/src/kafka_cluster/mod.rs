//! The controller of `KafkaCluster`.

mod execute;
mod observe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use klamm_crds::KafkaCluster;
use kube::api::PostParams;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt as _};
use operator_plan::conditions::{Notice, Severity, changes};
use operator_plan::kafka_cluster::{Plan, plan};
use operator_plan::{naming, status};
use tokio_util::sync::CancellationToken;

use crate::broker_admin::AdminError;
use crate::context::Context;
use crate::events;
use crate::metrics::Metrics;

pub(crate) use observe::token;

/// Brokers' states are asked for, not told of.
const LOOK_INTERVAL_SETTLED: Duration = Duration::from_secs(10);
const LOOK_INTERVAL_CHANGING: Duration = Duration::from_secs(2);
/// Clusters reconciled at a time.
const CONCURRENCY: u16 = 8;
/// Events of one cause come together.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Why a reconciliation failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("the Kubernetes API refuses: {0}")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

impl ReconcileError {
    /// Somebody else wrote in between: nothing to tell.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Kubernetes(kube::Error::Api(status)) if status.is_conflict())
    }
}

/// Runs until told to stop.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let ours = || {
        let selector = format!("{}={}", naming::MANAGED_BY_LABEL, naming::OPERATOR);
        watcher::Config::default().labels(&selector)
    };
    telling_conditions(
        &context.metrics,
        Controller::new(
            context.managed::<KafkaCluster>(),
            watcher::Config::default(),
        ),
    )
    .owns(context.managed::<StatefulSet>(), ours())
    .owns(context.managed::<Service>(), ours())
    .owns(context.managed::<ConfigMap>(), ours())
    .owns(context.managed::<NetworkPolicy>(), ours())
    .owns(context.managed::<PodDisruptionBudget>(), ours())
    .owns(context.managed::<ServiceAccount>(), ours())
    .watches(context.managed::<Pod>(), ours(), |pod| cluster_of(&pod))
    .watches(
        context.managed::<PersistentVolumeClaim>(),
        ours(),
        |volume| cluster_of(&volume),
    )
    .with_config(
        Config::default()
            .concurrency(CONCURRENCY)
            .debounce(DEBOUNCE),
    )
    .graceful_shutdown_on(stop.cancelled_owned())
    .run(reconcile_and_count, retry, context)
    .for_each(|result| async move {
        if let Err(error) = result {
            tracing::debug!(%error, "reconciliation of a KafkaCluster ended");
        }
    })
    .await;
}

/// Has the conditions of all clusters told as metrics.
fn telling_conditions(
    metrics: &Metrics,
    controller: Controller<KafkaCluster>,
) -> Controller<KafkaCluster> {
    metrics.watch_clusters(controller.store());
    controller
}

fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<KafkaCluster>> {
    let name = object.meta().labels.as_ref()?.get(naming::CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_deref()?))
}

async fn reconcile_and_count(
    cluster: Arc<KafkaCluster>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let result = reconcile(&cluster, &context).await;
    context
        .metrics
        .reconciled("KafkaCluster", result.is_ok(), started.elapsed());
    match &result {
        Ok(_) => context.succeeded(&cluster.uid().unwrap_or_default()),
        Err(error) if error.is_conflict() => {}
        Err(error) => {
            let notice = Notice {
                severity: Severity::Warning,
                reason: "ReconcileFailed".to_owned(),
                message: error.to_string(),
            };
            events::publish(&context, &cluster.object_ref(&()), &[notice]).await;
        }
    }
    result
}

async fn reconcile(cached: &KafkaCluster, context: &Context) -> Result<Action, ReconcileError> {
    let namespace = cached.namespace().unwrap_or_default();
    let api = context.namespaced::<KafkaCluster>(&namespace);
    let Some(cluster) = api.get_opt(&cached.name_any()).await? else {
        context.forget(&cached.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let observation = observe::observe(context, &cluster).await?;
    let plan = plan(&cluster, &observation.observed, Timestamp::now());
    let cluster = execute::execute(context, cluster, &plan, &observation).await?;
    report(context, &cluster, &plan).await?;
    let interval = if plan.settled {
        LOOK_INTERVAL_SETTLED
    } else {
        LOOK_INTERVAL_CHANGING
    };
    Ok(Action::requeue(interval))
}

/// Writes the status if it says something new, and tells of changed conditions.
async fn report(context: &Context, cluster: &KafkaCluster, plan: &Plan) -> Result<(), kube::Error> {
    if cluster.status.as_ref() == Some(&plan.status) {
        return Ok(());
    }
    let api = context.namespaced(&cluster.namespace().unwrap_or_default());
    let reported = KafkaCluster {
        status: Some(plan.status.clone()),
        ..cluster.clone()
    };
    api.replace_status(&cluster.name_any(), &PostParams::default(), &reported)
        .await?;
    let former = cluster
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let notices = changes(
        former.unwrap_or_default(),
        &plan.status.conditions,
        status::bad,
    );
    events::publish(context, &cluster.object_ref(&()), &notices).await;
    Ok(())
}

fn retry(cluster: Arc<KafkaCluster>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let delay = context.failed(&cluster.uid().unwrap_or_default());
    if !error.is_conflict() {
        tracing::warn!(cluster = %cluster.name_any(), %error, ?delay, "trying again");
    }
    Action::requeue(delay)
}
