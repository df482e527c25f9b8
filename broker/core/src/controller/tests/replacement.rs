use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::evacuation::choose;
use super::*;
use crate::metadata::PartitionImage;
use crate::{Duration, Time};

const LIMIT: Duration = Duration::from_millis(100);

impl Cluster {
    /// Starts what is planned for `dead` brokers; returns how many partitions change.
    fn replace(&mut self, dead: &[i32]) -> usize {
        let dead: BTreeSet<BrokerId> = dead.iter().copied().map(BrokerId).collect();
        let Some(command) = plan_replacements(&self.image, &dead, choose) else {
            return 0;
        };
        let response = self.submit(command);
        assert_eq!(failure(&response), None);
        let Response::AlterReassignments(response) = response else {
            panic!("{response:?}")
        };
        response.partitions.len()
    }

    /// As if every fenced broker had been away for long. What must not be given up goes on.
    pub(super) fn replace_all_dead(&mut self) {
        let brokers = self.image.brokers.values();
        let dead = brokers.filter(|broker| broker.fenced).map(|b| b.id);
        if let Some(command) = plan_replacements(&self.image, &dead.collect(), choose) {
            self.submit(command);
        }
    }

    fn fence(&mut self, broker: i32) {
        self.submit(Command::FenceBroker(self.broker(broker)));
    }

    fn come_back(&mut self, broker: i32) {
        self.register(broker, self.stopped(broker, Stop::Crash));
        self.submit(Command::UnfenceBroker(self.broker(broker)));
    }

    fn cordon(&mut self, broker_id: i32, cordoned: bool) {
        self.submit(Command::CordonBroker(CordonBroker {
            broker_id,
            cordoned,
        }));
    }

    fn announce_restart(&mut self, broker_id: i32, ttl_ms: u64) {
        let incarnation = self.image.brokers[&BrokerId(broker_id)].incarnation.clone();
        self.submit(Command::PrepareRestart(PrepareRestart {
            broker_id,
            incarnation,
            ttl_ms,
        }));
    }

    fn only(&self) -> &PartitionImage {
        &self.image.topic_by_name("t").unwrap().partitions[0]
    }

    /// The replicas, and those that are being added.
    fn placed(&self) -> (Vec<i32>, Vec<i32>) {
        let raw = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
        let state = self.only();
        (raw(&state.replicas), raw(&state.adding))
    }
}

/// A cluster of five brokers where broker 2, which has a replica of t, is dead.
fn with_dead_broker() -> Cluster {
    let mut cluster = Cluster::with_brokers(5);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.fence(2);
    cluster
}

#[test]
fn a_dead_brokers_replica_is_re_created_in_its_place() {
    let mut cluster = with_dead_broker();
    assert_eq!(cluster.replace(&[]), 0, "it may be restarting");
    assert_eq!(cluster.replace(&[2]), 1);
    assert_eq!(cluster.placed(), (vec![1, 4, 3, 2], vec![4]));
    assert!(cluster.only().replaces_dead);
    assert_eq!(cluster.replace(&[2]), 0, "under way");
    cluster.alter_isr("t", &[1, 3, 4]);
    assert_eq!(cluster.placed(), (vec![1, 4, 3], vec![]));
    assert!(!cluster.only().replaces_dead);
    assert_eq!(cluster.replace(&[2]), 0);
}

#[test]
fn of_the_former_replica_and_the_new_one_the_first_in_sync_stays() {
    let mut cluster = with_dead_broker();
    cluster.replace(&[2]);
    cluster.come_back(2);
    assert_eq!(cluster.replace(&[]), 0, "both copy");
    cluster.alter_isr("t", &[1, 3, 2]);
    assert_eq!(cluster.replace(&[]), 1);
    assert_eq!(cluster.placed(), (vec![1, 2, 3], vec![]));
    assert!(!cluster.only().replaces_dead);

    let mut cluster = with_dead_broker();
    cluster.replace(&[2]);
    cluster.come_back(2);
    cluster.alter_isr("t", &[1, 3, 4]);
    assert_eq!(cluster.placed(), (vec![1, 4, 3], vec![]));
}

#[test]
fn another_death_meanwhile_moves_the_replacement_on() {
    let mut cluster = with_dead_broker();
    cluster.replace(&[2]);
    cluster.fence(4);
    assert_eq!(cluster.replace(&[2]), 0, "broker 4 may be restarting");
    assert_eq!(cluster.replace(&[2, 4]), 1);
    assert_eq!(cluster.placed(), (vec![1, 5, 3, 2], vec![5]));
    cluster.fence(5);
    cluster.come_back(2);
    assert_eq!(cluster.replace(&[4, 5]), 1);
    assert_eq!(cluster.placed(), (vec![1, 2, 3], vec![]));
}

#[test]
fn nothing_begins_while_a_restart_is_planned_nor_for_brokers_set_aside() {
    type Plan = fn(&mut Cluster);
    let cases: [(&str, Plan, Plan); 4] = [
        (
            "restart announced",
            |cluster| cluster.announce_restart(5, 1000),
            |cluster| cluster.announce_restart(5, 0),
        ),
        (
            "controlled shutdown of another broker",
            |cluster| {
                cluster.submit(Command::DrainBroker(cluster.broker(5)));
            },
            |cluster| cluster.fence(5),
        ),
        (
            "the dead one is cordoned",
            |cluster| cluster.cordon(2, true),
            |cluster| cluster.cordon(2, false),
        ),
        (
            "the dead one is evacuated",
            |cluster| {
                cluster.evacuate(2, true);
            },
            |cluster| {
                cluster.evacuate(2, false);
            },
        ),
    ];
    for (name, begin, end) in cases {
        let mut cluster = with_dead_broker();
        begin(&mut cluster);
        assert_eq!(cluster.replace(&[2]), 0, "{name}");
        end(&mut cluster);
        assert_eq!(cluster.replace(&[2]), 1, "{name}, over");
    }
}

#[test]
fn partitions_without_leader_spare_broker_or_mark_stay_as_they_are() {
    let mut cluster = Cluster::with_brokers(4);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.cordon(4, true);
    cluster.fence(2);
    assert_eq!(cluster.replace(&[2]), 0, "no spare broker");
    cluster.cordon(4, false);
    cluster.reassign("t", Some(&[1, 4, 3]));
    cluster.come_back(2);
    cluster.alter_isr("t", &[1, 3, 2]);
    assert_eq!(cluster.replace(&[]), 0, "somebody wants this one");
    assert_eq!(cluster.placed(), (vec![1, 4, 3, 2], vec![4]));

    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1], &[]);
    cluster.fence(1);
    assert_eq!(cluster.replace(&[1]), 0, "nobody to copy from");
}

#[test]
fn a_broker_is_dead_after_a_time_without_a_new_registration() {
    let mut cluster = with_dead_broker();
    let dead = BTreeSet::from([BrokerId(2)]);
    let mut absences = Absences::default();
    let mut tick = |at, cluster: &Cluster| absences.tick(Time(at), &cluster.image, LIMIT);
    assert_eq!(tick(1_000, &cluster), BTreeSet::new());
    assert_eq!(tick(1_099, &cluster), BTreeSet::new());
    assert_eq!(tick(1_100, &cluster), dead);
    cluster.register(2, NO_LAST_RUN);
    assert_eq!(tick(1_200, &cluster), BTreeSet::new(), "it recovers");
    assert_eq!(tick(1_300, &cluster), dead);
    cluster.submit(Command::UnfenceBroker(cluster.broker(2)));
    assert_eq!(tick(1_400, &cluster), BTreeSet::new());
    cluster.fence(2);
    assert_eq!(tick(1_450, &cluster), BTreeSet::new(), "counted anew");
}

proptest! {
    #[test]
    fn replacements_end_and_change_dead_places_only(
        topics in prop::collection::vec((1..12i32, 1..4i32), 1..4),
        dead in prop::collection::btree_set(1..=6, 1..3),
        cordoned in 1..=6,
        returns in any::<bool>(),
    ) {
        let mut cluster = Cluster::with_brokers(6);
        for (number, (partitions, replication_factor)) in topics.iter().enumerate() {
            let name = alloc::format!("t{number}");
            cluster.create_many(&name, *partitions, *replication_factor);
        }
        cluster.cordon(cordoned, true);
        let dead: Vec<i32> = dead.into_iter().collect();
        for id in &dead {
            cluster.fence(*id);
        }
        let before = cluster.image.clone();
        for round in 0..20 {
            cluster.replace(&dead);
            let marked = cluster.image.partitions().filter(|(_, state)| state.replaces_dead);
            let copying = marked.filter(|(_, state)| state.adding.iter().any(|id| !state.isr.contains(id)));
            prop_assert!(copying.count() <= REPLACEMENTS_MAX);
            if returns && round == 1 {
                cluster.come_back(dead[0]);
            }
            cluster.catch_up();
        }
        prop_assert_eq!(cluster.replace(&dead), 0);
        for (id, state) in before.partitions() {
            let now = cluster.image.partition(id).unwrap();
            let target: Vec<BrokerId> = now.target().collect();
            let waits = target.iter().any(|id| id.0 == cordoned && !cluster.image.is_active(*id));
            prop_assert!(waits || !now.is_reassigning());
            prop_assert_eq!(target.len(), state.replicas.len());
            for (old, new) in state.replicas.iter().zip(&target) {
                prop_assert!(old == new || dead.contains(&old.0));
                prop_assert!(old == new || (new.0 != cordoned && !dead[1..].contains(&new.0)));
            }
        }
        let led = before.partitions().filter(|(_, state)| state.leader.is_some());
        for (id, _) in led {
            let state = cluster.image.partition(id).unwrap();
            let gone = |id: &BrokerId| !cluster.image.is_active(*id) && id.0 != cordoned;
            prop_assert!(!state.target().any(|id| gone(&id)));
        }
    }
}
