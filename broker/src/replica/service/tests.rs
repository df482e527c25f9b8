use broker_core::metadata::{self, Image, Record};
use broker_core::partition::Acks;
use broker_core::{PartitionIndex, TopicId};
use broker_wire::record::{BatchBuilder, BatchHeader, NewRecord};
use bytes::BytesMut;
use tempfile::TempDir;

use super::*;
use crate::clock;
use crate::config::{BrokerConfig, Properties};
use crate::health::Health;
use crate::partition::{ProducedBatch, Storage};

const LEADER: BrokerId = BrokerId(1);
const FOLLOWER: BrokerId = BrokerId(2);
const ID: TopicPartition = TopicPartition {
    topic: TopicId([7; 16]),
    partition: PartitionIndex(0),
};

/// The leader's end of a stream, and the partitions behind it.
struct Fixture {
    session: Session,
    image: Image,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
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
        let partitions = PartitionManager::new(config, storage);
        partitions
            .lease()
            .accept(clock::now(), Duration::from_secs(3600));
        let session = Session {
            partitions: Arc::new(partitions),
            quotas: Arc::default(),
            waker: Arc::default(),
            positions: BTreeMap::new(),
            throttled: BTreeSet::new(),
        };
        Self {
            session,
            image: Image::default(),
            _dir: dir,
        }
    }

    /// This broker leads the partition in this epoch; opens it if need be.
    fn lead(&mut self, epoch: i32) {
        let mut new = self.image.clone();
        let topic = metadata::Topic {
            topic_id: ID.topic.into(),
            name: "t".to_owned(),
        };
        let partition = metadata::Partition {
            topic_id: ID.topic.into(),
            replicas: vec![LEADER.0, FOLLOWER.0],
            isr: vec![LEADER.0, FOLLOWER.0],
            leader: LEADER.0,
            leader_epoch: epoch,
            partition_epoch: epoch,
            ..metadata::Partition::default()
        };
        if !new.topics.contains_key(&ID.topic) {
            new.apply(&Record::Topic(topic)).unwrap();
        }
        new.apply(&Record::Partition(partition)).unwrap();
        self.apply(new);
    }

    fn apply(&mut self, new: Image) {
        self.session.partitions.apply(&self.image, &new);
        self.image = new;
    }

    /// The follower, with an empty log, asks for the partition.
    fn ask(&mut self, epoch: i32) -> BTreeSet<TopicPartition> {
        let named = PullPartition {
            key: Some(to_key(ID)),
            leader_epoch: epoch,
            last_fetched_epoch: LeaderEpoch::NONE.0,
            bytes_max: 1,
            ..PullPartition::default()
        };
        let request = PullRequest {
            partitions: vec![named],
            ..PullRequest::default()
        };
        self.session.update(&request).unwrap()
    }

    fn answer(&mut self, due: BTreeSet<TopicPartition>) -> PullResponse {
        let puller = Puller {
            broker: FOLLOWER,
            broker_epoch: BrokerEpoch(1),
            stream: 1,
        };
        let mut answer = PullResponse::default();
        self.session.collect(puller, due, &mut 1, &mut answer);
        answer
    }

    /// Whether the session hears of an append.
    fn hears_of_an_append(&self) -> bool {
        let mut builder = BatchBuilder::new(0);
        builder.append(&NewRecord {
            timestamp: 1,
            key: None,
            value: None,
            headers: &[],
        });
        let bytes = BytesMut::from(&builder.build().unwrap()[..]);
        let batch = ProducedBatch {
            header: BatchHeader::parse(&bytes).unwrap(),
            bytes,
            leader_epoch: None,
            guard: None,
        };
        let partition = self.session.partitions.get(ID).unwrap();
        partition.append(batch, Acks::Leader).unwrap();
        self.session.waker.take_news().contains(&ID)
    }
}

#[test]
fn a_follower_that_asked_while_the_partition_was_opened_never_heard_of_an_append() {
    let mut fixture = Fixture::new();
    let due = fixture.ask(0);
    fixture.lead(0);
    assert_eq!(fixture.answer(due).partitions, []);
    assert!(fixture.hears_of_an_append());
}

#[test]
fn a_follower_of_a_partition_that_was_opened_anew_never_heard_of_an_append() {
    let mut fixture = Fixture::new();
    fixture.lead(0);
    let due = fixture.ask(0);
    assert_eq!(fixture.answer(due).partitions, []);
    fixture.apply(Image::default());
    fixture.lead(0);
    let due = fixture.session.waker.take_news();
    assert_eq!(fixture.answer(due).partitions, []);
    assert!(fixture.hears_of_an_append());
}

#[test]
fn a_follower_in_a_new_epoch_is_told_the_high_watermark_of_an_idle_partition_again() {
    let mut fixture = Fixture::new();
    for (epoch, told) in [(2, true), (2, false), (3, true)] {
        fixture.lead(epoch);
        let due = fixture.ask(epoch);
        assert_eq!(fixture.answer(due).partitions, []);
        let lazy = fixture.session.waker.take_lazy();
        assert_eq!(lazy.contains(&ID), told, "epoch {epoch}");
    }
}
