//! The coordinator of a broker that leads `__transaction_state` and a topic, both of one partition.

use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::{self, Image, Record};
use broker_core::partition::TransactionOutcome;
use broker_core::transaction::{Protocol, State};
use broker_core::{BrokerId, ProducerEpoch, TopicId};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::config::{BrokerConfig, Properties};
use crate::coordinator::GroupCoordinator;
use crate::health::Health;
use crate::partition::{PartitionManager, Storage};
use crate::rpc::Token;

const ME: BrokerId = BrokerId(1);
const TOPIC: &str = "t";
const ID: &str = "id";

struct Fixture {
    coordinator: TransactionCoordinator,
    lease: Arc<Lease>,
    _images: watch::Sender<Arc<Image>>,
    _dir: TempDir,
}

fn image() -> Image {
    let mut image = Image::default();
    for (n, name) in [(1, TRANSACTIONS_TOPIC), (2, TOPIC)] {
        let topic_id = TopicId([n; 16]).into();
        let topic = metadata::Topic {
            topic_id,
            name: name.to_owned(),
        };
        image.apply(&Record::Topic(topic)).unwrap();
        let partition = metadata::Partition {
            topic_id,
            replicas: vec![ME.0],
            isr: vec![ME.0],
            leader: ME.0,
            leader_epoch: 3,
            ..metadata::Partition::default()
        };
        image.apply(&Record::Partition(partition)).unwrap();
    }
    image
}

impl Fixture {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let properties: Properties = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://127.0.0.1:9092"),
            ("klamm.rpc.token.file", "/nowhere"),
            ("klamm.cluster.id", "test"),
            ("controller.quorum.voters", "1@127.0.0.1:1"),
            ("log.dirs", dir.path().to_str().unwrap()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        let config = Arc::new(BrokerConfig::new(properties).unwrap());
        let storage = Storage::open(&config, Health::default().recovery()).unwrap();
        let partitions = Arc::new(PartitionManager::new(Arc::clone(&config), storage));
        let lease = partitions.lease();
        let (images, watched) = watch::channel(Arc::new(image()));
        let (manager, new) = (Arc::clone(&partitions), image());
        let apply = move || manager.apply(&Image::default(), &new);
        let events = tokio::task::spawn_blocking(apply).await.unwrap();
        let groups = GroupCoordinator::new(config.groups(), 1, Arc::clone(&lease));
        let credentials = Token::new("a-token-for-tests-only").unwrap().into();
        let peers = Peers::new(ME, credentials, watched, partitions, Arc::new(groups));
        let coordinator = TransactionCoordinator::new(
            config.transactions(),
            1,
            Arc::clone(&lease),
            Arc::new(peers),
        );
        let fixture = Self {
            coordinator,
            lease,
            _images: images,
            _dir: dir,
        };
        fixture.hold_lease();
        fixture.coordinator.apply(&events);
        while fixture.coordinator.describe(ID) == Err(Refused::Loading) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture
    }

    fn hold_lease(&self) {
        self.lease.accept(clock::now(), Duration::from_secs(3600));
    }

    /// The process runs, without an answer of the controller.
    fn lose_controller(&self) {
        self.lease.end();
        self.lease.accept(clock::now(), Duration::from_millis(1));
        while self.lease.is_confirmed(clock::now()) {
            self.lease.extend(clock::now(), Duration::from_secs(3600));
        }
        assert!(self.lease.holds(clock::now()));
    }

    async fn init(&self) -> Result<Producer, Refused> {
        self.init_as(None).await
    }

    async fn init_as(&self, expected: Option<Producer>) -> Result<Producer, Refused> {
        let request = InitRequest {
            id: ID.into(),
            timeout: Duration::from_secs(60),
            expected,
        };
        match self.coordinator.init(&request, Some(ProducerId(7))).await? {
            Answer::Producer(producer) => Ok(producer),
            Answer::NeedsProducerId => panic!("one was given"),
        }
    }

    async fn add(&self, producer: Producer, topic: &str) -> Result<(), Refused> {
        let partitions = [(topic.into(), PartitionIndex(0))];
        let added = self.coordinator.add_partitions(ID, producer, &partitions);
        added.await
    }

    async fn end(&self, producer: Producer) -> Result<Producer, Refused> {
        let request = EndRequest {
            id: ID.into(),
            producer,
            outcome: TransactionOutcome::Commit,
            protocol: Protocol::V2,
        };
        match self.coordinator.end(&request, None).await? {
            Answer::Producer(producer) => Ok(producer),
            Answer::NeedsProducerId => panic!("epochs are left"),
        }
    }

    async fn wait_for(&self, state: State) {
        let is_there = || match self.coordinator.describe(ID) {
            Ok(Some(metadata)) => metadata.state == state,
            _ => false,
        };
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn count(&self, event: &str) -> u64 {
        let all = self.coordinator.counts().all();
        all.into_iter().find(|(kind, _)| *kind == event).unwrap().1
    }
}

#[tokio::test]
async fn a_transaction_goes_from_its_first_partition_to_its_markers() {
    let fixture = Fixture::start().await;
    let producer = fixture.init().await.unwrap();
    fixture.add(producer, TOPIC).await.unwrap();
    let next = fixture.end(producer).await.unwrap();
    assert_eq!(next.epoch, ProducerEpoch(producer.epoch.0 + 1));
    fixture.wait_for(State::CompleteCommit).await;
    fixture.add(next, TOPIC).await.unwrap();
    let fencing = fixture.init().await.unwrap();
    assert_eq!(
        fixture.end(next).await,
        Err(TransactionError::Fenced.into())
    );
    fixture.add(fencing, TOPIC).await.unwrap();
    for (event, count) in [
        ("started", 3),
        ("committed", 1),
        ("aborted", 1),
        ("timed_out", 0),
        ("fenced", 1),
    ] {
        assert_eq!(fixture.count(event), count, "{event}");
    }
}

#[tokio::test]
async fn a_lease_that_lapses_for_a_moment_leaves_no_id_blocked() {
    let fixture = Fixture::start().await;
    let producer = fixture.init().await.unwrap();
    let shard = fixture.coordinator.shard(ID).unwrap();
    let partition = (TOPIC.into(), PartitionIndex(0));
    let decided = shard.with(|transactions| {
        let now = clock::timestamp();
        let decided = transactions.decide_add(now, ID, producer, vec![partition]);
        if let Ok(Decision::Store { record, .. }) = &decided {
            transactions.begin(record);
        }
        decided
    });
    let Ok(Ok(Decision::Store { record, .. })) = decided else {
        panic!("{decided:?}");
    };
    fixture.lease.end();
    let stored = Shard::store(&shard, record).await;
    assert_eq!(stored, Err(Refused::NotCoordinator));
    fixture.hold_lease();
    assert_eq!(fixture.add(producer, TOPIC).await, Ok(()));
}

#[tokio::test]
async fn a_coordinator_that_is_cut_off_answers_nothing_from_what_it_knew() {
    let fixture = Fixture::start().await;
    let first = fixture.init().await.unwrap();
    let producer = fixture.init_as(Some(first)).await.unwrap();
    fixture.add(producer, TOPIC).await.unwrap();
    fixture.lose_controller();
    let deposed = Refused::NotCoordinator;
    assert_eq!(fixture.add(producer, TOPIC).await, Err(deposed));
    assert_eq!(fixture.add(first, TOPIC).await, Err(deposed), "not fenced");
    let partitions = [(TOPIC.into(), PartitionIndex(0))];
    let verified = fixture.coordinator.verify(ID, producer, &partitions);
    assert_eq!(verified.await, Err(deposed));
    assert_eq!(fixture.coordinator.describe(ID), Err(deposed));
    let listed = fixture.coordinator.list(|id, _| Some(Arc::clone(id)));
    assert_eq!(listed, Err(deposed));
    assert!(fixture.end(producer).await.is_ok(), "once it is replicated");
    let repeated = fixture.end(producer).await;
    assert_eq!(repeated, Err(deposed));
    fixture.hold_lease();
    assert!(fixture.end(producer).await.is_ok());
}

/// Else the markers that it gets could be taken for those of a deleted topic.
#[tokio::test]
async fn a_partition_that_the_metadata_does_not_have_yet_is_not_added() {
    let fixture = Fixture::start().await;
    let producer = fixture.init().await.unwrap();
    let added = fixture.add(producer, "new").await;
    assert_eq!(added, Err(Refused::UnknownPartition));
    assert!(Refused::UnknownPartition.code().retriable());
}
