use proptest::prelude::*;

use super::*;
use crate::metadata::{PartitionImage, Rebalance, Record};

/// Evens out replicas alone.
fn plan(request: &RebalanceRequest<'_>) -> Vec<RebalanceMove> {
    let mut placed: Vec<Vec<BrokerId>> = request
        .partitions
        .iter()
        .map(|partition| partition.replicas.clone())
        .collect();
    let mut moves = BTreeMap::new();
    loop {
        let count = |id: BrokerId| {
            placed
                .iter()
                .flatten()
                .filter(|replica| **replica == id)
                .count()
        };
        let available = request.brokers.iter().filter(|broker| broker.available);
        let mut counts: Vec<_> = available
            .map(|broker| (count(broker.id), broker.id))
            .collect();
        counts.sort_unstable();
        let (Some((least, to)), Some((most, from))) = (counts.first(), counts.last()) else {
            break;
        };
        let may_move = |index: &usize| {
            let replicas = &placed[*index];
            let pinned = request.partitions[*index].pinned;
            !pinned && replicas.contains(from) && !replicas.contains(to)
        };
        let Some(index) = (0..placed.len())
            .find(may_move)
            .filter(|_| least + 2 <= *most)
        else {
            break;
        };
        let place = placed[index].iter().position(|id| id == from).unwrap();
        placed[index][place] = *to;
        moves.insert(index, placed[index].clone());
    }
    let moves = moves.into_iter();
    moves
        .map(|(partition, replicas)| RebalanceMove {
            partition,
            replicas,
            reason: String::new(),
        })
        .collect()
}

/// The lead of every partition that broker 1 leads by preference goes to its next replica.
fn depose_first(request: &RebalanceRequest<'_>) -> Vec<RebalanceMove> {
    let partitions = request.partitions.iter().enumerate();
    let led = partitions.filter(|(_, partition)| partition.replicas[0] == BrokerId(1));
    let moved = led.map(|(partition, placed)| {
        let mut replicas = placed.replicas.clone();
        replicas.rotate_left(1);
        RebalanceMove {
            partition,
            replicas,
            reason: String::new(),
        }
    });
    moved.collect()
}

impl Cluster {
    pub(super) fn rebalance(&mut self, rebalancing: bool) -> Response {
        self.submit(Command::Rebalance(Rebalance { rebalancing }))
    }

    /// Takes the next step, and returns it.
    pub(super) fn spread(&mut self) -> RebalanceStep {
        self.spread_by(plan)
    }

    fn spread_by(
        &mut self,
        plan: impl Fn(&RebalanceRequest<'_>) -> Vec<RebalanceMove>,
    ) -> RebalanceStep {
        let step = plan_rebalance(&self.image, plan);
        for command in &step.commands {
            self.submit(command.clone());
        }
        step
    }

    fn moving(&self) -> usize {
        self.image
            .partitions()
            .filter(|(_, state)| state.rebalances)
            .count()
    }

    /// Replicas of each broker, in the order of their ids.
    fn replicas(&self) -> Vec<usize> {
        let of = |id: &BrokerId| {
            let partitions = self.image.partitions();
            partitions
                .filter(|(_, state)| state.has_replica(*id))
                .count()
        };
        self.image.brokers.keys().map(of).collect()
    }

    fn add_broker(&mut self, id: i32) {
        self.register(id, NO_LAST_RUN);
        self.submit(Command::UnfenceBroker(self.broker(id)));
    }
}

fn progress(step: &RebalanceStep) -> (usize, Option<usize>) {
    let progress = step.progress.as_ref().unwrap();
    (progress.moving, progress.waiting)
}

#[test]
fn an_added_broker_gets_its_share_in_bounded_steps() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_many("t", 90, 2);
    cluster.add_broker(3);
    assert_eq!(
        cluster.spread(),
        RebalanceStep::default(),
        "nobody asked for it"
    );
    cluster.rebalance(true);
    let mut seen = Vec::new();
    while cluster.image.rebalancing {
        seen.push(progress(&cluster.spread()));
        assert!(cluster.moving() <= REBALANCE_MOVES_MAX);
        if cluster.moving() == REBALANCE_MOVES_MAX {
            assert_eq!(
                progress(&cluster.spread()),
                (REBALANCE_MOVES_MAX, None),
                "enough for now"
            );
        }
        cluster.catch_up();
    }
    assert_eq!(
        seen,
        [(20, Some(40)), (20, Some(20)), (20, Some(0)), (0, Some(0))]
    );
    assert_eq!(cluster.replicas(), [60, 60, 60]);
    assert_eq!(cluster.spread(), RebalanceStep::default());
}

#[test]
fn a_rebalance_that_is_cancelled_gives_up_its_own_moves_alone() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_many("t", 30, 2);
    cluster.create("mine", &[1], &[]);
    cluster.add_broker(3);
    cluster.reassign("mine", Some(&[2]));
    cluster.rebalance(true);
    cluster.spread();
    assert_eq!(cluster.moving(), 20);
    cluster.rebalance(false);
    assert_eq!(cluster.moving(), 0);
    assert_eq!(cluster.replicas()[2], 0);
    let mine = &cluster.image.topic_by_name("mine").unwrap().partitions[0];
    assert!(mine.is_reassigning(), "{mine:?}");
    cluster.rebalance(true);
    cluster.spread();
    assert_eq!(cluster.moving(), 20, "begins anew");
}

#[test]
fn a_rebalance_pauses_while_a_broker_is_missing_and_moves_do_not_wait_for_it() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_many("t", 30, 2);
    cluster.add_broker(3);
    cluster.rebalance(true);
    cluster.spread();
    cluster.submit(Command::FenceBroker(cluster.broker(3)));
    cluster.spread();
    let why = rebalance_hindrance(&cluster.image).unwrap();
    assert_eq!(why, "broker 3 is not alive; bring it back, or remove it");
    assert_eq!(cluster.moving(), 0);
    assert_eq!(cluster.spread().commands, []);

    let lost = cluster.image.clone();
    cluster.submit(Command::UnfenceBroker(cluster.broker(3)));
    cluster.spread();
    assert_eq!(cluster.moving(), 20, "goes on");

    cluster.image = lost;
    cluster.follower = cluster.image.clone();
    cluster.evacuate(3, true);
    assert_eq!(
        rebalance_hindrance(&cluster.image),
        None,
        "it is not to get anything"
    );
    cluster.spread();
    assert!(!cluster.image.rebalancing, "the others are even");
}

#[test]
fn a_rebalance_waits_for_restarts_and_its_moves_go_on() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_many("t", 30, 2);
    cluster.add_broker(3);
    cluster.rebalance(true);
    cluster.spread();
    cluster.prepare_restart(1, 1_000);
    cluster.catch_up();
    let step = cluster.spread();
    assert_eq!(step.commands, []);
    assert_eq!(
        rebalance_hindrance(&cluster.image).unwrap(),
        "broker 1 is about to stop"
    );
    assert_eq!(cluster.replicas(), [20, 20, 20]);
}

#[test]
fn what_cannot_be_moved_is_pinned() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create("offline", &[1], &[]);
    cluster.create("busy", &[2], &[]);
    cluster.create("free", &[2], &[]);
    cluster.reassign("busy", Some(&[1]));
    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    let names = |image: &Image| -> Vec<(String, bool)> {
        let partitions = placed_partitions(image).into_iter();
        let named = partitions.map(|p| (image.topics[&p.id.topic].name.to_string(), p.pinned));
        named.collect()
    };
    let expected = [("offline", true), ("busy", true), ("free", false)];
    assert_eq!(
        names(&cluster.image),
        expected.map(|(name, pinned)| (name.to_string(), pinned))
    );
}

#[test]
fn leaders_change_at_once_and_the_preferred_ones_are_elected_at_the_end() {
    let mut cluster = Cluster::with_brokers(2);
    cluster.create_many("t", 600, 2);
    cluster.rebalance(true);
    let step = cluster.spread_by(depose_first);
    assert_eq!(progress(&step), (0, Some(100)), "500 of 600");
    assert_eq!(cluster.moving(), 0, "nothing is copied");
    cluster.spread_by(depose_first);
    cluster.spread_by(depose_first);
    assert!(!cluster.image.rebalancing);
    let led = |state: &PartitionImage| state.leader == Some(BrokerId(2));
    assert!(cluster.image.partitions().all(|(_, state)| led(state)));
}

#[test]
fn a_dead_broker_that_takes_no_replicas_does_not_hold_up_a_rebalance() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create_many("t", 30, 2);
    cluster.create("on-the-dead", &[1, 3], &[]);
    cluster.rebalance(true);
    cluster.spread();
    assert_eq!(cluster.moving(), 19);
    cluster.submit(Command::CordonBroker(CordonBroker {
        broker_id: 3,
        cordoned: true,
    }));
    cluster.submit(Command::FenceBroker(cluster.broker(3)));
    cluster.spread();
    assert_eq!(cluster.moving(), 0);
    cluster.spread();
    assert!(!cluster.image.rebalancing);
}

#[test]
fn that_a_cluster_is_rebalanced_survives_in_snapshots() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.rebalance(true);
    let records = cluster.image.to_records();
    let starts = Record::Rebalance(Rebalance { rebalancing: true });
    assert!(records.contains(&starts));
    cluster.rebalance(false);
    assert!(!cluster.image.to_records().contains(&starts));
}

proptest! {
    #[test]
    fn rebalances_end_whatever_happens_meanwhile(
        topics in prop::collection::vec((1..20i32, 1..4i32), 1..4),
        fenced in prop::collection::vec((3..=6i32, any::<bool>()), 0..12),
    ) {
        let mut cluster = Cluster::with_brokers(3);
        for (number, (partitions, factor)) in topics.iter().enumerate() {
            cluster.create_many(&alloc::format!("t{number}"), *partitions, *factor);
        }
        for id in 4..=6 {
            cluster.add_broker(id);
        }
        let factors: Vec<usize> =
            cluster.image.partitions().map(|(_, state)| state.replicas.len()).collect();
        cluster.rebalance(true);
        for (id, goes) in fenced {
            let broker = cluster.broker(id);
            let command = if goes { Command::FenceBroker(broker) } else { Command::UnfenceBroker(broker) };
            cluster.submit(command);
            cluster.spread();
            prop_assert!(cluster.moving() <= REBALANCE_MOVES_MAX);
            cluster.catch_up();
        }
        for id in 3..=6 {
            cluster.submit(Command::UnfenceBroker(cluster.broker(id)));
        }
        for _ in 0..20 {
            cluster.catch_up();
            cluster.spread();
        }
        prop_assert!(!cluster.image.rebalancing);
        prop_assert_eq!(cluster.moving(), 0);
        let now: Vec<usize> =
            cluster.image.partitions().map(|(_, state)| state.replicas.len()).collect();
        prop_assert_eq!(now, factors);
        let counts = cluster.replicas();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }
}
