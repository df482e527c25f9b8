//! The controller of `Topic`.

mod execute;
mod observe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use klamm_crds::{KafkaCluster, Topic, TopicStatus};
use kube::api::PostParams;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Resource as _, ResourceExt as _};
use operator_plan::conditions::changes;
use operator_plan::topic::{self, plan};
use tokio_util::sync::CancellationToken;

use crate::broker_admin::AdminError;
use crate::context::Context;
use crate::events;

/// Topics change without a word to Kubernetes.
const LOOK_INTERVAL_SETTLED: Duration = Duration::from_secs(30);
const LOOK_INTERVAL_CHANGING: Duration = Duration::from_secs(3);
/// Topics reconciled at a time.
const CONCURRENCY: u16 = 16;
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Why a reconciliation failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("the Kubernetes API refuses: {0}")]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Brokers(#[from] AdminError),
}

pub(crate) struct TopicContext {
    shared: Arc<Context>,
    /// All topics, to find two that describe the same.
    topics: Store<Topic>,
}

/// Runs until told to stop.
pub(crate) async fn run(shared: Arc<Context>, stop: CancellationToken) {
    let controller = Controller::new(shared.managed::<Topic>(), watcher::Config::default());
    let topics = controller.store();
    let of_cluster = {
        let topics = topics.clone();
        move |cluster: KafkaCluster| {
            let belongs = move |topic: &Arc<Topic>| {
                topic.namespace() == cluster.namespace()
                    && topic.spec.cluster_ref.name == cluster.name_any()
            };
            let state = topics.state().into_iter().filter(belongs);
            state
                .map(|topic| ObjectRef::from_obj(topic.as_ref()))
                .collect::<Vec<_>>()
        }
    };
    let clusters = shared.managed::<KafkaCluster>();
    controller
        .watches(clusters, watcher::Config::default(), of_cluster)
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(
            reconcile_and_count,
            retry,
            Arc::new(TopicContext { shared, topics }),
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "reconciliation of a Topic ended");
            }
        })
        .await;
}

async fn reconcile_and_count(
    topic: Arc<Topic>,
    context: Arc<TopicContext>,
) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let result = reconcile(&topic, &context).await;
    context
        .shared
        .metrics
        .reconciled("Topic", result.is_ok(), started.elapsed());
    if result.is_ok() {
        context.shared.succeeded(&topic.uid().unwrap_or_default());
    }
    result
}

async fn reconcile(cached: &Topic, context: &TopicContext) -> Result<Action, ReconcileError> {
    let namespace = cached.namespace().unwrap_or_default();
    let api = context.shared.namespaced::<Topic>(&namespace);
    let Some(current) = api.get_opt(&cached.name_any()).await? else {
        context.shared.forget(&cached.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    let observation = observe::observe(context, &current).await?;
    let plan = plan(&current, &observation.observed, Timestamp::now());
    let changed = !plan.actions.is_empty();
    let status = match execute::execute(context, &current, &plan, &observation).await {
        Ok(None) => plan.status,
        // Without its id recorded the topic would be taken for somebody else's.
        Ok(topic_id) => TopicStatus {
            topic_id,
            ..plan.status
        },
        Err(ReconcileError::Brokers(AdminError::Refused(why))) => {
            topic::refused(&current, &why, Timestamp::now())
        }
        Err(error) => return Err(error),
    };
    let current = match changed {
        true => api.get_opt(&current.name_any()).await?,
        false => Some(current),
    };
    let Some(current) = current else {
        return Ok(Action::await_change());
    };
    report(context, &current, status).await?;
    let interval = match (changed, plan.settled) {
        (true, _) => Duration::ZERO,
        (false, true) => LOOK_INTERVAL_SETTLED,
        (false, false) => LOOK_INTERVAL_CHANGING,
    };
    Ok(Action::requeue(interval))
}

/// Writes the status if it says something new, and tells of changed conditions.
async fn report(
    context: &TopicContext,
    topic: &Topic,
    status: TopicStatus,
) -> Result<(), kube::Error> {
    if topic.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let former = topic
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let notices = changes(former.unwrap_or_default(), &status.conditions, topic::bad);
    let api = context
        .shared
        .namespaced(&topic.namespace().unwrap_or_default());
    let reported = Topic {
        status: Some(status),
        ..topic.clone()
    };
    api.replace_status(&topic.name_any(), &PostParams::default(), &reported)
        .await?;
    events::publish(&context.shared, &topic.object_ref(&()), &notices).await;
    Ok(())
}

fn retry(topic: Arc<Topic>, error: &ReconcileError, context: Arc<TopicContext>) -> Action {
    let delay = context.shared.failed(&topic.uid().unwrap_or_default());
    tracing::warn!(topic = %topic.name_any(), %error, ?delay, "trying again");
    Action::requeue(delay)
}
