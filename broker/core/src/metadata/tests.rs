use alloc::string::ToString as _;
use alloc::vec;

use super::*;
use crate::{BrokerId, PartitionIndex, TopicId, TopicPartition};

const TOPIC: TopicId = TopicId([7; 16]);

fn topic(id: TopicId, name: &str) -> Record {
    Record::Topic(Topic {
        topic_id: id.into(),
        name: name.to_string(),
    })
}

fn partition(partition: i32, isr: &[i32]) -> Record {
    Record::Partition(Partition {
        topic_id: TOPIC.into(),
        partition,
        replicas: vec![1, 2],
        isr: isr.to_vec(),
        leader: isr.first().copied().unwrap_or(-1),
        ..Partition::default()
    })
}

fn config(resource_type: ResourceType, name: &str) -> Record {
    Record::Config(Config {
        resource_type: resource_type.into(),
        resource_name: name.to_string(),
        key: "min.insync.replicas".to_string(),
        value: Some("2".to_string()),
    })
}

fn image(records: &[Record]) -> Image {
    let mut image = Image::default();
    for record in records {
        image.apply(record).unwrap();
    }
    image
}

#[test]
fn records_that_cannot_follow_are_refused_and_change_nothing() {
    let mut image = image(&[topic(TOPIC, "t"), partition(0, &[1])]);
    let other = TopicId([8; 16]);
    let gap = TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(2),
    };
    let change = BrokerChange {
        broker_id: 1,
        ..BrokerChange::default()
    };
    let deleted = DeleteTopic {
        topic_id: other.into(),
    };
    let cases = [
        (topic(TOPIC, "u"), ApplyError::TopicExists("u".to_string())),
        (topic(other, "t"), ApplyError::TopicExists("t".to_string())),
        (
            Record::DeleteTopic(deleted),
            ApplyError::UnknownTopic(other),
        ),
        (partition(2, &[1]), ApplyError::PartitionGap(gap)),
        (
            config(ResourceType::Topic, "u"),
            ApplyError::UnknownResource("u".to_string()),
        ),
        (
            config(ResourceType::Broker, "x"),
            ApplyError::UnknownResource("x".to_string()),
        ),
        (
            config(ResourceType::Unknown, ""),
            ApplyError::UnknownResourceType(0),
        ),
        (
            Record::BrokerChange(change),
            ApplyError::UnknownBroker(BrokerId(1)),
        ),
    ];
    let before = image.clone();
    for (record, expected) in cases {
        assert_eq!(image.apply(&record), Err(expected), "{record:?}");
        assert_eq!(image, before);
    }
}

#[test]
fn bytes_of_no_known_record_are_refused() {
    let unknown_variant = [0xf2, 0x07, 0x00];
    assert_eq!(
        Record::from_bytes(&unknown_variant),
        Err(DecodeRecordError::UnknownKind)
    );
    assert_eq!(Record::from_bytes(&[]), Err(DecodeRecordError::UnknownKind));
    let mut torn = topic(TOPIC, "t").to_bytes();
    torn.pop();
    assert!(matches!(
        Record::from_bytes(&torn),
        Err(DecodeRecordError::Malformed(_))
    ));
}

#[test]
fn record_bytes_stay_as_they_are_on_disk() {
    let record = Record::DeleteTopic(DeleteTopic {
        topic_id: TopicId::ZERO.into(),
    });
    assert_eq!(record.to_bytes(), [0x3a, 2, 0x0a, 0]);
    let ids = Record::ProducerIds(ProducerIds {
        next_producer_id: 1000,
    });
    assert_eq!(ids.to_bytes(), [0x52, 3, 0x08, 0xe8, 0x07]);
}

#[test]
fn counts_name_what_is_wrong() {
    let image = image(&[
        topic(TOPIC, "t"),
        config(ResourceType::ClusterDefault, ""),
        partition(0, &[1, 2]),
        partition(1, &[2]),
        partition(2, &[]),
    ]);
    let counts = image.counts(1);
    assert_eq!(
        (counts.topics, counts.partitions, counts.offline_partitions),
        (1, 3, 1)
    );
    assert_eq!(counts.under_replicated_partitions, 2);
    assert_eq!(counts.under_min_isr_partitions, 2);
    assert_eq!(counts.preferred_leader_imbalance, 2);
    assert_eq!(
        counts.brokers[&BrokerId(1)],
        BrokerCounts {
            replicas: 3,
            in_sync: 1,
            leaders: 1,
            preferred: 3,
            preferred_led: 1,
        }
    );
    assert_eq!(
        counts.brokers[&BrokerId(2)],
        BrokerCounts {
            replicas: 3,
            in_sync: 2,
            leaders: 1,
            preferred: 0,
            preferred_led: 0,
        }
    );
}

#[test]
fn lint_finds_what_no_decision_makes() {
    let id = TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(0),
    };
    let violations = lint(&image(&[topic(TOPIC, "t"), partition(0, &[1, 1, 3])]));
    assert!(
        violations.contains(&Violation::DuplicateReplica(id)),
        "{violations:?}"
    );
    assert!(
        violations.contains(&Violation::MemberWithoutReplica(id)),
        "{violations:?}"
    );
    assert!(violations.contains(&Violation::UnregisteredReplica(id, BrokerId(2))));
    let violations = lint(&image(&[topic(TOPIC, "t"), partition(0, &[])]));
    assert!(
        violations.contains(&Violation::NoCandidate(id)),
        "{violations:?}"
    );
}

#[test]
fn a_topics_settings_reach_the_brokers_that_host_it() {
    let old = image(&[topic(TOPIC, "t"), partition(0, &[1])]);
    let mut new = old.clone();
    new.apply(&config(ResourceType::Topic, "t")).unwrap();
    let expected = ReplicaChange::TopicConfig { topic: TOPIC };
    assert_eq!(changes(&old, &new, BrokerId(1)), [expected]);
    assert_eq!(changes(&old, &new, BrokerId(3)), []);
}
