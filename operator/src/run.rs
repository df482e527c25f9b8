//! Start and stop: health first, then wait for the lease, then the controllers; on SIGTERM in the
//! opposite order. Losing the lease ends the process at once: another replica works already.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};
use operator_plan::observed::OperatorPods;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::lease::LeaderLease;
use crate::metrics::Metrics;
use crate::{http, kafka_cluster, topic};

/// Reconciliations under way may finish within this time after SIGTERM.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of the operator.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Manage every namespace rather than the operator's own.
    #[arg(long)]
    pub(crate) cluster_wide: bool,
    /// Namespace of the operator.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// Name of this replica in the lease.
    #[arg(long, env = "POD_NAME", default_value = "klamm-operator")]
    pub(crate) identity: String,
    /// Image of brokers whose KafkaCluster names none.
    #[arg(long, env = "KLAMM_BROKER_IMAGE")]
    pub(crate) broker_image: String,
    /// imagePullPolicy of the brokers.
    #[arg(long, env = "KLAMM_BROKER_IMAGE_PULL_POLICY")]
    pub(crate) broker_image_pull_policy: Option<String>,
    /// Labels by which the operator's own pods are selected, such as
    /// app.kubernetes.io/name=klamm-operator. With them the brokers' NetworkPolicies let only brokers
    /// and the operator to the brokers' gRPC port; without, everybody.
    #[arg(
        long,
        env = "KLAMM_OPERATOR_POD_LABELS",
        value_delimiter = ',',
        value_parser = label,
        requires = "namespace"
    )]
    pub(crate) pod_labels: Vec<(String, String)>,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub(crate) http_listener: SocketAddr,
}

impl Settings {
    /// How NetworkPolicies select the operator, if that is known.
    pub(crate) fn operator_pods(&self) -> Option<OperatorPods> {
        (!self.pod_labels.is_empty()).then(|| OperatorPods {
            namespace: self.namespace.clone(),
            labels: self.pod_labels.iter().cloned().collect(),
        })
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written key=value"),
    }
}

/// Runs until SIGTERM or SIGINT, or until the lease is lost.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    if settings.operator_pods().is_none() {
        tracing::warn!(
            "the labels of the operator's own pods are not set: NetworkPolicies leave the brokers' \
             gRPC port open to all; set --pod-labels and --namespace"
        );
    }
    let client = Client::try_default()
        .await
        .context("cannot reach the Kubernetes API")?;
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    stop_on_signal(&stop)?;
    let listener = tokio::net::TcpListener::bind(settings.http_listener)
        .await
        .with_context(|| format!("cannot listen on {}", settings.http_listener))?;
    tokio::spawn(http::serve(listener, Arc::clone(&metrics)));

    let mut lease = LeaderLease::new(client.clone(), &settings.namespace, &settings.identity);
    let epoch = tokio::select! {
        epoch = lease.acquire() => epoch,
        () = stop.cancelled() => return Ok(()),
    };
    metrics.leader.set(1);
    let context = (settings, client, metrics);
    let mut controllers = tokio::spawn(controllers(context, epoch, stop.clone()));
    tokio::select! {
        () = lease.hold() => bail!("the lease is lost"),
        ended = &mut controllers => {
            ended?;
            bail!("the controllers ended");
        }
        () = stop.cancelled() => {}
    }
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, controllers)
        .await
        .is_err()
    {
        tracing::warn!("a reconciliation did not end in time");
    }
    lease
        .release()
        .await
        .context("cannot release the lease; it expires by itself")
}

async fn controllers(
    (settings, client, metrics): (Settings, Client, Arc<Metrics>),
    epoch: u64,
    stop: CancellationToken,
) {
    let (nodes, writer) = reflector::store();
    let watched = watcher(Api::<Node>::all(client.clone()), watcher::Config::default());
    let reflect = reflector(writer, watched.default_backoff()).for_each(|event| async {
        if let Err(error) = event {
            tracing::warn!(%error, "cannot watch the nodes");
        }
    });
    let context = Arc::new(Context::new(
        settings,
        client,
        nodes.clone(),
        metrics,
        epoch,
    ));
    let work = async {
        if nodes.wait_until_ready().await.is_ok() {
            tokio::join!(
                kafka_cluster::run(Arc::clone(&context), stop.clone()),
                topic::run(Arc::clone(&context), stop.clone()),
            );
        }
    };
    tokio::select! {
        () = reflect => {}
        () = work => {}
    }
}

fn stop_on_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::Settings;

    fn settings(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let command = Settings::augment_args(Command::new("run"));
        let given = ["run", "--broker-image=klamm"].iter().chain(arguments);
        Settings::from_arg_matches(&command.try_get_matches_from(given)?)
    }

    #[test]
    fn the_operator_is_selected_by_labels_and_namespace_or_not_at_all() {
        assert!(settings(&[]).unwrap().operator_pods().is_none());
        let labels = "--pod-labels=app.kubernetes.io/instance=klamm,app=operator";
        let pods = settings(&[labels, "--namespace=system"]).unwrap();
        let pods = pods.operator_pods().unwrap();
        assert_eq!(pods.namespace, "system");
        assert_eq!(pods.labels.len(), 2);
        assert_eq!(pods.labels["app.kubernetes.io/instance"], "klamm");
        settings(&["--pod-labels=operator", "--namespace=system"]).unwrap_err();
        settings(&[labels]).expect_err("the default namespace is a guess");
    }
}
