//! Random histories: every step leaves an image without violations, and no step loses a record
//! that was acknowledged by a whole ISR of `min.insync.replicas`.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::TopicPartition;
use crate::metadata::{PartitionImage, ReplicaChange, ReplicaHealth, changes};

const BROKERS: i32 = 5;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Action {
    Fence(i32),
    Unfence(i32),
    Crash(i32),
    Stop(i32),
    Wipe(i32),
    Drain(i32),
    Cordon(i32, bool),
    Create(usize, i32, i32, u32),
    Delete(usize),
    AddPartitions(usize, i32),
    Isr(usize, Vec<i32>),
    MinInsync(usize, u32),
    Health(i32, ReplicaHealth),
    Balance,
    ProducerIds(i32),
    Reassign(usize, Vec<i32>),
    CancelReassignment(usize),
    PrepareRestart(i32, u64),
    ExpireRestartLease(i32),
    Evacuate(i32, bool),
    MoveReplicas,
    ReplaceDead,
    Rebalance(bool),
    Spread,
}

fn action() -> impl Strategy<Value = Action> {
    let broker = 1..=BROKERS;
    let topic = 0..NAMES.len();
    prop_oneof![
        3 => broker.clone().prop_map(Action::Fence),
        4 => broker.clone().prop_map(Action::Unfence),
        2 => broker.clone().prop_map(Action::Crash),
        2 => broker.clone().prop_map(Action::Stop),
        1 => broker.clone().prop_map(Action::Wipe),
        1 => broker.clone().prop_map(Action::Drain),
        1 => (broker.clone(), any::<bool>()).prop_map(|(id, to)| Action::Cordon(id, to)),
        2 => (topic.clone(), 1..4, 1..4, 1..4u32)
            .prop_map(|(topic, n, rf, min)| Action::Create(topic, n, rf, min)),
        1 => topic.clone().prop_map(Action::Delete),
        1 => (topic.clone(), 1..6).prop_map(|(topic, count)| Action::AddPartitions(topic, count)),
        6 => (topic.clone(), prop::collection::vec(broker.clone(), 0..4))
            .prop_map(|(topic, isr)| Action::Isr(topic, isr)),
        3 => (broker.clone(), health()).prop_map(|(id, health)| Action::Health(id, health)),
        1 => (topic.clone(), 1..4u32).prop_map(|(topic, min)| Action::MinInsync(topic, min)),
        1 => Just(Action::Balance),
        1 => broker.clone().prop_map(Action::ProducerIds),
        3 => (topic.clone(), prop::collection::vec(broker.clone(), 1..4))
            .prop_map(|(topic, target)| Action::Reassign(topic, target)),
        1 => topic.prop_map(Action::CancelReassignment),
        2 => (broker.clone(), 0..3u64).prop_map(|(id, ttl)| Action::PrepareRestart(id, ttl)),
        1 => broker.clone().prop_map(Action::ExpireRestartLease),
        1 => (broker, any::<bool>()).prop_map(|(id, to)| Action::Evacuate(id, to)),
        2 => Just(Action::MoveReplicas),
        2 => Just(Action::ReplaceDead),
        1 => any::<bool>().prop_map(Action::Rebalance),
        2 => Just(Action::Spread),
    ]
}

fn health() -> impl Strategy<Value = ReplicaHealth> {
    use ReplicaHealth::{Healthy, Offline, Rebuilding, Slow};
    prop_oneof![Just(Healthy), Just(Slow), Just(Offline), Just(Rebuilding)]
}

/// What an action means for the replicas' logs.
#[derive(Default)]
struct Logs {
    /// Lost what it had not flushed, or everything.
    lost: Option<(BrokerId, Stop)>,
    /// Have every record of the leader: it waits for them from the moment it proposes them.
    caught_up: Option<(TopicPartition, BTreeSet<BrokerId>)>,
}

fn run(cluster: &mut Cluster, action: &Action) -> Logs {
    let name = |topic: &usize| NAMES[*topic].to_string();
    match action {
        Action::Fence(id) => _ = cluster.submit(Command::FenceBroker(cluster.broker(*id))),
        Action::Unfence(id) => _ = cluster.submit(Command::UnfenceBroker(cluster.broker(*id))),
        Action::Crash(id) | Action::Stop(id) | Action::Wipe(id) => {
            let before = cluster.broker(*id);
            cluster.submit(Command::FenceBroker(before));
            let stop = match action {
                Action::Stop(_) => Stop::Clean,
                Action::Crash(_) => Stop::Crash,
                _ => Stop::Wipe,
            };
            let last_run = cluster.stopped(*id, stop);
            cluster.register(*id, last_run);
            return Logs {
                lost: (!matches!(stop, Stop::Clean)).then_some((BrokerId(*id), stop)),
                caught_up: None,
            };
        }
        Action::Drain(id) => _ = cluster.submit(Command::DrainBroker(cluster.broker(*id))),
        Action::Cordon(id, to) => {
            let command = CordonBroker {
                broker_id: *id,
                cordoned: *to,
            };
            cluster.submit(Command::CordonBroker(command));
        }
        Action::Create(topic, partitions, replication_factor, min) => {
            let config = ("min.insync.replicas".to_string(), min.to_string());
            let topic = NewTopic {
                configs: [config].into(),
                ..new_topic(NAMES[*topic], *partitions, *replication_factor)
            };
            let topics = vec![topic];
            cluster.submit(Command::CreateTopics(CreateTopics {
                topics,
                validate_only: false,
            }));
        }
        Action::Delete(topic) => {
            let topics = vec![TopicRef {
                name: Some(name(topic)),
                topic_id: None,
            }];
            cluster.submit(Command::DeleteTopics(DeleteTopics { topics }));
        }
        Action::AddPartitions(topic, count) => {
            let wanted = NewPartitions {
                name: name(topic),
                count: *count,
                ..NewPartitions::default()
            };
            let command = CreatePartitions {
                topics: vec![wanted],
                validate_only: false,
            };
            cluster.submit(Command::CreatePartitions(command));
        }
        Action::Isr(topic, isr) => {
            return Logs {
                lost: None,
                caught_up: alter_isr(cluster, NAMES[*topic], isr),
            };
        }
        Action::MinInsync(topic, min) => {
            let value = min.to_string();
            cluster.set_config(
                NAMES[*topic],
                "min.insync.replicas",
                ConfigOpType::Set,
                &value,
            );
        }
        Action::Health(id, health) => {
            cluster.set_health(*id, *health);
            return Logs {
                lost: (*health == ReplicaHealth::Offline).then_some((BrokerId(*id), Stop::Crash)),
                caught_up: None,
            };
        }
        Action::Balance => {
            if let Some(command) = plan_preferred_elections(&cluster.image) {
                cluster.submit(command);
            }
        }
        Action::PrepareRestart(id, ttl_ms) => _ = cluster.prepare_restart(*id, *ttl_ms),
        Action::Evacuate(id, to) => _ = cluster.evacuate(*id, *to),
        Action::MoveReplicas => _ = cluster.start_moves(),
        Action::ReplaceDead => cluster.replace_all_dead(),
        Action::Rebalance(to) => _ = cluster.rebalance(*to),
        Action::Spread => _ = cluster.spread(),
        Action::ExpireRestartLease(id) => cluster.expire_restart_lease(*id),
        Action::ProducerIds(id) => {
            _ = cluster.submit(Command::AllocateProducerIds(cluster.broker(*id)));
        }
        Action::Reassign(topic, target) => reassign(cluster, NAMES[*topic], target),
        Action::CancelReassignment(topic) => cancel_reassignment(cluster, NAMES[*topic]),
    }
    Logs::default()
}

/// The leader proposes itself and the replicas among `isr`.
fn alter_isr(
    cluster: &mut Cluster,
    topic: &str,
    isr: &[i32],
) -> Option<(TopicPartition, BTreeSet<BrokerId>)> {
    let (id, state) = cluster.image.topic_by_name(topic)?.iter().next()?;
    let mut members: BTreeSet<BrokerId> = isr.iter().copied().map(BrokerId).collect();
    members.retain(|member| state.has_replica(*member));
    members.insert(state.leader?);
    let raw: Vec<i32> = members.iter().map(|member| member.0).collect();
    let response = cluster.alter_isr(topic, &raw)?;
    failure(&response).is_none().then_some((id, members))
}

fn partition_0(cluster: &Cluster, topic: &str) -> Option<Arc<PartitionImage>> {
    Some(Arc::clone(
        &cluster.image.topic_by_name(topic)?.partitions[0],
    ))
}

/// The target is reached at once, or on the way, and the way back is known.
fn reassign(cluster: &mut Cluster, topic: &str, target: &[i32]) {
    let Some(before) = partition_0(cluster, topic) else {
        return;
    };
    if failure(&cluster.reassign(topic, Some(target))).is_some() {
        return;
    }
    let target: Vec<BrokerId> = target.iter().copied().map(BrokerId).collect();
    let after = partition_0(cluster, topic).unwrap();
    assert_eq!(after.target().collect::<Vec<_>>(), target);
    if after.is_reassigning() && before.is_reassigning() {
        assert_eq!(after.original, before.original);
    } else if after.is_reassigning() {
        assert_eq!(after.original, before.replicas);
    } else {
        assert_eq!(after.replicas, target);
    }
}

fn cancel_reassignment(cluster: &mut Cluster, topic: &str) {
    let Some(before) = partition_0(cluster, topic) else {
        return;
    };
    let response = cluster.reassign(topic, None);
    let after = partition_0(cluster, topic).unwrap();
    if failure(&response).is_none() {
        assert_eq!(after.replicas, before.original);
        assert!(!after.is_reassigning());
    } else {
        assert_eq!(after, before);
    }
}

/// What a step may do to the replicas: nothing while it is no reassignment, and no ISR that was
/// large enough becomes too small by the end of one.
fn check_replicas(before: &PartitionImage, after: &PartitionImage, min: usize) {
    if before.is_reassigning() && !after.is_reassigning() {
        let target: Vec<BrokerId> = before.target().collect();
        if after.replicas == target && before.original != target {
            assert!(
                after.isr.len() >= min.min(target.len()),
                "{before:?} {after:?}"
            );
        }
    }
    let removed = before.replicas.iter().any(|id| !after.has_replica(*id));
    assert!(
        !removed || after.leader_epoch > before.leader_epoch,
        "{before:?} {after:?}"
    );
}

/// Who has every acknowledged record, in the worst case: a record is acknowledged whenever the ISR
/// allows it.
#[derive(Default)]
struct Acknowledged(BTreeMap<TopicPartition, BTreeSet<BrokerId>>);

impl Acknowledged {
    fn step(&mut self, old: &Image, new: &Image, logs: &Logs) {
        for (id, after) in new.partitions() {
            let topic = &new.topics[&id.topic];
            let min = new
                .min_insync_replicas(topic, 1)
                .min(after.replication_factor());
            let complete = self
                .0
                .entry(id)
                .or_insert_with(|| after.isr.iter().copied().collect());
            if let Some((lossy, stop)) = logs.lost {
                // What the last member has kept is all that can be had.
                let is_last = |before: &PartitionImage| {
                    let mut members = before.isr.iter().chain(&before.elr);
                    members.all(|member| *member == lossy)
                };
                let keeps = matches!(stop, Stop::Crash)
                    && old
                        .partition(id)
                        .is_some_and(|before| is_last(before) || before.offline.contains(&lossy));
                complete.retain(|broker| *broker != lossy || keeps);
            }
            if let Some((_, caught_up)) = logs.caught_up.as_ref().filter(|(at, _)| *at == id) {
                complete.extend(caught_up);
            }
            if let Some(before) = old.partition(id) {
                check_epochs(before, after);
                check_replicas(before, after, min);
            }
            for candidate in after.isr.iter().chain(&after.elr) {
                assert!(
                    complete.contains(candidate),
                    "{id}: {after:?}, complete: {complete:?}"
                );
            }
            if after.isr.len() >= min {
                *complete = after.isr.iter().copied().collect();
            }
        }
    }
}

fn check_epochs(before: &PartitionImage, after: &PartitionImage) {
    let led_by_another = i32::from(before.leader != after.leader);
    let may_skip = after.partition_epoch.0 - before.partition_epoch.0;
    assert!(before == after || may_skip >= 1, "{before:?} {after:?}");
    assert!(
        after.leader_epoch.0 >= before.leader_epoch.0 + led_by_another,
        "{after:?}"
    );
}

/// What a broker that follows [`changes`] hosts.
fn follow(hosted: &mut BTreeMap<TopicPartition, Arc<PartitionImage>>, changes: Vec<ReplicaChange>) {
    for change in changes {
        match change {
            ReplicaChange::Added { partition, state } => {
                assert_eq!(hosted.insert(partition, state), None);
            }
            ReplicaChange::Changed {
                partition,
                old,
                new,
            } => {
                assert_eq!(hosted.insert(partition, new), Some(old));
            }
            ReplicaChange::Removed { partition } => assert!(hosted.remove(&partition).is_some()),
            ReplicaChange::TopicConfig { topic } => {
                assert!(hosted.keys().any(|id| id.topic == topic));
            }
        }
    }
}

proptest! {
    #[test]
    fn histories_keep_the_invariants(actions in prop::collection::vec(action(), 1..80)) {
        let mut cluster = Cluster::with_brokers(BROKERS);
        let mut acknowledged = Acknowledged::default();
        let mut hosted = BTreeMap::new();
        for action in &actions {
            let before = cluster.image.clone();
            let logs = run(&mut cluster, action);
            acknowledged.step(&before, &cluster.image, &logs);
            follow(&mut hosted, changes(&before, &cluster.image, BrokerId(1)));

            let mut restored = Image::default();
            for record in cluster.image.to_records() {
                restored.apply(&record).unwrap();
            }
            prop_assert_eq!(&restored, &cluster.image);
        }
        let expected: BTreeMap<TopicPartition, Arc<PartitionImage>> = cluster
            .image
            .partitions()
            .filter(|(_, state)| state.has_replica(BrokerId(1)))
            .map(|(id, state)| (id, Arc::clone(state)))
            .collect();
        prop_assert_eq!(hosted, expected);
    }
}
