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
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub(crate) http_listener: SocketAddr,
}

/// Runs until SIGTERM or SIGINT, or until the lease is lost.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
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
