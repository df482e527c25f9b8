//! Scenarios of one partition, as text: what happens, and the state after it.
//!
//! A state is `leader [isr] elr [elr] last [last known leaders] leader epoch.partition epoch`.

use super::*;
use crate::metadata::{PartitionImage, ReplicaHealth};

/// `crash 1`: fenced, then back without clean stop. `stop 1`: the same with one. `wipe 1`: the same
/// with empty disks. `register 1`: back without clean stop, fenced still. `unanswered 1`: back after
/// a clean stop, but killed before it heard that it is registered.
const SCENARIOS: &[(&str, &str)] = &[
    (
        "a dead leader is replaced from the ISR, and comes back as a follower",
        "topic 1,2,3 min=1     | 1 [1,2,3] elr [] last [] 0.0
         fence 1               | 2 [2,3] elr [] last [] 1.1
         unfence 1             | 2 [2,3] elr [] last [] 1.1
         isr 2,3,1             | 2 [2,3,1] elr [] last [] 1.2
         elect preferred       | 1 [2,3,1] elr [] last [] 2.3",
    ),
    (
        "a dead follower leaves the ISR without an election",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         fence 3               | 1 [1,2] elr [] last [] 0.1
         fence 2               | 1 [1] elr [2] last [] 0.2",
    ),
    (
        "the ISR as it is closes the partition epoch",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         isr 2,1               | 1 [1,2] elr [] last [] 0.1
         isr 1                 | 1 [1] elr [] last [] 0.2
         isr 1                 | 1 [1] elr [] last [] 0.3",
    ),
    (
        "below min.insync.replicas leavers stay eligible, and lead when nobody else can",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [2,3] last [] 0.1
         fence 1               | 2 [2] elr [1,3] last [] 1.2
         fence 2               | 3 [3] elr [1,2] last [] 2.3
         fence 3               | - [] elr [1,2,3] last [3] 3.4
         unfence 1             | 1 [1] elr [2,3] last [] 4.5
         unfence 2             | 1 [1] elr [2,3] last [] 4.5
         isr 1,2               | 1 [1,2] elr [] last [] 4.6",
    ),
    (
        "at min.insync.replicas leavers are not eligible",
        "topic 1,2,3 min=1     | 1 [1,2,3] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [] last [] 0.1
         fence 1               | - [] elr [1] last [1] 1.2
         stop 1                | 1 [1] elr [] last [] 2.3",
    ),
    (
        "an unclean stop costs eligibility, but not the last that had everything",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         fence 1               | 2 [2,3] elr [] last [] 1.1
         fence 2               | 3 [3] elr [2] last [] 2.2
         fence 3               | - [] elr [2,3] last [3] 3.3
         crash 1               | - [] elr [2,3] last [3] 3.3
         crash 2               | - [] elr [3] last [3,2] 3.4
         crash 3               | 3 [3] elr [] last [] 4.5",
    ),
    (
        "after an unclean stop of all and the loss of the last disk only an unclean election helps",
        "topic 1,2 min=2       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         fence 1               | - [] elr [1,2] last [1] 1.2
         crash 1               | - [] elr [2] last [1] 1.3
         wipe 2                | - [] elr [] last [1,2] 1.4
         elect unclean         | 1 [1] elr [] last [] 2.5",
    ),
    (
        "a member that stopped cleanly is preferred over the last leader that did not",
        "topic 1,2 min=2       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         crash 1               | - [] elr [2] last [1] 1.3
         stop 2                | 2 [2] elr [] last [] 2.4",
    ),
    (
        "a single replica that crashed leads again, in a new epoch",
        "topic 1 min=1         | 1 [1] elr [] last [] 0.0
         crash 1               | 1 [1] elr [] last [] 2.2",
    ),
    (
        "a registration whose answer is lost costs nothing until the broker has been active",
        "topic 1,2 min=2       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         fence 1               | - [] elr [1,2] last [1] 1.2
         unanswered 1          | - [] elr [1,2] last [1] 1.2
         crash 2               | - [] elr [1] last [1,2] 1.3
         stop 1                | 1 [1] elr [] last [] 2.4",
    ),
    (
        "a single replica that comes back with empty disks does not lead silently",
        "topic 1 min=1         | 1 [1] elr [] last [] 0.0
         wipe 1                | - [] elr [] last [1] 1.2
         unclean true          | 1 [1] elr [] last [] 2.3",
    ),
    (
        "an allowed unclean election prefers the last leader, then those that crashed",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         isr 1,2               | 1 [1,2] elr [] last [] 0.1
         fence 1               | 2 [2] elr [1] last [] 1.2
         fence 3               | 2 [2] elr [1] last [] 1.2
         fence 2               | - [] elr [1,2] last [2] 2.3
         register 1            | - [] elr [2] last [2,1] 2.4
         register 2            | - [] elr [2] last [2,1] 2.4
         unfence 3             | - [] elr [2] last [2,1] 2.4
         unfence 1             | - [] elr [2] last [2,1] 2.4
         unclean true          | 1 [1] elr [] last [] 3.5",
    ),
    (
        "unclean election is off by default, and can be asked for",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [] last [] 0.1
         fence 1               | - [] elr [1] last [1] 1.2
         elect unclean         | 2 [2] elr [] last [] 2.3",
    ),
    (
        "allowing unclean election elects at once",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [] last [] 0.1
         fence 1               | - [] elr [1] last [1] 1.2
         unclean true          | 2 [2] elr [] last [] 2.3
         fence 2               | - [] elr [2] last [2] 3.4",
    ),
    (
        "a draining broker gives leadership and ISR away where others remain",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         drain 1               | 2 [2,3] elr [] last [] 1.1
         drain 3               | 2 [2] elr [3] last [] 1.2
         drain 2               | 2 [2] elr [3] last [] 1.2
         fence 2               | - [] elr [2,3] last [2] 2.3",
    ),
    (
        "a draining last leader hands over as soon as a follower has caught up",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [] last [] 0.1
         drain 1               | 1 [1] elr [] last [] 0.1
         isr 1,2               | 2 [2] elr [] last [] 1.2",
    ),
    (
        "a lower min.insync.replicas ends the eligibility of those out of sync",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         isr 1                 | 1 [1] elr [2,3] last [] 0.1
         min 1                 | 1 [1] elr [] last [] 0.2",
    ),
    (
        "min.insync.replicas above the number of replicas counts as all of them",
        "topic 1,2 min=3       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         stop 2                | 1 [1] elr [2] last [] 0.1
         isr 1,2               | 1 [1,2] elr [] last [] 0.2",
    ),
    (
        "a leader whose disk failed is replaced, and is eligible no more",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         offline 1             | 2 [2,3] elr [] last [] 1.1
         fence 2               | 3 [3] elr [2] last [] 2.2
         fence 3               | - [] elr [2,3] last [3] 3.3
         elect unclean         | - [] elr [2,3] last [3] 3.3
         healthy 1             | - [] elr [2,3] last [3] 3.4
         unfence 3             | 3 [3] elr [2] last [] 4.5
         isr 3,1               | 3 [3,1] elr [] last [] 4.6",
    ),
    (
        "a replica that copies its log anew leads only after it was in sync",
        "topic 1,2,3 min=1     | 1 [1,2,3] elr [] last [] 0.0
         unclean true          | 1 [1,2,3] elr [] last [] 0.0
         rebuild 3             | 1 [1,2,3] elr [] last [] 0.0
         offline 3             | 1 [1,2] elr [] last [] 0.1
         rebuild 3             | 1 [1,2] elr [] last [] 1.2
         slow 3                | 1 [1,2] elr [] last [] 1.2
         fence 2               | 1 [1] elr [] last [] 1.3
         fence 1               | - [] elr [1] last [1] 2.4
         elect unclean         | - [] elr [1] last [1] 2.4
         unfence 1             | 1 [1] elr [] last [] 3.5
         isr 1,3               | 1 [1,3] elr [] last [] 3.6
         fence 1               | 3 [3] elr [] last [] 4.7",
    ),
    (
        "a log that is damaged again on the way is given up again, in another epoch",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         offline 2             | 1 [1] elr [] last [] 0.1
         rebuild 2             | 1 [1] elr [] last [] 1.2
         offline 2             | 1 [1] elr [] last [] 1.3
         rebuild 2             | 1 [1] elr [] last [] 2.4
         offline 2             | 1 [1] elr [] last [] 2.5
         healthy 2             | 1 [1] elr [] last [] 3.6
         fence 1               | - [] elr [1] last [1] 4.7",
    ),
    (
        "a damaged log that is the only one is not given up",
        "topic 1,2 min=2       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         offline 1             | - [] elr [2] last [1] 1.2
         rebuild 1             | - [] elr [2] last [1] 1.2
         offline 2             | - [] elr [2] last [1] 1.3
         rebuild 2             | - [] elr [2] last [1] 1.3
         healthy 2             | - [] elr [2] last [1] 1.4
         unfence 2             | 2 [2] elr [] last [] 2.5
         rebuild 1             | 2 [2] elr [] last [] 3.6",
    ),
    (
        "an eligible replica loses its eligibility with its disk",
        "topic 1,2 min=2       | 1 [1,2] elr [] last [] 0.0
         fence 2               | 1 [1] elr [2] last [] 0.1
         offline 2             | 1 [1] elr [] last [] 0.2
         unfence 2             | 1 [1] elr [] last [] 0.2",
    ),
    (
        "the only replica leads again once its disk is back",
        "topic 1 min=1         | 1 [1] elr [] last [] 0.0
         offline 1             | - [] elr [1] last [1] 1.1
         crash 1               | - [] elr [1] last [1] 1.1
         healthy 1             | 1 [1] elr [] last [] 2.2",
    ),
    (
        "a leader on a slow disk gives way, stays in sync and is not preferred until it is well",
        "topic 1,2,3 min=2     | 1 [1,2,3] elr [] last [] 0.0
         slow 1                | 2 [1,2,3] elr [] last [] 1.1
         elect preferred       | 2 [1,2,3] elr [] last [] 1.1
         fence 2               | 3 [1,3] elr [] last [] 2.2
         fence 3               | 1 [1] elr [3] last [] 3.3
         unfence 3             | 1 [1] elr [3] last [] 3.3
         isr 1,3               | 3 [1,3] elr [] last [] 4.4
         healthy 1             | 3 [1,3] elr [] last [] 4.5
         elect preferred       | 1 [1,3] elr [] last [] 5.6",
    ),
    (
        "where every member's disk is slow the leader stays",
        "topic 1,2 min=1       | 1 [1,2] elr [] last [] 0.0
         slow 2                | 1 [1,2] elr [] last [] 0.1
         slow 1                | 1 [1,2] elr [] last [] 0.2",
    ),
];

#[test]
fn scenarios() {
    for (name, steps) in SCENARIOS {
        let mut cluster = Cluster::with_brokers(3);
        for step in steps.lines() {
            let (action, expected) = step.split_once('|').unwrap();
            run(&mut cluster, action.trim());
            let topic = cluster.image.topic_by_name("t").unwrap();
            assert_eq!(
                show(&topic.partitions[0]),
                expected.trim(),
                "{name}, after {action}"
            );
        }
    }
}

pub(super) fn run(cluster: &mut Cluster, action: &str) {
    let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
    let broker = || rest.parse::<i32>().unwrap();
    let response = match verb {
        "topic" => {
            let (replicas, min) = rest.split_once(" min=").unwrap();
            cluster.create("t", &ids(replicas), &[("min.insync.replicas", min)])
        }
        "fence" => cluster.submit(Command::FenceBroker(cluster.broker(broker()))),
        "unfence" => cluster.submit(Command::UnfenceBroker(cluster.broker(broker()))),
        "drain" => cluster.submit(Command::DrainBroker(cluster.broker(broker()))),
        "register" => cluster.register(broker(), cluster.stopped(broker(), Stop::Crash)),
        "unanswered" => {
            let last_run = cluster.stopped(broker(), Stop::Clean);
            cluster.register(broker(), last_run);
            cluster.register(broker(), last_run);
            cluster.register(broker(), last_run)
        }
        "crash" | "stop" | "wipe" => {
            let stop = match verb {
                "crash" => Stop::Crash,
                "stop" => Stop::Clean,
                _ => Stop::Wipe,
            };
            let before = cluster.broker(broker());
            cluster.submit(Command::FenceBroker(before));
            cluster.register(broker(), cluster.stopped(broker(), stop));
            cluster.submit(Command::UnfenceBroker(cluster.broker(broker())))
        }
        "isr" => cluster.alter_isr("t", &ids(rest)).unwrap(),
        "offline" => cluster.set_health(broker(), ReplicaHealth::Offline),
        "slow" => cluster.set_health(broker(), ReplicaHealth::Slow),
        "rebuild" => cluster.set_health(broker(), ReplicaHealth::Rebuilding),
        "healthy" => cluster.set_health(broker(), ReplicaHealth::Healthy),
        "move" => cluster.reassign("t", Some(&ids(rest))),
        "cancel" => cluster.reassign("t", None),
        "min" => cluster.set_config("t", "min.insync.replicas", ConfigOpType::Set, rest),
        "unclean" => cluster.set_config(
            "t",
            "unclean.leader.election.enable",
            ConfigOpType::Set,
            rest,
        ),
        "elect" => {
            let election_type = match rest {
                "preferred" => ElectionType::Preferred,
                _ => ElectionType::Unclean,
            };
            let partitions = Vec::new();
            let election_type = election_type.into();
            cluster.submit(Command::ElectLeaders(ElectLeaders {
                election_type,
                partitions,
            }))
        }
        _ => panic!("unknown action {action}"),
    };
    assert_eq!(failure(&response), None, "{action}: {response:?}");
}

pub(super) fn list(brokers: &[BrokerId]) -> String {
    let ids: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    ids.join(",")
}

fn ids(list: &str) -> Vec<i32> {
    list.split(',').map(|id| id.parse().unwrap()).collect()
}

fn show(state: &PartitionImage) -> String {
    alloc::format!(
        "{} [{}] elr [{}] last [{}] {}.{}",
        state
            .leader
            .map_or_else(|| "-".to_string(), |leader| leader.to_string()),
        list(&state.isr),
        list(&state.elr),
        list(&state.last_known_elr),
        state.leader_epoch,
        state.partition_epoch,
    )
}

#[test]
fn disks_of_an_earlier_registration_are_not_known_once_the_broker_has_been_active() {
    let mut cluster = Cluster::with_brokers(1);
    run(&mut cluster, "topic 1 min=1");
    let first_run = cluster.stopped(1, Stop::Clean);
    run(&mut cluster, "stop 1");
    run(&mut cluster, "fence 1");
    cluster.register(1, first_run);
    run(&mut cluster, "unfence 1");
    let topic = cluster.image.topic_by_name("t").unwrap();
    assert_eq!(show(&topic.partitions[0]), "- [] elr [] last [1] 3.4");
}

#[test]
fn leaders_left_counts_what_no_other_replica_can_take() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("alone", &[1], &[]);
    cluster.create("shared", &[1, 2], &[]);
    let drained = cluster.submit(Command::DrainBroker(cluster.broker(1)));
    assert_eq!(
        drained,
        Response::DrainBroker(BrokerDrained { leaders_left: 1 })
    );
}

#[test]
fn a_stopping_broker_waits_only_for_leaders_that_a_live_replica_can_take() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("alone", &[1], &[]);
    cluster.create("shared", &[1, 2], &[]);
    assert_eq!(cluster.image.leaders_to_hand_over(BrokerId(1)), 1);
    run(&mut cluster, "fence 2");
    assert_eq!(cluster.image.leaders_to_hand_over(BrokerId(1)), 0);
}

#[test]
fn preferred_elections_are_planned_until_leaders_are_balanced() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("t", &[1, 2], &[]);
    assert_eq!(plan_preferred_elections(&cluster.image), None);
    run(&mut cluster, "crash 1");
    assert_eq!(
        plan_preferred_elections(&cluster.image),
        None,
        "1 is not in sync"
    );
    run(&mut cluster, "isr 1,2");
    let command = plan_preferred_elections(&cluster.image).unwrap();
    assert_eq!(failure(&cluster.submit(command)), None);
    assert_eq!(
        cluster.image.topic_by_name("t").unwrap().partitions[0].leader,
        Some(BrokerId(1))
    );
    assert_eq!(plan_preferred_elections(&cluster.image), None);
}
