//! Wiring: the order in which a broker's parts start, and in reverse stop. No logic.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use broker_core::controller::{RegisterBroker, supported_features};
use broker_core::metadata::{self, Image};
use klamm_proto::v1::admin_server::AdminServer;
use klamm_proto::v1::replica_server::ReplicaServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use crate::admin::grpc::AdminService;
use crate::admin::http;
use crate::api::Context;
use crate::client_listeners::ClientListeners;
use crate::clock;
use crate::config::{BrokerConfig, HostPort};
use crate::controller::{Controller, ControllerOptions, Position, SNAPSHOT_INTERVAL_BYTES, Timing};
use crate::coordinator::GroupCoordinator;
use crate::health::{Health, Phase};
use crate::log_dirs::LogDirs;
use crate::metrics::{
    ClientMetrics, ClusterMetrics, GroupMetrics, HealthMetrics, Metrics, PartitionMetrics,
};
use crate::net::{NetMetrics, Server};
use crate::partition::{PartitionManager, RoleEvent, Storage};
use crate::policy::policy;
use crate::previous_run::{self, LastRun};
use crate::replica::{
    FetcherSettings, Fetchers, PULL_MESSAGE_BYTES_MAX, ReplicaService, ReplicationQuotas,
};
use crate::rpc::{self, Token};

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
        token: Token::from_file(&config.rpc_token_file)?,
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

/// What the parts of a broker are made from.
struct Starting {
    config: Arc<BrokerConfig>,
    control: Handle,
    token: Token,
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
        let options = controller_options(config, self.token.clone(), &partitions);
        let controller = self.control.spawn(Controller::start(options)).await??;
        self.metrics.add(ClusterMetrics(Arc::clone(&controller)));
        self.serve_brokers(&controller, &partitions).await?;
        let groups = self.follow_metadata(&controller, &partitions)?;
        let clients = self
            .prepare_clients(&controller, &partitions, groups)
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

    async fn serve_brokers(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
    ) -> anyhow::Result<()> {
        let listener = bind(&self.config.rpc_listener, "klamm.rpc.listener").await?;
        self.control.spawn(serve_rpc(
            listener,
            Arc::clone(controller),
            ReplicaService::new(
                Arc::clone(partitions),
                Arc::clone(&self.quotas),
                Handle::current(),
            ),
            self.token.clone(),
            self.stopped.clone(),
        ));
        Ok(())
    }

    fn follow_metadata(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
    ) -> anyhow::Result<Arc<GroupCoordinator>> {
        let config = &self.config;
        let offsets_partitions = u32::try_from(config.number("offsets.topic.num.partitions"))?;
        let groups = Arc::new(GroupCoordinator::new(
            config.groups(),
            offsets_partitions,
            partitions.lease(),
        ));
        let settings = fetcher_settings(config);
        self.metrics
            .add(GroupMetrics(Arc::clone(groups.rebalances())));
        let fetchers = Fetchers::new(
            config.id,
            self.token.clone(),
            settings,
            controller.watch(),
            Arc::clone(&self.quotas),
        );
        tokio::spawn(follow_metadata(
            Arc::clone(controller),
            Arc::clone(partitions),
            fetchers,
            Arc::clone(&groups),
        ));
        tokio::spawn(Arc::clone(partitions).keep_isr(Arc::clone(controller)));
        tokio::spawn(Arc::clone(partitions).keep_house());
        partitions.start_cleaner()?;
        self.health.watch_cleaner(partitions.cleaner_status());
        tokio::spawn(Arc::clone(partitions).move_replicas());
        tokio::spawn(Arc::clone(partitions.dirs()).probe());
        tokio::spawn(Arc::clone(partitions).scrub());
        tokio::spawn(Arc::clone(partitions).report_replica_health(Arc::clone(controller)));
        Ok(groups)
    }

    async fn prepare_clients(
        &self,
        controller: &Arc<Controller>,
        partitions: &Arc<PartitionManager>,
        groups: Arc<GroupCoordinator>,
    ) -> anyhow::Result<Clients> {
        let net_metrics = Arc::new(NetMetrics::default());
        self.metrics.add(ClientMetrics(Arc::clone(&net_metrics)));
        let context = Arc::new(Context::new(
            Arc::clone(&self.config),
            Arc::clone(controller),
            Arc::clone(partitions),
            groups,
        ));
        Ok(Clients {
            listeners: ClientListeners::reserve(&self.config).await?,
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

/// Applies metadata as it is committed: partitions first, then what follows from their roles.
async fn follow_metadata(
    controller: Arc<Controller>,
    partitions: Arc<PartitionManager>,
    mut fetchers: Fetchers,
    groups: Arc<GroupCoordinator>,
) {
    let mut images = controller.watch();
    if !registration_applied(&controller, &mut images).await {
        return;
    }
    let mut failures = partitions.dirs().failures().watch();
    let mut positions = controller.positions();
    let mut applied = Arc::new(Image::default());
    let mut strays_deleted = false;
    loop {
        let Position { offset, image: new } = positions.borrow_and_update().clone();
        let (manager, old, image) = (
            Arc::clone(&partitions),
            Arc::clone(&applied),
            Arc::clone(&new),
        );
        let work = tokio::task::spawn_blocking(move || manager.apply(&old, &image));
        let events: Vec<RoleEvent> = match work.await {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(%error, "metadata could not be applied");
                std::process::abort();
            }
        };
        fetchers.configure(&new);
        fetchers.apply(&events).await;
        groups.apply(&events);
        for topic in deleted_topics(&applied, &new) {
            groups.on_topic_deleted(topic);
        }
        applied = new;
        controller.metadata_applied(offset);
        // An unfenced broker has all metadata up to its registration.
        if !strays_deleted && !controller.is_fenced() {
            partitions.delete_strays(&applied);
            strays_deleted = true;
        }
        let goes_on = tokio::select! {
            changed = positions.changed() => changed,
            changed = failures.changed() => changed,
            () = partitions.needs_attention() => Ok(()),
        };
        if goes_on.is_err() {
            return;
        }
    }
}

/// Waits for metadata that has this run's registration; `false` when none will come.
///
/// Earlier metadata has the roles of the run before. This one may have lost what they stand on: a
/// leader that went on in its epoch would give offsets a second value.
async fn registration_applied(
    controller: &Controller,
    images: &mut watch::Receiver<Arc<Image>>,
) -> bool {
    let mut epochs = controller.broker_epochs();
    loop {
        let _ = epochs.borrow_and_update();
        if controller.is_registered_in(&images.borrow_and_update()) {
            return true;
        }
        let changed = tokio::select! {
            changed = epochs.changed() => changed,
            changed = images.changed() => changed,
        };
        if changed.is_err() {
            return false;
        }
    }
}

fn deleted_topics<'a>(old: &'a Image, new: &'a Image) -> impl Iterator<Item = &'a str> {
    let gone = old
        .topics
        .iter()
        .filter(|(id, _)| !new.topics.contains_key(id));
    gone.map(|(_, topic)| &*topic.name)
}

async fn serve_rpc(
    listener: TcpListener,
    controller: Arc<Controller>,
    replica: ReplicaService,
    token: Token,
    stopped: CancellationToken,
) {
    let replica = ReplicaServer::new(replica).max_encoding_message_size(PULL_MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(AdminService::new(Arc::clone(&controller)));
    let served = rpc::server()
        .add_service(controller.raft_server())
        .add_service(controller.controller_server())
        .add_service(InterceptedService::new(replica, token.guard()))
        .add_service(InterceptedService::new(admin, token.guard()))
        .serve_with_incoming_shutdown(rpc::incoming(listener), stopped.cancelled())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server failed");
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
    token: Token,
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
        token,
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
