//! The brokers under test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    Command, ConfigTable, CreateTopics, Defaults, NewTopic, PlacementRequest, RegisterBroker,
    Response,
};
use broker_core::metadata::{self, Endpoint, Image, ResourceType};
use broker_core::{BrokerEpoch, BrokerId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::controller::{
    Controller, ControllerOptions, DecisionPolicy, SNAPSHOT_INTERVAL_BYTES, SubmitError, Timing,
};
use crate::previous_run::Kept;
use crate::rpc::{self, Credentials, Token};

pub(super) const CLUSTER_ID: &str = "test-cluster";
/// Some ten entries make a snapshot due.
pub(super) const FREQUENT_SNAPSHOTS: u64 = 2048;
const PATIENCE: Duration = Duration::from_secs(20);

struct AnyConfig;

impl ConfigTable for AnyConfig {
    fn validate(&self, _: ResourceType, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn list_default(&self, _: ResourceType, _: &str) -> Option<String> {
        None
    }
}

fn place(request: &PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> {
    let brokers: Vec<_> = request.brokers.iter().map(|broker| broker.id).collect();
    let replicas = |first| {
        let chosen = brokers
            .iter()
            .cycle()
            .skip(first)
            .take(request.replication_factor);
        chosen.copied().collect()
    };
    Ok((0..request.partitions).map(replicas).collect())
}

pub(super) fn credentials() -> Credentials {
    Token::new("a-token-for-tests-only").unwrap().into()
}

/// Brokers 0 and up; the first `voters` of them vote.
pub(super) struct Cluster {
    dir: TempDir,
    addresses: BTreeMap<BrokerId, SocketAddr>,
    voters: BTreeMap<BrokerId, String>,
    snapshot_interval_bytes: u64,
    pub(super) nodes: BTreeMap<BrokerId, Node>,
}

/// A running broker.
pub(super) struct Node {
    id: BrokerId,
    address: SocketAddr,
    runtime: Option<Runtime>,
    pub(super) controller: Arc<Controller>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster {
    pub(super) async fn start(voters: i32, others: i32) -> Self {
        Self::start_with(voters, others, SNAPSHOT_INTERVAL_BYTES).await
    }

    pub(super) async fn start_with(voters: i32, others: i32, snapshot_interval_bytes: u64) -> Self {
        let mut addresses = BTreeMap::new();
        for id in (0..voters + others).map(BrokerId) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(id, listener.local_addr().unwrap());
        }
        let of_voters = addresses.iter().filter(|(id, _)| id.0 < voters);
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            voters: of_voters
                .map(|(id, address)| (*id, address.to_string()))
                .collect(),
            addresses,
            snapshot_interval_bytes,
            nodes: BTreeMap::new(),
        };
        for id in cluster.addresses.keys().copied().collect::<Vec<_>>() {
            cluster.start_node(id).await;
        }
        cluster
    }

    pub(super) async fn start_node(&mut self, id: BrokerId) {
        self.try_start(id).await.unwrap();
    }

    pub(super) async fn try_start(&mut self, id: BrokerId) -> Result<(), String> {
        let address = self.addresses[&id];
        let options = ControllerOptions {
            broker_id: id,
            cluster_id: CLUSTER_ID.to_owned(),
            directory: self.directory(id),
            voters: self.voters.clone(),
            may_form_quorum: true,
            credentials: credentials(),
            timing: Timing::default(),
            lease: Arc::default(),
            hosted_bytes: Arc::default(),
            snapshot_interval_bytes: self.snapshot_interval_bytes,
            policy: DecisionPolicy {
                defaults: Defaults {
                    num_partitions: 1,
                    replication_factor: 1,
                    min_insync_replicas: 1,
                    unclean_leader_election: false,
                },
                place: Box::new(place),
                choose_broker: Box::new(|_| Err("nothing moves here".to_owned())),
                plan_rebalance: Box::new(|_, _| Vec::new()),
                replacement_delay: None,
                config_table: Box::new(AnyConfig),
            },
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let started = runtime.spawn(async move {
            let controller = Controller::start(options)
                .await
                .map_err(|error| error.to_string())?;
            let server = rpc::server()
                .add_service(controller.raft_server())
                .add_service(controller.controller_server());
            let listener = TcpListener::bind(address).await.unwrap();
            tokio::spawn(server.serve_with_incoming(rpc::incoming(listener, &credentials())));
            Ok(controller)
        });
        match started.await.unwrap() {
            Ok(controller) => {
                self.nodes.insert(
                    id,
                    Node {
                        id,
                        address,
                        runtime: Some(runtime),
                        controller,
                    },
                );
                Ok(())
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    pub(super) fn directory(&self, id: BrokerId) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    /// Ends the broker as a crash would: no task gets to say goodbye.
    pub(super) async fn kill(&mut self, id: BrokerId) {
        let mut node = self.nodes.remove(&id).unwrap();
        let runtime = node.runtime.take().unwrap();
        drop(node);
        tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE))
            .await
            .unwrap();
    }

    pub(super) fn address(&self, id: BrokerId) -> String {
        self.addresses[&id].to_string()
    }

    /// A broker that runs.
    pub(super) fn any(&self) -> &Node {
        self.nodes.values().next().unwrap()
    }

    /// Waits until all running brokers know the same active controller.
    pub(super) async fn leader(&self) -> BrokerId {
        let mut leader = None;
        eventually("all agree on a controller", async || {
            // Only an active controller answers; while it changes, nobody may.
            let nothing = Command::CreateTopics(CreateTopics::default());
            if self.any().submit(nothing).await.is_err() {
                return false;
            }
            let known = self
                .nodes
                .values()
                .filter(|node| self.voters.contains_key(&node.id));
            let known: Vec<_> = known
                .map(|node| node.controller.active_controller())
                .collect();
            leader = known[0];
            leader.is_some() && known.iter().all(|id| *id == leader)
        })
        .await;
        leader.unwrap()
    }

    /// Waits until the metadata of all running brokers fulfils `condition`.
    pub(super) async fn everywhere(&self, what: &str, condition: impl Fn(&Image) -> bool) {
        for node in self.nodes.values() {
            node.image(what, &condition).await;
        }
    }

    pub(super) fn join_all(&self) {
        for node in self.nodes.values() {
            node.join("first");
        }
    }
}

impl Node {
    /// Runs on this broker's runtime.
    pub(super) async fn submit(&self, command: Command) -> Result<Response, SubmitError> {
        let controller = Arc::clone(&self.controller);
        let runtime = self.runtime.as_ref().unwrap();
        runtime
            .spawn(async move { controller.submit(command).await })
            .await
            .unwrap()
    }

    pub(super) async fn submit_ok(&self, command: Command) -> Response {
        self.submit(command).await.unwrap()
    }

    pub(super) async fn create_topic(&self, name: &str) {
        self.create_topic_on(name, BrokerId(0)).await;
    }

    pub(super) async fn create_topic_on(&self, name: &str, replica: BrokerId) {
        let response = self.submit_ok(create_topic(name, &[replica])).await;
        let Response::CreateTopics(created) = response else {
            panic!("{response:?}")
        };
        assert_eq!(created.topics[0].failure, None);
    }

    /// Joins the cluster, and applies all metadata at once.
    pub(super) fn join(&self, incarnation: &str) {
        let controller = Arc::clone(&self.controller);
        self.runtime.as_ref().unwrap().spawn(async move {
            let mut positions = controller.positions();
            loop {
                controller.metadata_applied(positions.borrow_and_update().offset);
                if positions.changed().await.is_err() {
                    return;
                }
            }
        });
        self.join_without_applying(incarnation);
    }

    /// Joins the cluster, and leaves metadata as it is.
    pub(super) fn join_without_applying(&self, incarnation: &str) {
        self.join_keeping(incarnation, |_| Kept::Settled);
    }

    /// As [`Self::join_without_applying`], with `keep` to write the registration down.
    pub(super) fn join_keeping(
        &self,
        incarnation: &str,
        keep: impl Fn(BrokerEpoch) -> Kept + Send + Sync + 'static,
    ) {
        let registration = metadata::RegisterBroker {
            broker_id: self.id.0,
            incarnation: format!("{}-{incarnation}", self.id),
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 9092,
            }],
            rpc_host: self.address.ip().to_string(),
            rpc_port: self.address.port().into(),
            features: broker_core::controller::supported_features(),
            ..metadata::RegisterBroker::default()
        };
        let command = RegisterBroker {
            cluster_id: CLUSTER_ID.to_owned(),
            registration,
            previous_broker_epoch: -1,
            disks_broker_epoch: -1,
        };
        self.controller.join(command, keep);
    }

    /// Waits until this broker's metadata fulfils `condition`.
    pub(super) async fn image(&self, what: &str, condition: impl Fn(&Image) -> bool) {
        let mut images = self.controller.watch();
        let done = images.wait_for(|image| condition(image));
        if timeout(PATIENCE, done).await.is_err() {
            panic!(
                "broker {}: not in time: {what}: {:?}",
                self.id,
                self.controller.image()
            );
        }
    }
}

pub(super) fn create_topic(name: &str, replicas: &[BrokerId]) -> Command {
    let assignment = broker_core::controller::Assignment {
        partition: 0,
        replicas: replicas.iter().map(|id| id.0).collect(),
    };
    Command::CreateTopics(CreateTopics {
        topics: vec![NewTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![assignment],
            configs: BTreeMap::new(),
        }],
        validate_only: false,
    })
}

/// Waits for a condition that nothing announces.
pub(super) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn has_topic(name: &str) -> impl Fn(&Image) -> bool {
    move |image| image.topic_by_name(name).is_some()
}

pub(super) fn is_unfenced(id: BrokerId) -> impl Fn(&Image) -> bool {
    move |image| image.is_active(id)
}

pub(super) fn checkpoints(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".checkpoint")).collect()
}
