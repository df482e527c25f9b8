//! A broker of one: real log, real controller, no gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    BrokerRef, Command, CreateTopics, NewTopic, RegisterBroker, Response,
};
use broker_core::lease::Lease;
use broker_core::metadata::{self, Endpoint, Image};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{Context, Coordinators};
use crate::clock;
use crate::config::{BrokerConfig, Properties};
use crate::controller::{Controller, ControllerOptions, SNAPSHOT_INTERVAL_BYTES, Timing};
use crate::coordinator::GroupCoordinator;
use crate::health::Health;
use crate::net::{NetMetrics, Server};
use crate::partition::{PartitionManager, Storage};
use crate::policy::policy;
use crate::rpc::Token;
use crate::tls::ListenerTls;
use crate::transaction::{Peers, TransactionCoordinator};

/// Has one partition.
pub(super) const TOPIC: &str = "t";

pub(super) struct TestBroker {
    pub(super) address: SocketAddr,
    pub(super) metrics: Arc<NetMetrics>,
    pub(super) lease: Arc<Lease>,
    pub(super) stopped: CancellationToken,
    _dir: TempDir,
}

impl TestBroker {
    pub(super) async fn start(overrides: &[(&str, &str)]) -> Self {
        Self::start_with(overrides, None).await
    }

    /// A broker that gives stalling peers no more than `stall`.
    pub(super) async fn start_impatient(stall: Duration) -> Self {
        Self::start_with(&[], Some(stall)).await
    }

    /// As [`Self::start`], with the longest that peers may stall, in handshakes too.
    pub(super) async fn start_with(overrides: &[(&str, &str)], stall: Option<Duration>) -> Self {
        let dir = TempDir::new().unwrap();
        let config = Arc::new(config(&dir, overrides));
        let storage = Storage::open(&config, Health::default().recovery()).unwrap();
        let partitions = Arc::new(PartitionManager::new(Arc::clone(&config), storage));
        let lease = partitions.lease();
        lease.accept(clock::now(), Duration::from_secs(3600));
        let controller = Controller::start(controller_options(&config))
            .await
            .unwrap();
        make_topic(&controller).await;
        let image = controller.image();
        let manager = Arc::clone(&partitions);
        tokio::task::spawn_blocking(move || manager.apply(&Image::default(), &image))
            .await
            .unwrap();

        let groups = Arc::new(GroupCoordinator::new(
            config.groups(),
            1,
            partitions.lease(),
        ));
        let transaction_peers = Arc::new(Peers::new(
            config.id,
            Token::new("a-token-for-tests-only").unwrap().into(),
            controller.watch(),
            Arc::clone(&partitions),
            Arc::clone(&groups),
        ));
        let coordinators = Coordinators {
            transactions: Arc::new(TransactionCoordinator::new(
                config.transactions(),
                50,
                Arc::clone(&lease),
                Arc::clone(&transaction_peers),
            )),
            groups,
            transaction_peers,
        };
        let tls = config.listener_tls.get("PLAINTEXT");
        let tls = tls.map(|tls| Arc::new(ListenerTls::listener("PLAINTEXT", tls).unwrap()));
        let context = Arc::new(Context::new(config, controller, partitions, coordinators));
        let metrics = Arc::new(NetMetrics::default());
        let mut server = Server::new(context, Arc::clone(&metrics));
        if let Some(stall) = stall {
            server.limits.stall = stall;
            server.limits.handshake = stall;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = CancellationToken::new();
        tokio::spawn(Arc::new(server).serve(listener, "PLAINTEXT".into(), tls, stopped.clone()));
        Self {
            address,
            lease,
            metrics,
            stopped,
            _dir: dir,
        }
    }
}

fn config(dir: &TempDir, overrides: &[(&str, &str)]) -> BrokerConfig {
    let data = dir.path().to_str().unwrap();
    let mut properties: Properties = [
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://127.0.0.1:9092"),
        ("klamm.rpc.token.file", "/nowhere"),
        ("klamm.cluster.id", "test"),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("log.dirs", data),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    for (key, value) in overrides {
        properties.insert((*key).to_owned(), (*value).to_owned());
    }
    BrokerConfig::new(properties).unwrap()
}

fn controller_options(config: &Arc<BrokerConfig>) -> ControllerOptions {
    ControllerOptions {
        broker_id: config.id,
        cluster_id: config.cluster_id.clone(),
        directory: config.metadata_dir.clone(),
        voters: [(config.id, "127.0.0.1:1".to_owned())].into(),
        may_form_quorum: true,
        credentials: Token::new("a-token-for-tests-only").unwrap().into(),
        timing: Timing {
            session_timeout: Duration::from_secs(600),
            ..Timing::default()
        },
        lease: Arc::default(),
        hosted_bytes: Arc::default(),
        snapshot_interval_bytes: SNAPSHOT_INTERVAL_BYTES,
        policy: policy(config),
    }
}

/// Registers and unfences the broker, and gives it a topic.
async fn make_topic(controller: &Controller) {
    let registration = metadata::RegisterBroker {
        broker_id: 1,
        incarnation: "i".to_owned(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        rpc_host: "127.0.0.1".to_owned(),
        rpc_port: 1,
        features: broker_core::controller::supported_features(),
        ..metadata::RegisterBroker::default()
    };
    let register = Command::RegisterBroker(Box::new(RegisterBroker {
        cluster_id: "test".to_owned(),
        registration,
        previous_broker_epoch: -1,
        disks_broker_epoch: -1,
    }));
    let Response::RegisterBroker(registered) = controller.submit(register).await.unwrap() else {
        panic!("not registered");
    };
    let broker = BrokerRef {
        broker_id: 1,
        broker_epoch: registered.broker_epoch,
    };
    controller
        .submit(Command::UnfenceBroker(broker))
        .await
        .unwrap();
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..NewTopic::default()
    };
    let create = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    let Response::CreateTopics(created) = controller.submit(create).await.unwrap() else {
        panic!("not created");
    };
    assert_eq!(created.topics[0].failure, None);
    let mut images = controller.watch();
    images
        .wait_for(|image| image.topic_by_name(TOPIC).is_some())
        .await
        .unwrap();
}
