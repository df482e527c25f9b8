use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn broker(id: i32, rack: Option<&str>) -> Broker {
    Broker {
        id,
        rack: rack.map(str::to_owned),
        replicas: 0,
        leaders: 0,
        available: true,
    }
}

fn brokers(count: i32) -> Vec<Broker> {
    (0..count).map(|id| broker(id, None)).collect()
}

/// Replicas and leaders of each available broker.
fn counts(brokers: &[Broker], plan: &[Vec<i32>]) -> BTreeMap<i32, (usize, usize)> {
    let available = brokers.iter().filter(|broker| broker.available);
    let mut counts: BTreeMap<i32, (usize, usize)> =
        available.map(|broker| (broker.id, (0, 0))).collect();
    for replicas in plan {
        for id in replicas {
            counts
                .get_mut(id)
                .expect("only available brokers get replicas")
                .0 += 1;
        }
        counts
            .get_mut(&replicas[0])
            .expect("leaders are replicas")
            .1 += 1;
    }
    counts
}

fn spread(values: impl Iterator<Item = usize> + Clone) -> usize {
    values.clone().max().unwrap_or(0) - values.min().unwrap_or(0)
}

fn racks_of<'a>(brokers: &'a [Broker], replicas: &[i32]) -> BTreeSet<Option<&'a str>> {
    let hosts = brokers
        .iter()
        .filter(|broker| replicas.contains(&broker.id));
    hosts.map(|broker| broker.rack.as_deref()).collect()
}

#[test]
fn fewer_partitions_than_brokers_use_one_broker_each() {
    let plan = plan_topic(&brokers(5), 3, 1).unwrap();
    assert_eq!(plan, [[0], [1], [2]]);
}

#[test]
fn companions_differ_between_partitions() {
    let plan = plan_topic(&brokers(4), 6, 2).unwrap();
    let pairs: BTreeSet<BTreeSet<i32>> = plan
        .iter()
        .map(|replicas| replicas.iter().copied().collect())
        .collect();
    assert_eq!(pairs.len(), 6, "{plan:?}");
}

#[test]
fn small_topics_go_where_there_is_less() {
    let mut brokers = brokers(3);
    brokers[0].replicas = 4;
    brokers[0].leaders = 4;
    brokers[1].replicas = 1;
    brokers[1].leaders = 1;
    assert_eq!(plan_topic(&brokers, 1, 2).unwrap(), [[2, 1]]);
}

#[test]
fn many_small_topics_are_even_together() {
    let mut brokers = brokers(5);
    for _ in 0..50 {
        let plan = plan_topic(&brokers, 1, 3).unwrap();
        for id in &plan[0] {
            brokers[usize::try_from(*id).unwrap()].replicas += 1;
        }
        brokers[usize::try_from(plan[0][0]).unwrap()].leaders += 1;
    }
    assert!(
        brokers.iter().all(|broker| broker.replicas == 30),
        "{brokers:?}"
    );
    assert!(
        brokers
            .iter()
            .all(|broker| (9..=11).contains(&broker.leaders)),
        "{brokers:?}"
    );
}

#[test]
fn added_partitions_fill_the_gaps() {
    let existing = vec![vec![0, 1], vec![1, 0]];
    let plan = plan_added_partitions(&brokers(4), &existing, 2, 2).unwrap();
    assert!(
        plan.iter()
            .all(|replicas| replicas.iter().all(|id| *id >= 2)),
        "{plan:?}"
    );
    let leaders: BTreeSet<i32> = plan.iter().map(|replicas| replicas[0]).collect();
    assert_eq!(leaders, BTreeSet::from([2, 3]));
}

#[test]
fn refusals_say_why() {
    let mut three = brokers(3);
    three[1].available = false;
    assert_eq!(
        plan_topic(&three, 1, 3),
        Err(PlacementError::NotEnoughBrokers {
            replication_factor: 3,
            available: 2
        })
    );
    assert_eq!(plan_topic(&three, 1, 0), Err(PlacementError::NoReplicas));
    three[2].id = 0;
    assert_eq!(
        plan_topic(&three, 1, 1),
        Err(PlacementError::DuplicateBroker(0))
    );
}

#[test]
fn a_moved_replica_keeps_racks_apart_and_goes_where_there_is_less() {
    let mut brokers: Vec<Broker> = [(0, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "c")]
        .map(|(id, rack)| broker(id, Some(rack)))
        .to_vec();
    let moved = |brokers: &[Broker], topic: &[Vec<i32>], kept: &[i32]| {
        plan_moved_replica(brokers, topic, kept)
    };
    assert_eq!(
        moved(&brokers, &[], &[0, 2]),
        Ok(4),
        "the rack without replica"
    );
    brokers[4].available = false;
    assert_eq!(moved(&brokers, &[], &[0]), Ok(2));
    assert_eq!(
        moved(&brokers, &[vec![2, 0]], &[0]),
        Ok(3),
        "less of the topic"
    );
    brokers[2].replicas = 1;
    assert_eq!(moved(&brokers, &[], &[0]), Ok(3), "less of all");
    brokers[0].available = false;
    assert_eq!(
        moved(&brokers, &[], &[0]),
        Ok(3),
        "the rack of a cordoned broker counts"
    );
    assert_eq!(
        moved(&brokers, &[], &[0, 1, 2, 3]),
        Err(PlacementError::NotEnoughBrokers {
            replication_factor: 5,
            available: 3
        })
    );
}

fn any_brokers() -> impl Strategy<Value = Vec<Broker>> {
    let rack = prop_oneof![
        Just(None),
        (0..4u8).prop_map(|rack| Some(format!("rack-{rack}")))
    ];
    let broker = (rack, 0..20u32, 0..10u32, prop::bool::weighted(0.9));
    prop::collection::vec(broker, 1..12).prop_map(|brokers| {
        let ids = (0..).step_by(3);
        ids.zip(brokers)
            .map(|(id, (rack, replicas, leaders, available))| Broker {
                id,
                rack,
                replicas,
                leaders,
                available,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn replicas_are_distinct_and_on_as_many_racks_as_there_are(
        brokers in any_brokers(), partitions in 0..40usize, replication_factor in 1..6usize,
    ) {
        let available: Vec<Broker> =
            brokers.iter().filter(|broker| broker.available).cloned().collect();
        let plan = plan_topic(&brokers, partitions, replication_factor);
        if available.len() < replication_factor {
            prop_assert!(plan.is_err());
            return Ok(());
        }
        let plan = plan.unwrap();
        prop_assert_eq!(plan.len(), partitions);
        let all: Vec<i32> = available.iter().map(|broker| broker.id).collect();
        let racks = racks_of(&available, &all).len();
        for replicas in &plan {
            prop_assert_eq!(replicas.len(), replication_factor);
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replication_factor);
            prop_assert!(replicas.iter().all(|id| all.contains(id)));
            prop_assert_eq!(racks_of(&available, replicas).len(), racks.min(replication_factor));
        }
        prop_assert_eq!(&plan, &plan_topic(&brokers, partitions, replication_factor).unwrap());
        let mut reversed = brokers;
        reversed.reverse();
        prop_assert_eq!(plan, plan_topic(&reversed, partitions, replication_factor).unwrap());
    }

    #[test]
    fn replicas_and_leaders_are_even_over_equal_racks(
        racks in 1..5usize, rack_size in 1..5usize, partitions in 0..60usize,
        replication_factor in 1..5usize, loads in prop::collection::vec((0..20u32, 0..9u32), 16),
    ) {
        prop_assume!(replication_factor <= racks || racks == 1 && replication_factor <= rack_size);
        let brokers: Vec<Broker> = (0..racks * rack_size)
            .map(|index| Broker {
                id: i32::try_from(index).unwrap(),
                rack: Some(format!("rack-{}", index % racks)),
                replicas: loads[index].0,
                leaders: loads[index].1,
                available: true,
            })
            .collect();
        let plan = plan_topic(&brokers, partitions, replication_factor).unwrap();
        let counts = counts(&brokers, &plan);
        prop_assert!(spread(counts.values().map(|(replicas, _)| *replicas)) <= 1, "{:?}", counts);
        prop_assert!(spread(counts.values().map(|(_, leaders)| *leaders)) <= 1, "{:?}", counts);
    }

    #[test]
    fn added_partitions_leave_the_topic_as_even_as_if_made_at_once(
        count in 1..8i32, first in 0..20usize, added in 0..20usize, replication_factor in 1..4usize,
    ) {
        let brokers = brokers(count);
        prop_assume!(replication_factor <= brokers.len());
        let mut plan = plan_topic(&brokers, first, replication_factor).unwrap();
        plan.extend(plan_added_partitions(&brokers, &plan, added, replication_factor).unwrap());
        let counts = counts(&brokers, &plan);
        prop_assert!(spread(counts.values().map(|(replicas, _)| *replicas)) <= 1, "{:?}", counts);
        prop_assert!(spread(counts.values().map(|(_, leaders)| *leaders)) <= 2, "{:?}", counts);
    }
}
