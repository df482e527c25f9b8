//! Reassignments of one partition as scenarios: what happens, and the state after it.
//!
//! A state is `leader [isr] of [replicas] +[adding] -[removing] leader epoch.partition epoch`.

use super::election::{list, run};
use super::*;
use crate::PartitionIndex;
use crate::metadata::PartitionImage;

const SCENARIOS: &[(&str, &str)] = &[
    (
        "a replica moves, and the old one goes with the step that brings the new one into sync",
        "topic 1,2,3 min=2     | 1 [1,2,3] of [1,2,3] +[] -[] 0.0
         move 1,2,4            | 1 [1,2,3] of [1,2,4,3] +[4] -[3] 0.1
         isr 1,2,3,4           | 1 [1,2,4] of [1,2,4] +[] -[] 1.2",
    ),
    (
        "the whole set moves, and the leader with it",
        "topic 1,2 min=2       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 3,4              | 1 [1,2] of [3,4,1,2] +[3,4] -[1,2] 0.1
         isr 1,2,4             | 1 [1,2,4] of [3,4,1,2] +[3,4] -[1,2] 0.2
         isr 1,2,4,3           | 3 [4,3] of [3,4] +[] -[] 1.3",
    ),
    (
        "more replicas: min.insync.replicas asks for them only when they are there",
        "topic 1 min=2         | 1 [1] of [1] +[] -[] 0.0
         move 1,2,3            | 1 [1] of [1,2,3] +[2,3] -[] 0.1
         isr 1,3               | 1 [1,3] of [1,2,3] +[2,3] -[] 0.2
         isr 1                 | 1 [1] of [1,2,3] +[2,3] -[] 0.3
         isr 1,3,2             | 1 [1,3,2] of [1,2,3] +[] -[] 0.4",
    ),
    (
        "fewer replicas: complete at once when the rest is in sync",
        "topic 1,2,3 min=2     | 1 [1,2,3] of [1,2,3] +[] -[] 0.0
         move 2,3              | 2 [2,3] of [2,3] +[] -[] 1.1",
    ),
    (
        "fewer replicas wait for the rest, not to fall below min.insync.replicas",
        "topic 1,2,3 min=2     | 1 [1,2,3] of [1,2,3] +[] -[] 0.0
         fence 2               | 1 [1,3] of [1,2,3] +[] -[] 0.1
         move 1,2              | 1 [1,3] of [1,2,3] +[] -[3] 0.2
         unfence 2             | 1 [1,3] of [1,2,3] +[] -[3] 0.2
         isr 1,3,2             | 1 [1,2] of [1,2] +[] -[] 1.3",
    ),
    (
        "another order takes effect at once, without an election",
        "topic 1,2,3 min=2     | 1 [1,2,3] of [1,2,3] +[] -[] 0.0
         move 3,1,2            | 1 [1,2,3] of [3,1,2] +[] -[] 0.1
         move 3,1,2            | 1 [1,2,3] of [3,1,2] +[] -[] 0.1
         elect preferred       | 3 [1,2,3] of [3,1,2] +[] -[] 1.2",
    ),
    (
        "giving up restores the replicas in their order",
        "topic 1,2,3 min=2     | 1 [1,2,3] of [1,2,3] +[] -[] 0.0
         move 4,3,2            | 1 [1,2,3] of [4,3,2,1] +[4] -[1] 0.1
         cancel                | 1 [1,2,3] of [1,2,3] +[] -[] 1.2",
    ),
    (
        "giving up moves the leader back when a new replica leads",
        "topic 1,2 min=1       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 3,4              | 1 [1,2] of [3,4,1,2] +[3,4] -[1,2] 0.1
         isr 1,2,3             | 1 [1,2,3] of [3,4,1,2] +[3,4] -[1,2] 0.2
         elect preferred       | 3 [1,2,3] of [3,4,1,2] +[3,4] -[1,2] 1.3
         cancel                | 1 [1,2] of [1,2] +[] -[] 2.4",
    ),
    (
        "another target replaces the first; what is not in sync goes at once",
        "topic 1,2 min=1       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 1,3              | 1 [1,2] of [1,3,2] +[3] -[2] 0.1
         move 1,4              | 1 [1,2] of [1,4,2] +[4] -[2] 1.2
         isr 1,2,4             | 1 [1,4] of [1,4] +[] -[] 2.3",
    ),
    (
        "another target replaces the first; what is in sync stays until the end",
        "topic 1,2 min=2       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 3,4              | 1 [1,2] of [3,4,1,2] +[3,4] -[1,2] 0.1
         isr 1,2,3             | 1 [1,2,3] of [3,4,1,2] +[3,4] -[1,2] 0.2
         move 1,4              | 1 [1,2,3] of [1,4,3,2] +[4] -[3,2] 0.3
         isr 1,2,3,4           | 1 [1,4] of [1,4] +[] -[] 1.4",
    ),
    (
        "back to the first set",
        "topic 1,2 min=1       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 3,4              | 1 [1,2] of [3,4,1,2] +[3,4] -[1,2] 0.1
         move 1,2              | 1 [1,2] of [1,2] +[] -[] 1.2",
    ),
    (
        "brokers that are fenced meanwhile delay it, on either side",
        "topic 1,2 min=1       | 1 [1,2] of [1,2] +[] -[] 0.0
         move 3,4              | 1 [1,2] of [3,4,1,2] +[3,4] -[1,2] 0.1
         isr 1,2,3             | 1 [1,2,3] of [3,4,1,2] +[3,4] -[1,2] 0.2
         fence 1               | 3 [2,3] of [3,4,1,2] +[3,4] -[1,2] 1.3
         crash 3               | 2 [2] of [3,4,1,2] +[3,4] -[1,2] 2.4
         fence 2               | - [] of [3,4,1,2] +[3,4] -[1,2] 3.5
         unfence 2             | 2 [2] of [3,4,1,2] +[3,4] -[1,2] 4.6
         isr 2,3,4             | 3 [3,4] of [3,4] +[] -[] 5.7",
    ),
    (
        "an election that makes the target the ISR completes it",
        "topic 1,2 min=2       | 1 [1,2] of [1,2] +[] -[] 0.0
         fence 2               | 1 [1] of [1,2] +[] -[] 0.1
         move 2                | 1 [1] of [2,1] +[] -[1] 0.2
         fence 1               | - [] of [2,1] +[] -[1] 1.3
         unfence 2             | 2 [2] of [2] +[] -[] 2.4",
    ),
    (
        "a draining broker is no target that is in sync",
        "topic 1,2 min=1       | 1 [1,2] of [1,2] +[] -[] 0.0
         drain 2               | 1 [1] of [1,2] +[] -[] 0.1
         move 2,3              | 1 [1] of [2,3,1] +[3] -[1] 0.2
         isr 1,3               | 1 [1,3] of [2,3,1] +[3] -[1] 0.3
         crash 2               | 1 [1,3] of [2,3,1] +[3] -[1] 0.3
         isr 1,3,2             | 2 [3,2] of [2,3] +[] -[] 1.4",
    ),
];

#[test]
fn scenarios() {
    for (name, steps) in SCENARIOS {
        let mut cluster = Cluster::with_brokers(4);
        for step in steps.lines() {
            let (action, expected) = step.split_once('|').unwrap();
            run(&mut cluster, action.trim());
            assert_eq!(
                show(state(&cluster)),
                expected.trim(),
                "{name}, after {action}"
            );
        }
    }
}

fn state(cluster: &Cluster) -> &PartitionImage {
    &cluster.image.topic_by_name("t").unwrap().partitions[0]
}

fn show(state: &PartitionImage) -> String {
    let leader = state
        .leader
        .map_or_else(|| "-".to_string(), |leader| leader.to_string());
    alloc::format!(
        "{leader} [{}] of [{}] +[{}] -[{}] {}.{}",
        list(&state.isr),
        list(&state.replicas),
        list(&state.adding),
        list(&state.removing),
        state.leader_epoch,
        state.partition_epoch,
    )
}

#[test]
fn targets_that_cannot_be() {
    let mut cluster = Cluster::with_brokers(4);
    cluster.create("t", &[1, 2], &[]);
    let before = cluster.image.clone();
    for target in [&[][..], &[1, 1], &[1, 9], &[-1]] {
        let response = cluster.reassign("t", Some(target));
        assert_eq!(
            failure(&response),
            Some(CommandError::InvalidAssignment),
            "{target:?}"
        );
    }
    assert_eq!(
        failure(&cluster.reassign("t", None)),
        Some(CommandError::NoReassignmentInProgress)
    );
    let topic = cluster.image.topic_by_name("t").unwrap().id;
    for (topic, partition) in [(topic, 1), (topic, -1), (TopicId([9; 16]), 0)] {
        let partition = PartitionRef {
            topic_id: topic.into(),
            partition,
        };
        let command = AlterReassignments {
            partitions: vec![Reassignment {
                partition,
                target: None,
            }],
            keep_replication_factor: false,
            replaces_dead: false,
            rebalances: false,
        };
        let response = cluster.submit(Command::AlterReassignments(command));
        assert_eq!(failure(&response), Some(CommandError::UnknownPartition));
    }
    assert_eq!(cluster.image, before);
}

#[test]
fn a_cordoned_broker_gets_no_replica_and_keeps_those_it_has() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1, 2], &[]);
    for broker_id in [2, 3] {
        let cordoned = true;
        cluster.submit(Command::CordonBroker(CordonBroker {
            broker_id,
            cordoned,
        }));
    }
    assert_eq!(
        failure(&cluster.reassign("t", Some(&[1, 3]))),
        Some(CommandError::InvalidAssignment)
    );
    assert_eq!(failure(&cluster.reassign("t", Some(&[2, 1]))), None);
}

#[test]
fn the_replication_factor_can_be_held() {
    let mut cluster = Cluster::with_brokers(4);
    cluster.create("t", &[1, 2], &[]);
    let keep = |cluster: &mut Cluster, target: &[i32]| {
        let topic_id = cluster.image.topic_by_name("t").unwrap().id.into();
        let replicas = target.to_vec();
        let response = cluster.submit(Command::AlterReassignments(AlterReassignments {
            partitions: vec![Reassignment {
                partition: PartitionRef {
                    topic_id,
                    partition: 0,
                },
                target: Some(TargetReplicas { replicas }),
            }],
            keep_replication_factor: true,
            replaces_dead: false,
            rebalances: false,
        }));
        failure(&response)
    };
    let refused = Some(CommandError::InvalidReplicationFactor);
    assert_eq!(keep(&mut cluster, &[1, 2, 3]), refused);
    assert_eq!(keep(&mut cluster, &[1]), refused);
    assert_eq!(keep(&mut cluster, &[3, 4]), None);
    run(&mut cluster, "move 2,3,4");
    assert_eq!(
        keep(&mut cluster, &[3, 4]),
        refused,
        "it will have three replicas"
    );
}

#[test]
fn giving_up_never_costs_acknowledged_records_or_min_insync_replicas() {
    let mut cluster = Cluster::with_brokers(4);
    run(&mut cluster, "topic 1,2 min=2");
    run(&mut cluster, "move 3,4");
    run(&mut cluster, "isr 1,2,3");
    run(&mut cluster, "fence 2");
    let refused = Some(CommandError::InvalidAssignment);
    assert_eq!(
        failure(&cluster.reassign("t", None)),
        refused,
        "1 alone would be in sync"
    );
    run(&mut cluster, "min 1");
    run(&mut cluster, "isr 1,3");
    run(&mut cluster, "fence 1");
    assert_eq!(
        failure(&cluster.reassign("t", None)),
        refused,
        "3 alone has everything"
    );
    run(&mut cluster, "unclean true");
    run(&mut cluster, "unfence 2");
    assert_eq!(failure(&cluster.reassign("t", None)), refused);
    run(&mut cluster, "isr 3,2");
    assert_eq!(failure(&cluster.reassign("t", None)), None);
    assert_eq!(show(state(&cluster)), "2 [2] of [1,2] +[] -[] 2.7");
}

#[test]
fn reassignments_in_one_command_are_bounded() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.create("t", &[1], &[]);
    let topic_id = cluster.image.topic_by_name("t").unwrap().id.into();
    let one = Reassignment {
        partition: PartitionRef {
            topic_id,
            partition: 0,
        },
        target: None,
    };
    let partitions = vec![one; REASSIGNMENTS_PER_COMMAND_MAX + 1];
    let response = cluster.submit(Command::AlterReassignments(AlterReassignments {
        partitions,
        keep_replication_factor: false,
        replaces_dead: false,
        rebalances: false,
    }));
    assert_eq!(failure(&response), Some(CommandError::LimitExceeded));
}

#[test]
fn a_broker_in_a_reassignment_is_not_unregistered_and_topics_go_with_theirs() {
    let mut cluster = Cluster::with_brokers(3);
    run(&mut cluster, "topic 1,2 min=1");
    run(&mut cluster, "move 1,3");
    run(&mut cluster, "fence 3");
    let unregister = Command::UnregisterBroker(UnregisterBroker {
        broker_id: 3,
        expected_incarnation: None,
    });
    assert_eq!(
        failure(&cluster.submit(unregister.clone())),
        Some(CommandError::BrokerInUse)
    );
    let topics = vec![TopicRef {
        name: Some("t".to_string()),
        topic_id: None,
    }];
    cluster.submit(Command::DeleteTopics(DeleteTopics { topics }));
    assert_eq!(failure(&cluster.submit(unregister)), None);
}

#[test]
fn partitions_added_meanwhile_get_as_many_replicas_as_the_target() {
    let mut cluster = Cluster::with_brokers(4);
    run(&mut cluster, "topic 1,2 min=1");
    run(&mut cluster, "move 3,4");
    let topics = vec![NewPartitions {
        name: "t".to_string(),
        count: 2,
        ..NewPartitions::default()
    }];
    cluster.submit(Command::CreatePartitions(CreatePartitions {
        topics,
        validate_only: false,
    }));
    let topic = cluster.image.topic_by_name("t").unwrap();
    let added = topic.partition(PartitionIndex(1)).unwrap();
    assert_eq!(added.replicas.len(), 2);
}
