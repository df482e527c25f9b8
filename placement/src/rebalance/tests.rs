use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn broker(id: i32, rack: Option<usize>) -> Broker {
    Broker {
        id,
        rack: rack.map(|rack| format!("rack-{rack}")),
        replicas: 0,
        leaders: 0,
        available: true,
    }
}

fn brokers(count: i32) -> Vec<Broker> {
    (0..count).map(|id| broker(id, None)).collect()
}

fn partition(replicas: &[i32]) -> Partition {
    Partition {
        replicas: replicas.to_vec(),
        ..Partition::default()
    }
}

fn moved(brokers: &[Broker], partitions: &[Partition]) -> Vec<Vec<i32>> {
    let plan = plan_rebalance(brokers, partitions).unwrap();
    plan.moves
        .into_iter()
        .map(|planned| planned.replicas)
        .collect()
}

fn apply(partitions: &mut [Partition], moves: &[Move]) {
    for planned in moves {
        partitions[planned.partition]
            .replicas
            .clone_from(&planned.replicas);
    }
}

fn counts(brokers: &[Broker], ids: impl Iterator<Item = i32>) -> BTreeMap<i32, usize> {
    let available = brokers.iter().filter(|broker| broker.available);
    let mut counts: BTreeMap<i32, usize> = available.map(|broker| (broker.id, 0)).collect();
    for id in ids {
        if let Some(count) = counts.get_mut(&id) {
            *count += 1;
        }
    }
    counts
}

fn replica_counts(brokers: &[Broker], partitions: &[Partition]) -> BTreeMap<i32, usize> {
    let replicas = partitions.iter().flat_map(|p| p.replicas.iter().copied());
    counts(brokers, replicas)
}

fn leader_counts(brokers: &[Broker], partitions: &[Partition]) -> BTreeMap<i32, usize> {
    let leaders = partitions
        .iter()
        .filter_map(|p| p.replicas.first().copied());
    counts(brokers, leaders)
}

fn spread(counts: &BTreeMap<i32, usize>) -> usize {
    let values = || counts.values().copied();
    values().max().unwrap_or(0) - values().min().unwrap_or(0)
}

fn copies(partitions: &[Partition], moves: &[Move]) -> usize {
    let is_new = |planned: &Move, id: &&i32| !partitions[planned.partition].replicas.contains(id);
    let new = |planned: &Move| {
        planned
            .replicas
            .iter()
            .filter(|id| is_new(planned, id))
            .count()
    };
    moves.iter().map(new).sum()
}

#[test]
fn an_added_broker_gets_its_share_and_no_more_is_copied() {
    let mut partitions: Vec<Partition> = (0..24)
        .map(|n| partition(&[n % 3, (n + 1) % 3, (n + 2) % 3]))
        .collect();
    let brokers = brokers(4);
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    assert_eq!(copies(&partitions, &plan.moves), 18, "a quarter of 72");
    apply(&mut partitions, &plan.moves);
    let replicas = replica_counts(&brokers, &partitions);
    assert!(replicas.values().all(|count| *count == 18), "{replicas:?}");
    let leaders = leader_counts(&brokers, &partitions);
    assert!(leaders.values().all(|count| *count == 6), "{leaders:?}");
    assert_eq!(lint(&brokers, &partitions), []);
    assert_eq!(
        plan_rebalance(&brokers, &partitions).unwrap(),
        RebalancePlan::default()
    );
}

#[test]
fn of_each_topic_a_new_broker_gets_its_share() {
    let mut partitions: Vec<Partition> = (0..4)
        .flat_map(|topic| {
            (0..20).map(move |_| Partition {
                topic,
                ..partition(&[0])
            })
        })
        .collect();
    let brokers = brokers(2);
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    apply(&mut partitions, &plan.moves);
    for topic in 0..4 {
        let of_topic: Vec<_> = partitions
            .iter()
            .filter(|p| p.topic == topic)
            .cloned()
            .collect();
        assert_eq!(replica_counts(&brokers, &of_topic)[&1], 10, "topic {topic}");
    }
}

#[test]
fn a_partition_goes_to_more_racks_before_anything_else() {
    let brokers = [broker(0, Some(0)), broker(1, Some(0)), broker(2, Some(1))];
    let partitions = [partition(&[0, 1]), partition(&[1])];
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    let [only] = &plan.moves[..] else {
        panic!("{plan:?}")
    };
    assert_eq!((only.partition, only.replicas.contains(&2)), (0, true));
    assert!(matches!(only.reasons[0], Reason::Racks { to: 2, .. }));
    assert_eq!(
        only.reasons[0].to_string(),
        "the rack of broker 1 has more of its replicas than that of broker 2"
    );
}

#[test]
fn what_racks_or_pins_keep_in_place_is_explained() {
    let brokers = [broker(0, Some(0)), broker(1, Some(1)), broker(2, Some(1))];
    let each_rack: Vec<Partition> = (0..8).map(|n| partition(&[0, 1 + n % 2])).collect();
    let plan = plan_rebalance(&brokers, &each_rack).unwrap();
    let stay = Stay {
        broker: 0,
        replicas: 8,
        fewest: (1, 4),
        pinned: 0,
        shared: 4,
        racks: 4,
    };
    assert_eq!(plan.stays, [stay]);
    assert!(
        lint(&brokers, &each_rack)
            .iter()
            .all(|v| matches!(v, Violation::Leaders { .. }))
    );

    let pinned: Vec<Partition> = (0..4)
        .map(|_| Partition {
            pinned: true,
            ..partition(&[0])
        })
        .collect();
    let plan = plan_rebalance(&brokers[..2], &pinned).unwrap();
    assert_eq!(plan.moves, []);
    assert_eq!(plan.stays[0].pinned, 4);
    assert_eq!(
        plan.stays[0].to_string(),
        "broker 0 keeps 4 replicas and broker 1 has 0: 0 would be spread worse over racks, \
         0 are on both, 4 cannot move now"
    );
}

#[test]
fn brokers_that_are_not_available_neither_give_nor_take() {
    let mut brokers = brokers(3);
    brokers[1].available = false;
    let partitions = [
        partition(&[1]),
        partition(&[1]),
        partition(&[0, 9]),
        partition(&[0]),
    ];
    assert_eq!(moved(&brokers, &partitions), [[2, 9].to_vec()]);
    brokers[2].available = false;
    assert_eq!(moved(&brokers, &partitions), Vec::<Vec<i32>>::new());
    brokers[2].id = 0;
    assert_eq!(
        plan_rebalance(&brokers, &[]),
        Err(PlacementError::DuplicateBroker(0))
    );
}

#[test]
fn large_replicas_are_exchanged_for_small_ones() {
    let sized = |replica, gib: u64| Partition {
        bytes: gib << 30,
        ..partition(&[replica])
    };
    let mut partitions: Vec<Partition> = (0..4).map(|_| sized(0, 100)).collect();
    partitions.extend((0..4).map(|_| sized(1, 1)));
    let brokers = brokers(2);
    assert!(lint(&brokers, &partitions).contains(&Violation::Bytes { from: 0, to: 1 }));
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    assert_eq!(plan.moves.len(), 4);
    apply(&mut partitions, &plan.moves);
    let on_first = partitions.iter().filter(|p| p.replicas == [0]);
    assert_eq!(on_first.map(|p| p.bytes).sum::<u64>(), 202 << 30);
    assert_eq!(lint(&brokers, &partitions), []);
}

#[test]
fn a_lead_goes_over_others_where_it_cannot_go_directly() {
    let pairs = [
        [0, 1],
        [0, 1],
        [0, 1],
        [1, 2],
        [2, 1],
        [2, 3],
        [3, 2],
        [3, 0],
        [0, 3],
    ];
    let mut partitions: Vec<Partition> = pairs.iter().map(|pair| partition(pair)).collect();
    let mut brokers = brokers(4);
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    brokers.reverse();
    assert_eq!(
        plan,
        plan_rebalance(&brokers, &partitions).unwrap(),
        "whatever the order"
    );
    assert_eq!(copies(&partitions, &plan.moves), 0, "{plan:?}");
    apply(&mut partitions, &plan.moves);
    assert!(
        spread(&leader_counts(&brokers, &partitions)) <= 1,
        "{partitions:?}"
    );
}

#[test]
fn a_thousand_brokers_with_a_hundred_thousand_partitions_take_ten_more() {
    let brokers: Vec<Broker> = (0..1_000)
        .map(|id| broker(id, Some(usize::try_from(id).unwrap() % 3)))
        .collect();
    let mut partitions: Vec<Partition> = (0..100_000i32)
        .map(|n| {
            let mut replicas: Vec<i32> = (0..3)
                .map(|rack| (n + 17 * rack) % 330 * 3 + rack)
                .collect();
            replicas.rotate_left(usize::try_from(n % 3).unwrap());
            Partition {
                topic: usize::try_from(n / 100).unwrap(),
                bytes: 1 << 30,
                ..partition(&replicas)
            }
        })
        .collect();
    let plan = plan_rebalance(&brokers, &partitions).unwrap();
    apply(&mut partitions, &plan.moves);
    // Each rack has one replica of every partition, and one of them a broker more.
    assert!(spread(&replica_counts(&brokers, &partitions)) <= 2);
    assert!(spread(&leader_counts(&brokers, &partitions)) <= 1);
    assert_eq!(lint(&brokers, &partitions), []);
}

/// Brokers in racks, some not available, and partitions that are anywhere.
fn any_cluster() -> impl Strategy<Value = (Vec<Broker>, Vec<Partition>)> {
    let racks = prop::collection::vec((0..4usize, prop::bool::weighted(0.9)), 1..9);
    racks.prop_flat_map(|racks| {
        let count = racks.len();
        let brokers: Vec<Broker> = racks
            .into_iter()
            .zip(0..)
            .map(|((rack, available), id)| Broker {
                available,
                ..broker(id, Some(rack))
            })
            .collect();
        let ids: Vec<i32> = brokers.iter().map(|broker| broker.id).collect();
        let partition = (
            0..4usize,
            prop::sample::subsequence(ids, 1..=count.min(4)).prop_shuffle(),
            0..40u64,
            prop::bool::weighted(0.05),
        );
        let partition = partition.prop_map(|(topic, replicas, gib, pinned)| Partition {
            topic,
            replicas,
            bytes: gib << 30,
            pinned,
        });
        (Just(brokers), prop::collection::vec(partition, 0..60))
    })
}

/// How uneven replicas are: less is better, racks first.
fn unevenness(brokers: &[Broker], partitions: &[Partition]) -> (usize, usize) {
    let rack = |id: &i32| brokers.iter().find(|b| b.id == *id).unwrap().rack.clone();
    let crowding = partitions.iter().map(|partition| {
        let mut by_rack: BTreeMap<_, usize> = BTreeMap::new();
        for id in &partition.replicas {
            *by_rack.entry(rack(id)).or_default() += 1;
        }
        by_rack.values().map(|count| count * count).sum::<usize>()
    });
    let squares = replica_counts(brokers, partitions);
    let squares = squares.values().map(|count| count * count).sum();
    (crowding.sum(), squares)
}

fn racks_of(brokers: &[Broker], replicas: &[i32]) -> usize {
    let racks = replicas
        .iter()
        .map(|id| &brokers.iter().find(|b| b.id == *id).unwrap().rack);
    racks.collect::<BTreeSet<_>>().len()
}

proptest! {
    #[test]
    fn a_plan_leaves_nothing_uneven_and_nothing_to_plan((brokers, before) in any_cluster()) {
        let plan = plan_rebalance(&brokers, &before).unwrap();
        let mut after = before;
        apply(&mut after, &plan.moves);
        prop_assert_eq!(lint(&brokers, &after), []);
        prop_assert_eq!(&plan_rebalance(&brokers, &after).unwrap().moves, &[]);
        prop_assert_eq!(&plan_rebalance(&brokers, &after).unwrap().stays, &plan.stays);
    }

    #[test]
    fn a_plan_keeps_what_it_must((brokers, before) in any_cluster()) {
        let plan = plan_rebalance(&brokers, &before).unwrap();
        for planned in &plan.moves {
            let old = &before[planned.partition];
            prop_assert!(!old.pinned && !planned.reasons.is_empty());
            prop_assert_eq!(planned.replicas.len(), old.replicas.len());
            let distinct: BTreeSet<_> = planned.replicas.iter().collect();
            prop_assert_eq!(distinct.len(), planned.replicas.len());
            for id in &planned.replicas {
                prop_assert!(old.replicas.contains(id) || brokers[usize::try_from(*id).unwrap()].available);
            }
            for id in &old.replicas {
                prop_assert!(planned.replicas.contains(id) || brokers[usize::try_from(*id).unwrap()].available);
            }
            prop_assert!(racks_of(&brokers, &planned.replicas) >= racks_of(&brokers, &old.replicas));
        }
        let partitions: BTreeSet<_> = plan.moves.iter().map(|planned| planned.partition).collect();
        prop_assert_eq!(partitions.len(), plan.moves.len());
    }

    #[test]
    fn replicas_and_leaders_are_even_over_equal_racks(
        racks in 1..5usize, rack_size in 1..4usize, added in 0..4usize, partitions in 0..60usize,
        replication_factor in 1..4usize,
    ) {
        let count = racks * rack_size;
        prop_assume!(replication_factor <= racks || racks == 1 && replication_factor <= count);
        let all = racks * (rack_size + added);
        let brokers: Vec<Broker> = (0..all)
            .map(|n| broker(i32::try_from(n).unwrap(), Some(n % racks)))
            .collect();
        let placed = crate::plan_topic(&brokers[..count], partitions, replication_factor).unwrap();
        let mut partitions: Vec<Partition> = placed.iter().map(|replicas| partition(replicas)).collect();
        let fair = replica_counts(&brokers, &partitions).values().sum::<usize>() / all;
        let plan = plan_rebalance(&brokers, &partitions).unwrap();
        prop_assert!(copies(&partitions, &plan.moves) <= (fair + 1) * racks * added, "minimal");
        apply(&mut partitions, &plan.moves);
        // Where a partition has some of the racks, it may take two moves to bring one replica on.
        let bound = if [1, racks].contains(&replication_factor) || racks == 1 { 1 } else { 2 };
        prop_assert!(spread(&replica_counts(&brokers, &partitions)) <= bound);
        prop_assert!(spread(&leader_counts(&brokers, &partitions)) <= 1);
    }

    #[test]
    fn each_move_makes_it_more_even(
        old in 1..6usize, added in 1..4usize, partitions in 1..60usize, factor in 1..4usize, from in 0..40usize,
    ) {
        prop_assume!(factor <= old);
        let brokers = brokers(i32::try_from(old + added).unwrap());
        let placed = crate::plan_topic(&brokers[..old], partitions, factor).unwrap();
        let mut placed: Vec<Partition> = placed.iter().map(|replicas| partition(replicas)).collect();
        let plan = plan_rebalance(&brokers, &placed).unwrap();
        // In any order: the controller may carry out those first that are possible first.
        let mut moves = plan.moves;
        let turn = from % moves.len().max(1);
        moves.rotate_left(turn);
        let mut last = unevenness(&brokers, &placed);
        for planned in &moves {
            let copies = copies(&placed, std::slice::from_ref(planned));
            apply(&mut placed, std::slice::from_ref(planned));
            let now = unevenness(&brokers, &placed);
            prop_assert!(if copies > 0 { now < last } else { now == last }, "{:?}", planned);
            last = now;
        }
    }
}
