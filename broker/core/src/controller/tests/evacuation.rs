use proptest::prelude::*;

use super::*;
use crate::TopicPartition;
use crate::metadata::{Evacuation, PartitionImage};

/// The least loaded broker that may have the replica.
pub(super) fn choose(request: &MoveRequest<'_>) -> Result<BrokerId, String> {
    let candidates = request
        .brokers
        .iter()
        .filter(|broker| broker.available && !request.kept.contains(&broker.id));
    candidates
        .min_by_key(|broker| (broker.replicas, broker.id))
        .map(|broker| broker.id)
        .ok_or_else(|| "nobody".to_string())
}

impl Cluster {
    pub(super) fn evacuate(&mut self, broker_id: i32, evacuating: bool) -> Response {
        self.submit(Command::EvacuateBroker(Evacuation {
            broker_id,
            evacuating,
        }))
    }

    /// Starts what is planned, and returns the plan.
    pub(super) fn start_moves(&mut self) -> EvacuationPlan {
        let plan = plan_evacuations(&self.image, choose);
        if let Some(command) = &plan.reassignments {
            let response = self.submit(command.clone());
            let Response::AlterReassignments(response) = response else {
                panic!("{response:?}")
            };
            let mut altered = response.partitions.iter();
            assert!(altered.all(|altered| altered.failure.is_none()));
        }
        plan
    }

    /// Brings every live replica of every led partition into sync.
    pub(super) fn catch_up(&mut self) {
        let partitions: Vec<(TopicPartition, PartitionImage)> = self
            .image
            .partitions()
            .map(|(id, state)| (id, PartitionImage::clone(state)))
            .collect();
        for (id, state) in partitions {
            let Some(leader) = state.leader else { continue };
            let alive = state
                .replicas
                .iter()
                .filter(|id| self.image.is_active(**id));
            let new_isr = alive.map(|id| self.broker(id.0)).collect();
            self.submit(Command::AlterPartitions(AlterPartitions {
                leader: self.broker(leader.0),
                partitions: vec![AlterPartition {
                    topic_id: id.topic.into(),
                    partition: id.partition.0,
                    leader_epoch: state.leader_epoch.0,
                    partition_epoch: state.partition_epoch.0,
                    new_isr,
                }],
            }));
        }
    }

    pub(super) fn create_many(&mut self, name: &str, partitions: i32, replication_factor: i32) {
        let topics = vec![new_topic(name, partitions, replication_factor)];
        self.submit(Command::CreateTopics(CreateTopics {
            topics,
            validate_only: false,
        }));
    }
}

fn replicas_of(image: &Image, broker: i32) -> usize {
    let partitions = image.partitions();
    partitions
        .filter(|(_, state)| state.has_replica(BrokerId(broker)))
        .count()
}

#[test]
fn a_broker_is_emptied_in_bounded_steps_and_gets_nothing_new() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create_many("t", 50, 2);
    assert_eq!(replicas_of(&cluster.image, 1), 50);
    cluster.evacuate(1, true);
    cluster.create_many("new", 1, 2);
    assert_eq!(replicas_of(&cluster.image, 1), 50);

    let mut left = Vec::new();
    for _ in 0..4 {
        let plan = cluster.start_moves();
        let progress = &plan.progress[&BrokerId(1)];
        assert_eq!(progress.blocked_total, 0);
        left.push(progress.replicas_left);
        let waiting = cluster.start_moves();
        assert_eq!(waiting.reassignments, None, "no more before these are done");
        cluster.catch_up();
    }
    assert_eq!(left, [50, 30, 10, 0]);
    assert_eq!(replicas_of(&cluster.image, 1), 0);
    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    cluster.register(1, NO_LAST_RUN);
    assert!(
        cluster.image.brokers[&BrokerId(1)].evacuating,
        "over restarts"
    );
}

#[test]
fn what_blocks_an_evacuation_is_told() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("everywhere", &[1, 2, 3], &[]);
    cluster.create("single", &[1], &[]);
    cluster.create("pair", &[1, 2], &[]);
    cluster.submit(Command::CordonBroker(CordonBroker {
        broker_id: 2,
        cordoned: true,
    }));
    cluster.evacuate(1, true);
    let blocked = |plan: &EvacuationPlan| -> Vec<String> {
        let blocked = plan.progress[&BrokerId(1)].blocked.iter();
        blocked.map(|blocked| blocked.reason.clone()).collect()
    };
    let plan = cluster.start_moves();
    assert_eq!(plan.progress[&BrokerId(1)].replicas_left, 3);
    assert_eq!(blocked(&plan).len(), 1, "{plan:?}");
    assert!(blocked(&plan)[0].contains("add a broker"));

    cluster.submit(Command::FenceBroker(cluster.broker(3)));
    let plan = cluster.start_moves();
    assert_eq!(plan.progress[&BrokerId(1)].moving, 2);
    let dead = "broker 3, which is to have it, is not alive";
    assert_eq!(blocked(&plan)[1..], [dead, dead]);

    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    let plan = cluster.start_moves();
    assert_eq!(plan.progress[&BrokerId(1)].blocked_total, 3);
}

#[test]
fn an_evacuation_that_is_given_up_leaves_replicas_where_they_were() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create_many("t", 30, 2);
    let before = cluster.image.topic_by_name("t").unwrap().partitions.clone();
    cluster.evacuate(1, true);
    cluster.start_moves();
    cluster.evacuate(1, false);
    let after = cluster.image.topic_by_name("t").unwrap().partitions.clone();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.replicas, after.replicas);
        assert!(!after.is_reassigning());
    }
    assert_eq!(cluster.start_moves(), EvacuationPlan::default());
    let unknown = cluster.evacuate(9, true);
    assert_eq!(failure(&unknown), Some(CommandError::UnknownBroker));
}

proptest! {
    #[test]
    fn evacuations_end_and_move_nothing_else(
        topics in prop::collection::vec((1..12i32, 1..4i32), 1..4),
        evacuated in prop::collection::btree_set(1..=6, 1..3),
        cordoned in 1..=6,
    ) {
        let mut cluster = Cluster::with_brokers(6);
        for (number, (partitions, replication_factor)) in topics.iter().enumerate() {
            let name = alloc::format!("t{number}");
            cluster.create_many(&name, *partitions, *replication_factor);
        }
        cluster.submit(Command::CordonBroker(CordonBroker {
            broker_id: cordoned,
            cordoned: true,
        }));
        for id in &evacuated {
            cluster.evacuate(*id, true);
        }
        let before = cluster.image.clone();
        let left = |cluster: &Cluster| {
            evacuated.iter().map(|id| replicas_of(&cluster.image, *id)).sum::<usize>()
        };
        for _ in 0..20 {
            cluster.start_moves();
            let moving = cluster.image.partitions().filter(|(_, state)| state.is_reassigning());
            prop_assert!(moving.count() <= EVACUATION_MOVES_MAX);
            cluster.catch_up();
        }
        prop_assert_eq!(left(&cluster), 0);
        for (id, state) in before.partitions() {
            let now = cluster.image.partition(id).unwrap();
            prop_assert_eq!(now.replicas.len(), state.replicas.len());
            for (old, new) in state.replicas.iter().zip(&now.replicas) {
                if evacuated.contains(&old.0) {
                    prop_assert!(!evacuated.contains(&new.0) && new.0 != cordoned);
                } else {
                    prop_assert_eq!(old, new);
                }
            }
        }
    }
}
