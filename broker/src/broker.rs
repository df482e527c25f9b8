//! Wiring: the order in which a broker's parts start, and in reverse stop. No logic.

mod follow;
mod services;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use broker_core::controller::{RegisterBroker, supported_features};
use broker_core::metadata;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::http;
use crate::api::{Context, Coordinators};
use crate::client_listeners::ClientListeners;
use crate::clock;
use crate::config::{BrokerConfig, HostPort};
use crate::controller::{Controller, ControllerOptions, SNAPSHOT_INTERVAL_BYTES, Timing};
use crate::coordinator::GroupCoordinator;
use crate::health::{Health, Phase};
use crate::log_dirs::LogDirs;
use crate::metrics::{
    ClientMetrics, ClusterMetrics, GroupMetrics, HealthMetrics, Metrics, PartitionMetrics,
    TlsMetrics, TransactionMetrics,
};
use crate::net::{NetMetrics, Server};
use crate::partition::{PartitionManager, Storage};
use crate::policy::policy;
use crate::previous_run::{self, LastRun};
use crate::replica::{FetcherSettings, Fetchers, ReplicaService, ReplicationQuotas};
use crate::rpc::{Credentials, RpcTls, Token};
use crate::transaction::{Peers, TransactionCoordinator, TransactionsService};
use follow::follow_metadata;
use services::{BrokerServices, serve_rpc};

/// Threads for elections, heartbeats and metadata, so that a stalled disk under client requests
/// can't cause an election.
const CONTROL_THREADS: usize = 2;
/// How long runtimes may take to end their last tasks.
const RUNTIME_STOP: Duration = Duration::from_secs(2);
/// Accepted for the sake of old configurations.
const IGNORED_KEY: &str = "replica.lag.max.messages";

/// Runs one broker until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or the failure that made it stop.
pub fn run(config: BrokerConfig) -> anyhow::Result<()> {
    raise_open_files_limit();
    let control = runtime("control", Some(CONTROL_THREADS))?;
    let data = runtime("data", None)?;
    let outcome = data.block_on(serve(Arc::new(config), control.handle().clone()));
    data.shutdown_timeout(RUNTIME_STOP);
    control.shutdown_timeout(RUNTIME_STOP);
    outcome
}

/// Logs and connections need many file descriptors; the soft limit is often far below what the system
/// allows.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = ?limit.current, "the limit of open files stays low");
    }
}

fn runtime(name: &'static str, threads: Option<usize>) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder
        .thread_name(name)
        .enable_all()
        .build()
        .context("can't start threads")
}

async fn serve(config: Arc<BrokerConfig>, control: Handle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut asked_to_stop = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let starting = Starting {
        credentials: credentials(&config)?,
        stopped: CancellationToken::new(),
        health: Health::default(),
        metrics: Arc::new(Metrics::default()),
        quotas: Arc::default(),
        config,
        control,
    };
    let (broker, clients) = tokio::select! {
        started = starting.start() => started?,
        () = &mut asked_to_stop => {
            tracing::info!("stopped before it served");
            return Ok(());
        }
    };
    let serve = async {
        let Clients { listeners, server } = clients;
        let opened = listeners.open(&broker.controller, server, &broker.stopped);
        opened.await?;
        broker.report_health().await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = serve => ended?,
        reason = broker.controller.failed() => {
            bail!("the metadata quorum failed on this broker: {reason}");
        }
        error = broker.log_dirs.unusable() => return Err(error.into()),
        () = asked_to_stop => {}
    }
    broker.stop().await
}

fn credentials(config: &BrokerConfig) -> anyhow::Result<Credentials> {
    let token = Token::from_file(&config.rpc_token_file)?;
    let tls = config.rpc_tls.as_ref().map(RpcTls::load).transpose();
    let tls = tls.context("gRPC has no certificates (klamm.rpc.tls.dir)")?;
    Ok(Credentials::new(token, tls.map(Arc::new)))
}

/// What the parts of a broker are made from.
struct Starting {
    config: Arc<BrokerConfig>,
    control: Handle,
    credentials: Credentials,
    stopped: CancellationToken,
    health: Health,
    metrics: Arc<Metrics>,
    quotas: Arc<ReplicationQuotas>,
}

/// What serves Kafka clients, and does not yet.
struct Clients {
    listeners: ClientListeners,
    server: Arc<Server>,
}

/// A broker whose parts run.
struct Running {
    config: Arc<BrokerConfig>,
    control: Handle,
    stopped: CancellationToken,
    health: Health,
    partitions: Arc<PartitionManager>,
    log_dirs: Arc<LogDirs>,
    controller: Arc<Controller>,
}

impl Starting {
    async fn start(self) -> anyhow::Result<(Running, Clients)> {
        let config = &self.config;
        tracing::info!(
            id = %config.id, version = env!("CARGO_PKG_VERSION"),
            log_dirs = ?config.log_dirs, "starting"
        );
        if config.properties().contains_key(IGNORED_KEY) {
            tracing::warn!(key = IGNORED_KEY, "deprecated configuration key is ignored");
        }
        self.serve_http().await?;
        let storage = {
            let (config, health) = (Arc::clone(config), self.health.clone());
            tokio::task::spawn_blocking(move || Storage::open(&config, health.recovery())).await??
        };
        let last_run = storage.last_run();
        let partitions = Arc::new(PartitionManager::new(Arc::clone(config), storage));
        self.health.watch_log_dirs(partitions.dirs());
        self.metrics.add(PartitionMetrics(Arc::clone(&partitions)));

        self.health.enter(Phase::Joining);
        let options = controller_options(config, self.credentials.clone(), &partitions);
        let controller = self.control.spawn(Controller::start(options)).await??;
        self.metrics.add(ClusterMetrics(Arc::clone(&controller)));
        let coordinators = self.coordinators(&controller, &partitions)?;
        self.serve_brokers(&controller, &partitions, &coordinators)
            .await?;
        self.follow_metadata(&controller, &partitions, &coordinators)?;
        let clients = self
            .prepare_clients(&controller, &partitions, coordinators)
            .await?;

        let failures = Arc::clone(partitions.dirs().failures());
        let keep = move |epoch| previous_run::keep(&failures, epoch);
        controller.join(registration(config, last_run), keep);
        let Self {
            config,
            control,
            stopped,
            health,
            ..
        } = self;
        let running = Running {
            config,
            control,
            stopped,
            health,
            log_dirs: Arc::clone(partitions.dirs()),
            partitions,
            controller,
        };
        Ok((running, clients))
    }

    async fn serve_http(&self) -> anyhow::Result<()> {
        self.metrics.add(HealthMetrics(self.health.clone()));
        let listener = bind(&self.config.http_listener, "klamm.http.listener").await?;
        self.control.spawn(http::serve(
            listener,
            self.health.clone(),
            Arc::clone(&self.metrics),
            self.stopped.clone().cancelled_owned(),
        ));
        Ok(())
    }

    fn coordinators(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
    ) -> anyhow::Result<Coordinators> {
        let config = &self.config;
        let partition_count = |name| u32::try_from(config.number(name));
        let groups = Arc::new(GroupCoordinator::new(
            config.groups(),
            partition_count("offsets.topic.num.partitions")?,
            partitions.lease(),
        ));
        self.metrics
            .add(GroupMetrics(Arc::clone(groups.rebalances())));
        let transaction_peers = Arc::new(Peers::new(
            config.id,
            self.credentials.clone(),
            controller.watch(),
            Arc::clone(partitions),
            Arc::clone(&groups),
        ));
        let transactions = Arc::new(TransactionCoordinator::new(
            config.transactions(),
            partition_count("transaction.state.log.num.partitions")?,
            partitions.lease(),
            Arc::clone(&transaction_peers),
        ));
        let counts = Arc::clone(transactions.counts());
        self.metrics.add(TransactionMetrics(counts));
        Ok(Coordinators {
            groups,
            transactions,
            transaction_peers,
        })
    }

    async fn serve_brokers(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
        coordinators: &Coordinators,
    ) -> anyhow::Result<()> {
        let listener = bind(&self.config.rpc_listener, "klamm.rpc.listener").await?;
        let services = BrokerServices {
            controller: Arc::clone(controller),
            replica: ReplicaService::new(
                Arc::clone(partitions),
                Arc::clone(&self.quotas),
                Handle::current(),
            ),
            transactions: TransactionsService::new(
                Arc::clone(&coordinators.transaction_peers),
                Arc::clone(&coordinators.transactions),
                Handle::current(),
            ),
        };
        if let Some(tls) = self.credentials.tls().cloned() {
            self.control.spawn(async move { tls.watch().await });
        }
        let (credentials, stopped) = (self.credentials.clone(), self.stopped.clone());
        self.control
            .spawn(serve_rpc(listener, services, credentials, stopped));
        Ok(())
    }

    fn follow_metadata(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
        coordinators: &Coordinators,
    ) -> anyhow::Result<()> {
        let config = &self.config;
        let settings = fetcher_settings(config);
        let fetchers = Fetchers::new(
            config.id,
            self.credentials.clone(),
            settings,
            controller.watch(),
            Arc::clone(&self.quotas),
        );
        tokio::spawn(follow_metadata(
            Arc::clone(controller),
            Arc::clone(partitions),
            fetchers,
            coordinators.clone(),
        ));
        tokio::spawn(Arc::clone(partitions).keep_isr(Arc::clone(controller)));
        tokio::spawn(Arc::clone(partitions).keep_house());
        partitions.start_cleaner()?;
        self.health.watch_cleaner(partitions.cleaner_status());
        tokio::spawn(Arc::clone(partitions).move_replicas());
        tokio::spawn(Arc::clone(partitions.dirs()).probe());
        tokio::spawn(Arc::clone(partitions).scrub());
        tokio::spawn(Arc::clone(partitions).report_replica_health(Arc::clone(controller)));
        Ok(())
    }

    async fn prepare_clients(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
        coordinators: Coordinators,
    ) -> anyhow::Result<Clients> {
        let net_metrics = Arc::new(NetMetrics::default());
        self.metrics.add(ClientMetrics(Arc::clone(&net_metrics)));
        let context = Arc::new(Context::new(
            Arc::clone(&self.config),
            Arc::clone(controller),
            Arc::clone(partitions),
            coordinators,
        ));
        let listeners = ClientListeners::reserve(&self.config).await?;
        let rpc_tls = self.credentials.tls();
        self.metrics
            .add(TlsMetrics::new(listeners.certificates(), rpc_tls));
        Ok(Clients {
            listeners,
            server: Arc::new(Server::new(context, net_metrics)),
        })
    }
}

impl Running {
    /// Keeps the health report true for as long as there is metadata.
    async fn report_health(&self) {
        let mut images = self.controller.watch();
        loop {
            images.mark_unchanged();
            let fenced = self.controller.is_fenced();
            self.health.enter(if fenced {
                Phase::Joining
            } else {
                Phase::Serving
            });
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    /// Gives leaders away, then closes what was opened, in reverse.
    async fn stop(self) -> anyhow::Result<()> {
        self.health.enter(Phase::Stopping);
        let limit = self.config.millis("controlled.shutdown.timeout.ms");
        if !self.controller.request_shutdown(limit).await {
            tracing::warn!(
                ?limit,
                "leaders were not moved away in time; stopping all the same"
            );
        }
        self.stopped.cancel();
        let partitions = self.partitions;
        tokio::task::spawn_blocking(move || partitions.close()).await?;
        let controller = self.controller;
        self.control
            .spawn(async move { controller.shutdown().await })
            .await?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn bind(address: &HostPort, key: &str) -> anyhow::Result<TcpListener> {
    let text = address.bind_address();
    TcpListener::bind(&text)
        .await
        .with_context(|| format!("can't listen on {text}; is another process there? ({key})"))
}

fn controller_options(
    config: &Arc<BrokerConfig>,
    credentials: Credentials,
    partitions: &PartitionManager,
) -> ControllerOptions {
    let liveness = config.liveness();
    let rebalance = config.number("leader.imbalance.check.interval.seconds");
    ControllerOptions {
        broker_id: config.id,
        cluster_id: config.cluster_id.clone(),
        directory: config.metadata_dir.clone(),
        voters: config
            .voters
            .iter()
            .map(|voter| (voter.id, voter.rpc.to_string()))
            .collect(),
        may_form_quorum: config.flag("klamm.quorum.bootstrap.enable"),
        credentials,
        timing: Timing {
            election_timeout: liveness.election_timeout,
            session_timeout: liveness.session_timeout,
            heartbeat_interval: liveness.heartbeat_interval,
            reconnect_grace: liveness.reconnect_grace,
            leader_rebalance_interval: config
                .flag("auto.leader.rebalance.enable")
                .then(|| Duration::from_secs(u64::try_from(rebalance).unwrap_or(300))),
        },
        lease: partitions.lease(),
        hosted_bytes: partitions.hosted_bytes(),
        snapshot_interval_bytes: SNAPSHOT_INTERVAL_BYTES,
        policy: policy(config),
    }
}

fn fetcher_settings(config: &BrokerConfig) -> FetcherSettings {
    let bytes = |name| u32::try_from(config.number(name)).unwrap_or(u32::MAX);
    FetcherSettings {
        wait_max: config.millis("replica.fetch.wait.max.ms"),
        bytes_max: bytes("replica.fetch.response.max.bytes"),
        partition_bytes_max: bytes("replica.fetch.max.bytes"),
    }
}

fn registration(config: &BrokerConfig, last_run: LastRun) -> RegisterBroker {
    RegisterBroker {
        cluster_id: config.cluster_id.clone(),
        registration: metadata::RegisterBroker {
            broker_id: config.id.0,
            broker_epoch: 0,
            incarnation: uuid::Uuid::new_v4().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rack: config.rack.clone(),
            endpoints: config
                .advertised_listeners
                .iter()
                .map(|endpoint| metadata::Endpoint {
                    listener: endpoint.name.clone(),
                    host: endpoint.address.host.clone(),
                    port: u32::from(endpoint.address.port),
                })
                .collect(),
            rpc_host: config.rpc_advertised.host.clone(),
            rpc_port: u32::from(config.rpc_advertised.port),
            started_at_ms: clock::timestamp().0,
            config_hash: config.hash(),
            metadata_directory_id: None,
            features: supported_features(),
            disks_broker_epoch: None,
        },
        previous_broker_epoch: last_run.lossless_epoch,
        disks_broker_epoch: last_run.epoch,
    }
}
