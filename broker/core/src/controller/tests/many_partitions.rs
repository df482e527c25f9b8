//! What concerns more partitions than one entry of the metadata log holds.

use super::*;
use crate::controller::draft::SETTLED_PER_DECISION_MAX;

/// Records of one decision: far below what the shell refuses.
const DECISION_BYTES_MAX: usize = 1024 * 1024;
const TOPICS: usize = 3;
const PARTITIONS: usize = SETTLED_PER_DECISION_MAX / 2;

/// Topics of which every partition is on the brokers 1 to `replicas`, led by the first.
fn cluster(replicas: i32) -> Cluster {
    let mut cluster = Cluster::with_brokers(replicas);
    for topic in 0..TOPICS {
        let mut topic = new_topic(&alloc::format!("t{topic}"), -1, replicas);
        topic.num_partitions = i32::try_from(PARTITIONS).unwrap();
        cluster.submit(Command::CreateTopics(CreateTopics {
            topics: vec![topic],
            validate_only: false,
        }));
    }
    assert_eq!(cluster.image.partitions().count(), TOPICS * PARTITIONS);
    cluster
}

impl Cluster {
    /// Decides `command` until it is done, and returns the images after every decision.
    fn submit_in_steps(&mut self, command: &Command) -> Vec<Image> {
        let mut images = Vec::new();
        loop {
            let decision = self.decide(command);
            assert_eq!(failure(&decision.response), None);
            let bytes = decision
                .records
                .iter()
                .map(|record| record.to_bytes().len());
            assert!(bytes.sum::<usize>() < DECISION_BYTES_MAX);
            images.push(self.image.clone());
            if !decision.unfinished {
                return images;
            }
        }
    }

    fn led_by(&self, broker: Option<i32>) -> usize {
        led_by(&self.image, broker)
    }
}

fn led_by(image: &Image, broker: Option<i32>) -> usize {
    let leader = broker.map(BrokerId);
    let led = |state: &metadata::PartitionImage| state.leader == leader;
    image.partitions().filter(|(_, state)| led(state)).count()
}

#[test]
fn a_dead_broker_with_many_replicas_is_fenced_in_bounded_decisions() {
    let mut cluster = cluster(2);
    let dead = cluster.broker(1);
    assert_eq!(cluster.led_by(Some(1)), TOPICS * PARTITIONS);
    let images = cluster.submit_in_steps(&Command::FenceBroker(dead));
    assert_eq!(images.len(), 2);
    assert!(
        !images[0].brokers[&BrokerId(1)].fenced,
        "it is still in sync elsewhere"
    );
    assert_eq!(led_by(&images[0], Some(2)), SETTLED_PER_DECISION_MAX);
    assert!(images[1].brokers[&BrokerId(1)].fenced);
    assert_eq!(led_by(&images[1], Some(2)), TOPICS * PARTITIONS);
}

#[test]
fn partitions_without_another_replica_lose_their_leader_and_get_it_back_in_bounded_decisions() {
    let mut cluster = cluster(1);
    let broker = cluster.broker(1);
    cluster.submit_in_steps(&Command::FenceBroker(broker));
    assert_eq!(cluster.led_by(None), TOPICS * PARTITIONS);
    assert_eq!(plan_missing_elections(&cluster.image), []);
    let images = cluster.submit_in_steps(&Command::UnfenceBroker(broker));
    assert_eq!(images.len(), 2);
    assert_eq!(cluster.led_by(Some(1)), TOPICS * PARTITIONS);
    assert_eq!(
        plan_missing_elections(&images[0]),
        [Command::UnfenceBroker(broker)],
        "another controller goes on"
    );
    assert_eq!(plan_missing_elections(&images[1]), []);
}

#[test]
fn a_broker_with_many_replicas_drains_in_bounded_decisions() {
    let mut cluster = cluster(2);
    let broker = cluster.broker(1);
    cluster.submit_in_steps(&Command::DrainBroker(broker));
    assert_eq!(cluster.led_by(Some(2)), TOPICS * PARTITIONS);
    let mut partitions = cluster.image.partitions();
    assert!(partitions.all(|(_, state)| state.isr == [BrokerId(2)]));
}

#[test]
fn a_broker_that_crashed_is_registered_once_it_is_eligible_nowhere() {
    let mut cluster = cluster(2);
    let resource = ConfigResource {
        resource_type: ResourceType::ClusterDefault.into(),
        name: String::new(),
        mode: AlterMode::Incremental.into(),
        ops: vec![ConfigOp {
            key: "min.insync.replicas".to_string(),
            op: ConfigOpType::Set.into(),
            value: Some("2".to_string()),
        }],
    };
    cluster.submit(Command::AlterConfigs(AlterConfigs {
        resources: vec![resource],
        validate_only: false,
    }));
    let crashed = cluster.broker(1);
    cluster.submit(Command::FenceBroker(crashed));
    let eligible = |image: &Image| {
        let is_eligible = |state: &metadata::PartitionImage| state.elr.contains(&BrokerId(1));
        image
            .partitions()
            .filter(|(_, state)| is_eligible(state))
            .count()
    };
    assert_eq!(eligible(&cluster.image), TOPICS * PARTITIONS);
    let command = cluster.registration(1, cluster.stopped(1, Stop::Crash));
    let images = cluster.submit_in_steps(&command);
    assert_eq!(images.len(), 2);
    assert_eq!(
        images[0].brokers[&BrokerId(1)].epoch.0,
        crashed.broker_epoch
    );
    assert!(images[1].brokers[&BrokerId(1)].epoch.0 > crashed.broker_epoch);
    assert_eq!(eligible(&images[1]), 0);
}
