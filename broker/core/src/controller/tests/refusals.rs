//! What is refused, and that a refusal changes nothing.

use super::*;
use crate::metadata::Uuid;

fn refused(cluster: &mut Cluster, command: Command) -> Option<CommandError> {
    let before = cluster.image.clone();
    let response = cluster.submit(command);
    let error = failure(&response);
    assert!(error.is_none() || before == cluster.image, "{response:?}");
    error
}

fn create(topic: NewTopic) -> Command {
    Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    })
}

#[test]
fn topics_that_cannot_be() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("taken", &[1], &[]);
    let assigned = |replicas: &[&[i32]]| NewTopic {
        assignments: (0..)
            .zip(replicas)
            .map(|(partition, replicas)| Assignment {
                partition,
                replicas: replicas.to_vec(),
            })
            .collect(),
        ..new_topic("t", -1, -1)
    };
    let config = ("no.such.key".to_string(), "1".to_string());
    let most = i32::try_from(PARTITIONS_PER_COMMAND_MAX).unwrap();
    let cases = [
        (new_topic("taken", 1, 1), CommandError::TopicAlreadyExists),
        (new_topic("a/b", 1, 1), CommandError::InvalidTopicName),
        (new_topic("t", 0, 1), CommandError::InvalidPartitions),
        (new_topic("t", -2, 1), CommandError::InvalidPartitions),
        (new_topic("t", most + 1, 1), CommandError::LimitExceeded),
        (new_topic("t", 1, 0), CommandError::InvalidReplicationFactor),
        (new_topic("t", 1, 4), CommandError::InvalidReplicationFactor),
        (
            NewTopic {
                configs: [config].into(),
                ..new_topic("t", 1, 1)
            },
            CommandError::InvalidConfig,
        ),
        (assigned(&[&[1, 1]]), CommandError::InvalidAssignment),
        (assigned(&[&[1, 9]]), CommandError::InvalidAssignment),
        (assigned(&[&[1, 2], &[1]]), CommandError::InvalidAssignment),
        (assigned(&[&[]]), CommandError::InvalidAssignment),
        (
            NewTopic {
                num_partitions: 2,
                ..assigned(&[&[1]])
            },
            CommandError::InvalidPartitions,
        ),
    ];
    for (topic, expected) in cases {
        assert_eq!(
            refused(&mut cluster, create(topic.clone())),
            Some(expected),
            "{topic:?}"
        );
    }
    let twice = vec![new_topic("t", 1, 1), new_topic("t", 1, 1)];
    let command = Command::CreateTopics(CreateTopics {
        topics: twice,
        validate_only: false,
    });
    assert_eq!(
        refused(&mut cluster, command),
        Some(CommandError::InvalidRequest)
    );
}

#[test]
fn partitions_in_the_cluster_are_bounded() {
    let mut cluster = Cluster::with_brokers(1);
    let each = i32::try_from(PARTITIONS_PER_COMMAND_MAX).unwrap();
    for index in 0..PARTITIONS_MAX / PARTITIONS_PER_COMMAND_MAX {
        let name = alloc::format!("t{index}");
        let topic = TopicId([u8::try_from(index).unwrap() + 100; 16]);
        push_topic(&mut cluster.image, &name, topic, each);
    }
    cluster.follower = cluster.image.clone();
    let error = refused(&mut cluster, create(new_topic("one-more", 1, 1)));
    assert_eq!(error, Some(CommandError::LimitExceeded));
}

fn push_topic(image: &mut Image, name: &str, topic: TopicId, partitions: i32) {
    let topic_id = Uuid::from(topic);
    let record = metadata::Topic {
        topic_id,
        name: name.to_string(),
    };
    image.apply(&Record::Topic(record)).unwrap();
    for partition in 0..partitions {
        let record = metadata::Partition {
            topic_id,
            partition,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            ..metadata::Partition::default()
        };
        image.apply(&Record::Partition(record)).unwrap();
    }
}

#[test]
fn validate_only_answers_without_records() {
    let mut cluster = Cluster::with_brokers(3);
    let before = cluster.image.clone();
    let topics = vec![new_topic("t", -1, -1)];
    let response = cluster.submit(Command::CreateTopics(CreateTopics {
        topics,
        validate_only: true,
    }));
    let Response::CreateTopics(created) = response else {
        panic!("{response:?}")
    };
    let topic = &created.topics[0];
    assert_eq!((topic.num_partitions, topic.replication_factor), (2, 3));
    assert_eq!((topic.topic_id, &topic.failure), (Uuid::default(), &None));
    assert_eq!(cluster.image, before);
}

#[test]
fn registrations_that_cannot_be() {
    let mut cluster = Cluster::with_brokers(1);
    assert_eq!(
        failure(&cluster.register(1, NO_LAST_RUN)),
        Some(CommandError::DuplicateBrokerId)
    );
    assert_eq!(
        failure(&cluster.register(-1, NO_LAST_RUN)),
        Some(CommandError::InvalidRequest)
    );
    let stale = BrokerRef {
        broker_id: 1,
        broker_epoch: 0,
    };
    for command in [
        Command::FenceBroker(stale),
        Command::UnfenceBroker(stale),
        Command::DrainBroker(stale),
        Command::AllocateProducerIds(stale),
        Command::AlterPartitions(AlterPartitions {
            leader: stale,
            partitions: Vec::new(),
        }),
    ] {
        assert_eq!(
            refused(&mut cluster, command),
            Some(CommandError::StaleBrokerEpoch)
        );
    }
    let other = InitializeCluster {
        cluster_id: "other".to_string(),
        features: BTreeMap::new(),
    };
    let error = refused(&mut cluster, Command::InitializeCluster(other));
    assert_eq!(error, Some(CommandError::InconsistentClusterId));
}

#[test]
fn a_repeated_registration_gets_the_same_epoch() {
    let mut cluster = Cluster::new();
    cluster.register(1, NO_LAST_RUN);
    let registration = metadata::RegisterBroker {
        broker_id: 1,
        incarnation: "0".to_string(),
        endpoints: cluster.image.brokers[&BrokerId(1)].endpoints.clone(),
        rpc_port: 1,
        features: cluster.image.brokers[&BrokerId(1)].features.clone(),
        ..metadata::RegisterBroker::default()
    };
    let cluster_id = "klamm".to_string();
    let again = RegisterBroker {
        cluster_id,
        registration,
        previous_broker_epoch: -1,
        disks_broker_epoch: -1,
    };
    let response = cluster.submit(Command::RegisterBroker(again.into()));
    assert_eq!(
        response,
        Response::RegisterBroker(BrokerRegistered { broker_epoch: 1 })
    );
    assert_eq!(cluster.image.last_broker_epoch, BrokerEpoch(1));
}

#[test]
fn epochs_grow_beyond_a_broker_that_has_left() {
    let mut cluster = Cluster::new();
    cluster.register(1, NO_LAST_RUN);
    cluster.submit(Command::UnregisterBroker(UnregisterBroker {
        broker_id: 1,
        expected_incarnation: None,
    }));
    cluster.register(1, (1, 1));
    assert_eq!(cluster.image.brokers[&BrokerId(1)].epoch, BrokerEpoch(2));
}

#[test]
fn brokers_in_use_are_not_forgotten() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[1], &[]);
    let unregister = |broker_id| {
        Command::UnregisterBroker(UnregisterBroker {
            broker_id,
            expected_incarnation: None,
        })
    };
    assert_eq!(
        refused(&mut cluster, unregister(2)),
        Some(CommandError::BrokerInUse)
    );
    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    cluster.submit(Command::FenceBroker(cluster.broker(2)));
    assert_eq!(
        refused(&mut cluster, unregister(1)),
        Some(CommandError::BrokerInUse)
    );
    assert_eq!(refused(&mut cluster, unregister(2)), None);
    assert_eq!(
        refused(&mut cluster, unregister(2)),
        Some(CommandError::UnknownBroker)
    );
}

#[test]
fn isr_changes_that_cannot_be() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1, 2], &[]);
    let base = AlterPartition {
        topic_id: cluster.image.topic_by_name("t").unwrap().id.into(),
        partition: 0,
        leader_epoch: 0,
        partition_epoch: 0,
        new_isr: vec![cluster.broker(1), cluster.broker(2)],
    };
    let stale = BrokerRef {
        broker_epoch: 1,
        ..cluster.broker(2)
    };
    let isr = |members: &[BrokerRef]| AlterPartition {
        new_isr: members.to_vec(),
        ..base.clone()
    };
    let (one, two, three) = (cluster.broker(1), cluster.broker(2), cluster.broker(3));
    let cases = [
        (two, base.clone(), Some(CommandError::FencedLeaderEpoch)),
        (
            one,
            AlterPartition {
                topic_id: Uuid { high: 9, low: 9 },
                ..base.clone()
            },
            Some(CommandError::UnknownTopicId),
        ),
        (
            one,
            AlterPartition {
                partition: 1,
                ..base.clone()
            },
            Some(CommandError::UnknownPartition),
        ),
        (
            one,
            AlterPartition {
                leader_epoch: -1,
                ..base.clone()
            },
            Some(CommandError::FencedLeaderEpoch),
        ),
        (
            one,
            AlterPartition {
                leader_epoch: 1,
                ..base.clone()
            },
            Some(CommandError::NotController),
        ),
        (
            one,
            AlterPartition {
                partition_epoch: -1,
                ..base.clone()
            },
            Some(CommandError::InvalidPartitionEpoch),
        ),
        (one, isr(&[]), Some(CommandError::InvalidRequest)),
        (one, isr(&[two]), Some(CommandError::InvalidRequest)),
        (one, isr(&[one, one]), Some(CommandError::InvalidRequest)),
        (one, isr(&[one, three]), Some(CommandError::InvalidRequest)),
        (one, base.clone(), None),
        (one, base.clone(), Some(CommandError::InvalidPartitionEpoch)),
    ];
    for (leader, change, expected) in cases {
        let partitions = vec![change.clone()];
        let command = Command::AlterPartitions(AlterPartitions { leader, partitions });
        assert_eq!(refused(&mut cluster, command), expected, "{change:?}");
    }
    assert_eq!(failure(&cluster.alter_isr("t", &[1]).unwrap()), None);
    let restarted = AlterPartition {
        partition_epoch: 2,
        ..isr(&[one, stale])
    };
    let command = Command::AlterPartitions(AlterPartitions {
        leader: one,
        partitions: vec![restarted],
    });
    assert_eq!(
        refused(&mut cluster, command),
        Some(CommandError::IneligibleReplica)
    );
    cluster.submit(Command::DrainBroker(two));
    let error = failure(&cluster.alter_isr("t", &[1, 2]).unwrap());
    assert_eq!(error, Some(CommandError::IneligibleReplica));
}

#[test]
fn preconditions_of_partitions_and_deletion() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1, 2], &[]);
    let id: Uuid = cluster.image.topic_by_name("t").unwrap().id.into();
    let other = Uuid { high: 1, low: 1 };
    let base = NewPartitions {
        name: "t".to_string(),
        count: 2,
        expected_topic_id: Some(id),
        expected_count: Some(1),
        ..NewPartitions::default()
    };
    let cases = [
        (
            NewPartitions {
                name: "u".to_string(),
                ..base.clone()
            },
            Some(CommandError::UnknownTopic),
        ),
        (
            NewPartitions {
                expected_topic_id: Some(other),
                ..base.clone()
            },
            Some(CommandError::PreconditionFailed),
        ),
        (
            NewPartitions {
                expected_count: Some(2),
                ..base.clone()
            },
            Some(CommandError::PreconditionFailed),
        ),
        (
            NewPartitions {
                count: 1,
                ..base.clone()
            },
            Some(CommandError::InvalidPartitions),
        ),
        (
            NewPartitions {
                assignments: vec![Assignment {
                    partition: 0,
                    replicas: vec![1, 2],
                }],
                ..base.clone()
            },
            Some(CommandError::InvalidAssignment),
        ),
        (base.clone(), None),
        (base, Some(CommandError::PreconditionFailed)),
    ];
    for (wanted, expected) in cases {
        let topics = vec![wanted.clone()];
        let command = Command::CreatePartitions(CreatePartitions {
            topics,
            validate_only: false,
        });
        assert_eq!(refused(&mut cluster, command), expected, "{wanted:?}");
    }
    assert_eq!(
        cluster.image.topic_by_name("t").unwrap().partitions.len(),
        2
    );

    let delete = |name: Option<&str>, topic_id| {
        let topics = vec![TopicRef {
            name: name.map(ToString::to_string),
            topic_id,
        }];
        Command::DeleteTopics(DeleteTopics { topics })
    };
    let cases = [
        (delete(None, None), Some(CommandError::InvalidRequest)),
        (delete(Some("u"), None), Some(CommandError::UnknownTopic)),
        (
            delete(None, Some(other)),
            Some(CommandError::UnknownTopicId),
        ),
        (
            delete(Some("t"), Some(other)),
            Some(CommandError::InconsistentTopicId),
        ),
        (delete(Some("t"), Some(id)), None),
        (delete(None, Some(id)), Some(CommandError::UnknownTopicId)),
    ];
    for (command, expected) in cases {
        assert_eq!(
            refused(&mut cluster, command.clone()),
            expected,
            "{command:?}"
        );
    }
}

#[test]
fn settings_change_key_by_key() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create("t", &[1], &[]);
    let policy = |cluster: &Cluster| {
        cluster
            .image
            .topic_by_name("t")
            .unwrap()
            .config
            .get("cleanup.policy")
            .cloned()
    };
    let key = "cleanup.policy";
    let cases = [
        (
            key,
            ConfigOpType::Append,
            "compact",
            None,
            Some("delete,compact"),
        ),
        (key, ConfigOpType::Subtract, "delete", None, Some("compact")),
        (key, ConfigOpType::Set, "delete", None, Some("delete")),
        (
            key,
            ConfigOpType::Set,
            "burn",
            Some(CommandError::InvalidConfig),
            Some("delete"),
        ),
        (
            "min.insync.replicas",
            ConfigOpType::Append,
            "1",
            Some(CommandError::InvalidConfig),
            Some("delete"),
        ),
        (key, ConfigOpType::Delete, "", None, None),
    ];
    for (key, op, value, error, after) in cases {
        assert_eq!(
            failure(&cluster.set_config("t", key, op, value)),
            error,
            "{op:?} {value}"
        );
        assert_eq!(policy(&cluster).as_deref(), after, "{op:?} {value}");
    }
    let error = failure(&cluster.set_config("u", key, ConfigOpType::Set, "delete"));
    assert_eq!(error, Some(CommandError::UnknownTopic));
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut cluster = Cluster::with_brokers(2);
    let mut first = |id| {
        let response = cluster.submit(Command::AllocateProducerIds(cluster.broker(id)));
        let Response::AllocateProducerIds(block) = response else {
            panic!("{response:?}")
        };
        (block.first, block.count)
    };
    assert_eq!(
        [first(1), first(2), first(1)],
        [(0, 1000), (1000, 1000), (2000, 1000)]
    );
}
