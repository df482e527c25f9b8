//! A leader, and a follower of its, without anything that runs by itself but the controller.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use broker_core::controller::{
    Assignment, BrokerRef, Command, CreateTopics, NewTopic, RegisterBroker, Response,
    supported_features,
};
use broker_core::metadata::{self, Endpoint, Image};
use broker_core::partition::Puller;
use broker_core::{BrokerEpoch, BrokerId, PartitionIndex, TopicPartition};
use bytes::Bytes;
use futures::FutureExt as _;
use klamm_broker::api::{Call, Context, Coordinators, Peer, ProduceAnswer, Reply};
use klamm_broker::clock;
use klamm_broker::config::{BrokerConfig, Properties};
use klamm_broker::controller::{Controller, ControllerOptions, SNAPSHOT_INTERVAL_BYTES, Timing};
use klamm_broker::coordinator::GroupCoordinator;
use klamm_broker::health::Health;
use klamm_broker::partition::{FollowerStep, Partition, PartitionManager, PulledContent, Storage};
use klamm_broker::policy::policy;
use klamm_broker::rpc::{Credentials, Token};
use klamm_broker::transaction::{Peers, TransactionCoordinator};
use klamm_proto::v1::PulledPartition;
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};

use crate::SPREAD;
use crate::requests::TOPIC;

const LEADER: BrokerId = BrokerId(1);
const FOLLOWER: BrokerId = BrokerId(2);
const CLUSTER: &str = "instructions";
const LISTENER: &str = "PLAINTEXT";
/// Nobody sends heartbeats.
const SESSION: Duration = Duration::from_secs(24 * 3600);
const PULL_BYTES_MAX: usize = 1 << 20;

/// How often the topic is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replicas {
    One,
    Two,
}

pub(crate) struct Brokers {
    leader: Arc<Context>,
    /// Partition 0, on both.
    replicas: Option<(Arc<Partition>, Arc<Partition>)>,
    puller: Puller,
    peer: Peer,
    runtime: Runtime,
}

impl Brokers {
    pub(crate) fn start(directory: &Path, replicas: Replicas) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let config = |id: BrokerId| config(id, &directory.join(id.to_string()));
        let leader_config = Arc::new(config(LEADER)?);
        let controller = runtime.block_on(Controller::start(options(&leader_config)?))?;
        let (image, puller) = runtime.block_on(async {
            register(&controller, LEADER).await?;
            let puller = Puller {
                broker: FOLLOWER,
                broker_epoch: register(&controller, FOLLOWER).await?,
                stream: 1,
            };
            anyhow::Ok((create_topic(&controller, replicas).await?, puller))
        })?;
        let _entered = runtime.enter();
        let leader = host(Arc::clone(&leader_config), &image)?;
        let replicas = match replicas {
            Replicas::One => None,
            Replicas::Two => {
                let follower = host(Arc::new(config(FOLLOWER)?), &image)?;
                Some((first(&leader, &image)?, first(&follower, &image)?))
            }
        };
        let coordinators = coordinators(&leader_config, &controller, &leader)?;
        let leader = Context::new(leader_config, controller, leader, coordinators);
        Ok(Self {
            leader: Arc::new(leader),
            replicas,
            puller,
            peer: Peer {
                host: "127.0.0.1".into(),
                listener: LISTENER.into(),
            },
            runtime,
        })
    }

    /// Has the leader answer a produce request.
    pub(crate) fn produce(&self, frame: Bytes) -> Result<Reply> {
        let _entered = self.runtime.enter();
        let Call::Produce(call) = Call::decode(&self.peer, frame)? else {
            bail!("not a produce request");
        };
        let answered = call.append(&self.leader).answer(&self.leader);
        match answered.now_or_never().context("not acknowledged")? {
            ProduceAnswer::Reply(reply) => Ok(reply),
            ProduceAnswer::Nothing | ProduceAnswer::Close(_) => bail!("no answer"),
        }
    }

    /// Has the leader answer a fetch request.
    pub(crate) fn fetch(&self, frame: Bytes) -> Result<Reply> {
        let _entered = self.runtime.enter();
        let Call::Query(query) = Call::decode(&self.peer, frame)? else {
            bail!("not a fetch request");
        };
        let answered = query.answer(&self.leader);
        answered.now_or_never().context("nothing to fetch")
    }

    /// Has the follower pull what it lacks, if there is one.
    pub(crate) fn replicate(&self) -> Result<()> {
        let Some((leader, follower)) = &self.replicas else {
            return Ok(());
        };
        let state = follower.follower_state().context("it follows nobody")?;
        let pulled = leader.serve_pull(self.puller, state, PULL_BYTES_MAX)?;
        let PulledContent::Records(slice) = pulled.content else {
            bail!("nothing to replicate");
        };
        let answer = PulledPartition {
            leader_epoch: pulled.epoch.0,
            high_watermark: pulled.high_watermark.0,
            log_start_offset: pulled.log_start.0,
            records: leader.read_for_follower(&slice, pulled.damaged)?,
            ..PulledPartition::default()
        };
        let message = Bytes::from(answer.encode_to_vec());
        match follower.handle_pulled(&PulledPartition::decode(message)?) {
            FollowerStep::Continue => Ok(()),
            _ => bail!("the follower does not take the records over"),
        }
    }
}

fn config(id: BrokerId, directory: &Path) -> Result<BrokerConfig> {
    let id = id.to_string();
    let directory = directory.to_str().context("a path that is no text")?;
    let properties = [
        ("node.id", id.as_str()),
        ("listeners", "PLAINTEXT://127.0.0.1:9092"),
        ("klamm.rpc.token.file", "/nowhere"),
        ("klamm.cluster.id", CLUSTER),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("log.dirs", directory),
    ];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok(BrokerConfig::new(Properties::from(properties))?)
}

fn options(config: &Arc<BrokerConfig>) -> Result<ControllerOptions> {
    Ok(ControllerOptions {
        broker_id: config.id,
        cluster_id: config.cluster_id.clone(),
        directory: config.metadata_dir.clone(),
        voters: [(config.id, "127.0.0.1:1".to_owned())].into(),
        may_form_quorum: true,
        credentials: credentials()?,
        timing: Timing {
            session_timeout: SESSION,
            ..Timing::default()
        },
        lease: Arc::default(),
        hosted_bytes: Arc::default(),
        snapshot_interval_bytes: SNAPSHOT_INTERVAL_BYTES,
        policy: policy(config),
    })
}

async fn register(controller: &Controller, id: BrokerId) -> Result<BrokerEpoch> {
    let registration = metadata::RegisterBroker {
        broker_id: id.0,
        incarnation: id.to_string(),
        endpoints: vec![Endpoint {
            listener: LISTENER.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        rpc_host: "127.0.0.1".to_owned(),
        rpc_port: 1,
        features: supported_features(),
        ..metadata::RegisterBroker::default()
    };
    let register = Command::RegisterBroker(Box::new(RegisterBroker {
        cluster_id: CLUSTER.to_owned(),
        registration,
        previous_broker_epoch: -1,
        disks_broker_epoch: -1,
    }));
    let Response::RegisterBroker(registered) = controller.submit(register).await? else {
        bail!("broker {id} is not registered");
    };
    let broker = BrokerRef {
        broker_id: id.0,
        broker_epoch: registered.broker_epoch,
    };
    controller.submit(Command::UnfenceBroker(broker)).await?;
    Ok(BrokerEpoch(broker.broker_epoch))
}

async fn create_topic(controller: &Controller, replicas: Replicas) -> Result<Arc<Image>> {
    let brokers = match replicas {
        Replicas::One => vec![LEADER.0],
        Replicas::Two => vec![LEADER.0, FOLLOWER.0],
    };
    let assignments = (0..SPREAD).map(|partition| Assignment {
        partition,
        replicas: brokers.clone(),
    });
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: assignments.collect(),
        ..NewTopic::default()
    };
    let create = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    let Response::CreateTopics(created) = controller.submit(create).await? else {
        bail!("the topic is not created");
    };
    if let Some(failure) = &created.topics[0].failure {
        bail!("the topic is not created: {}", failure.message);
    }
    let mut images = controller.watch();
    let image = images.wait_for(|image| image.topic_by_name(TOPIC).is_some());
    Ok(Arc::clone(&*image.await?))
}

/// Opens the broker's replicas, and lets it lead for as long as it takes.
fn host(config: Arc<BrokerConfig>, image: &Image) -> Result<Arc<PartitionManager>> {
    let storage = Storage::open(&config, Health::default().recovery())?;
    let partitions = PartitionManager::new(config, storage);
    partitions.lease().accept(clock::now(), SESSION);
    partitions.apply(&Image::default(), image);
    Ok(Arc::new(partitions))
}

fn first(partitions: &PartitionManager, image: &Image) -> Result<Arc<Partition>> {
    let topic = image.topic_by_name(TOPIC).context("no topic")?.id;
    let partition = PartitionIndex(0);
    let found = partitions.get(TopicPartition { topic, partition });
    found.context("the partition is not hosted")
}

/// Of no group and no transaction.
fn coordinators(
    config: &BrokerConfig,
    controller: &Controller,
    partitions: &Arc<PartitionManager>,
) -> Result<Coordinators> {
    let groups = GroupCoordinator::new(config.groups(), 1, partitions.lease());
    let groups = Arc::new(groups);
    let peers = Arc::new(Peers::new(
        config.id,
        credentials()?,
        controller.watch(),
        Arc::clone(partitions),
        Arc::clone(&groups),
    ));
    let lease = partitions.lease();
    let transactions =
        TransactionCoordinator::new(config.transactions(), 1, lease, Arc::clone(&peers));
    Ok(Coordinators {
        groups,
        transactions: Arc::new(transactions),
        transaction_peers: peers,
    })
}

fn credentials() -> Result<Credentials> {
    Ok(Token::new("nobody-listens-for-this-token")?.into())
}
