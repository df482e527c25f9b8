use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::PartitionIndex;

impl Cluster {
    pub(super) fn prepare_restart(&mut self, broker_id: i32, ttl_ms: u64) -> Response {
        let broker = self.image.brokers.get(&BrokerId(broker_id));
        let incarnation = broker.map_or_else(String::new, |broker| broker.incarnation.clone());
        self.submit(Command::PrepareRestart(PrepareRestart {
            broker_id,
            incarnation,
            ttl_ms,
        }))
    }

    pub(super) fn expire_restart_lease(&mut self, broker_id: i32) {
        let broker = self.image.brokers.get(&BrokerId(broker_id));
        if let Some(lease) = broker.and_then(|broker| broker.restart_lease) {
            self.submit(Command::ExpireRestartLease(lease));
        }
    }

    fn leader(&self, topic: &str) -> Option<i32> {
        let topic = self.image.topic_by_name(topic).unwrap();
        topic.partitions[0].leader.map(|leader| leader.0)
    }

    fn isr(&self, topic: &str) -> Vec<i32> {
        let topic = self.image.topic_by_name(topic).unwrap();
        let isr = topic.partitions[0].isr.iter();
        isr.map(|member| member.0).collect()
    }
}

fn brokers(ids: &[i32]) -> BTreeSet<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn check(image: &Image, stopping: &[i32], voters: &[i32], doubtful: &[i32]) -> RestartVerdict {
    let voters: Vec<_> = voters.iter().copied().map(BrokerId).collect();
    check_restart(
        image,
        &RestartCheck {
            brokers: &brokers(stopping),
            voters: &voters,
            doubtful: &brokers(doubtful),
            min_insync_replicas_default: 1,
        },
    )
}

fn reasons<R: Copy>(findings: &Findings<R>) -> Vec<R> {
    findings
        .named
        .iter()
        .map(|finding| finding.reason)
        .collect()
}

/// A topic on brokers 1 and up with this many replicas, `min.insync.replicas` and ISR.
fn one_topic(replicas: i32, min_insync: u32, isr: &[i32]) -> Cluster {
    let mut cluster = Cluster::with_brokers(4);
    let replicas: Vec<i32> = (1..=replicas).collect();
    let min_insync = min_insync.to_string();
    cluster.create("t", &replicas, &[("min.insync.replicas", &min_insync)]);
    cluster.alter_isr("t", isr);
    assert_eq!(cluster.isr("t"), isr);
    cluster
}

#[test]
fn verdicts_name_what_would_be_missing() {
    use RestartBlocker::{BelowMinIsr, NotCaughtUp, Unavailable};
    type Case<'a> = (
        &'a str,
        Cluster,
        &'a [i32],
        &'a [i32],
        Option<RestartBlocker>,
    );
    let mut other_leased = one_topic(3, 2, &[1, 2, 3]);
    other_leased.prepare_restart(2, 1000);
    let mut other_drains = one_topic(3, 2, &[1, 2, 3]);
    other_drains.submit(Command::DrainBroker(other_drains.broker(3)));
    let mut dead = one_topic(3, 2, &[1, 2, 3]);
    dead.submit(Command::FenceBroker(dead.broker(2)));
    let cases: [Case<'_>; 13] = [
        ("all in sync", one_topic(3, 2, &[1, 2, 3]), &[1], &[], None),
        ("elsewhere", one_topic(3, 2, &[1, 2, 3]), &[4], &[], None),
        (
            "two",
            one_topic(3, 2, &[1, 2, 3]),
            &[1, 2],
            &[],
            Some(BelowMinIsr),
        ),
        (
            "all",
            one_topic(3, 2, &[1, 2, 3]),
            &[1, 2, 3],
            &[],
            Some(Unavailable),
        ),
        (
            "two of one needed",
            one_topic(3, 1, &[1, 2, 3]),
            &[1, 2],
            &[],
            None,
        ),
        (
            "one catches up",
            one_topic(3, 2, &[1, 2]),
            &[1],
            &[],
            Some(NotCaughtUp),
        ),
        (
            "itself catches up",
            one_topic(3, 2, &[1, 2]),
            &[3],
            &[],
            None,
        ),
        (
            "alone in sync",
            one_topic(2, 1, &[1]),
            &[1],
            &[],
            Some(NotCaughtUp),
        ),
        (
            "silent",
            one_topic(3, 2, &[1, 2, 3]),
            &[1],
            &[3],
            Some(BelowMinIsr),
        ),
        (
            "another restarts",
            other_leased,
            &[1],
            &[],
            Some(BelowMinIsr),
        ),
        ("another stops", other_drains, &[1], &[], Some(BelowMinIsr)),
        (
            "another is dead",
            dead.clone(),
            &[1],
            &[],
            Some(BelowMinIsr),
        ),
        ("itself is dead", dead, &[2], &[], None),
    ];
    for (name, cluster, stopping, doubtful, expected) in cases {
        let verdict = check(&cluster.image, stopping, &[], doubtful);
        let found = reasons(&verdict.blockers);
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(verdict.is_safe(), expected.is_none(), "{name}");
        assert_eq!(verdict.accepted.total, 0, "{name}");
        if let Some(finding) = verdict.blockers.named.first() {
            let expected = Some(("t".into(), PartitionIndex(0)));
            assert_eq!(finding.partition, expected, "{name}");
        }
    }
}

#[test]
fn what_no_order_of_restarts_avoids_is_accepted() {
    use AcceptedRisk::{MinIsrNeedsEveryReplica, SingleReplica};
    for (replicas, min_insync, risk) in [
        (1, 1, SingleReplica),
        (1, 2, SingleReplica),
        (2, 2, MinIsrNeedsEveryReplica),
        (2, 3, MinIsrNeedsEveryReplica),
        (3, 3, MinIsrNeedsEveryReplica),
    ] {
        let all: Vec<i32> = (1..=replicas).collect();
        let cluster = one_topic(replicas, min_insync, &all);
        let verdict = check(&cluster.image, &[1], &[], &[]);
        assert!(verdict.is_safe(), "{replicas} {min_insync}");
        assert_eq!(reasons(&verdict.accepted), [risk]);
    }
    let one_behind = one_topic(3, 3, &[1, 2]);
    let verdict = check(&one_behind.image, &[1], &[], &[]);
    assert_eq!(reasons(&verdict.blockers), [RestartBlocker::NotCaughtUp]);
    let two_stop = check(&one_topic(3, 3, &[1, 2, 3]).image, &[1, 2], &[], &[]);
    assert_eq!(reasons(&two_stop.blockers), [RestartBlocker::BelowMinIsr]);
}

#[test]
fn the_quorum_keeps_its_majority() {
    let mut image = Cluster::with_brokers(5).image;
    let loses = |image: &Image, stopping: &[i32], voters: &[i32], doubtful: &[i32]| {
        let verdict = check(image, stopping, voters, doubtful);
        let named = &verdict.blockers.named;
        assert!(named.iter().all(|finding| finding.partition.is_none()));
        reasons(&verdict.blockers) == [RestartBlocker::QuorumLoss]
    };
    assert!(!loses(&image, &[1], &[1, 2, 3], &[]));
    assert!(loses(&image, &[1, 2], &[1, 2, 3], &[]));
    assert!(!loses(&image, &[1, 2], &[1, 2, 3, 4, 5], &[]));
    assert!(loses(&image, &[1], &[1, 2, 3], &[3]));
    assert!(!loses(&image, &[4], &[1, 2, 3], &[3]));
    assert!(loses(&image, &[1, 2], &[1, 2], &[]));
    image.brokers.remove(&BrokerId(2));
    assert!(loses(&image, &[1], &[1, 2, 3], &[]));

    let image = Cluster::with_brokers(2).image;
    for voters in [&[1][..], &[1, 2]] {
        let verdict = check(&image, &[1], voters, &[]);
        assert!(verdict.is_safe());
        let risk = [AcceptedRisk::QuorumNeedsEveryVoter];
        assert_eq!(reasons(&verdict.accepted), risk);
    }
    assert!(loses(&image, &[1], &[1, 2], &[2]));
}

#[test]
fn a_verdict_names_some_findings_and_counts_all() {
    let mut cluster = Cluster::with_brokers(2);
    let topics = vec![new_topic("many", 250, 1)];
    cluster.submit(Command::CreateTopics(CreateTopics {
        topics,
        validate_only: false,
    }));
    let verdict = check(&cluster.image, &[1], &[], &[]);
    assert_eq!(verdict.accepted.named.len(), FINDINGS_MAX);
    assert_eq!(verdict.accepted.total, 250);
}

fn prepared(response: Response) -> (u32, u32) {
    match response {
        Response::PrepareRestart(prepared) => (prepared.leaders_left, prepared.leaders_kept),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prepared_broker_stays_in_sync_and_leads_only_what_nobody_else_can() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("shared", &[1, 2, 3], &[]);
    cluster.create("single", &[1], &[]);
    cluster.create("behind", &[1, 2], &[]);
    cluster.alter_isr("behind", &[1]);
    assert_eq!(prepared(cluster.prepare_restart(1, 1000)), (1, 1));
    assert_eq!(cluster.leader("shared"), Some(2));
    assert_eq!(cluster.isr("shared"), [1, 2, 3]);
    assert_eq!(cluster.leader("single"), Some(1));
    assert_eq!(cluster.leader("behind"), Some(1));
    assert_eq!(plan_preferred_elections(&cluster.image), None);

    cluster.alter_isr("behind", &[1, 2]);
    assert_eq!(cluster.leader("behind"), Some(2), "as soon as it can");
    assert_eq!(prepared(cluster.prepare_restart(1, 1000)), (0, 1));
    cluster.submit(Command::FenceBroker(cluster.broker(2)));
    cluster.submit(Command::FenceBroker(cluster.broker(3)));
    assert_eq!(cluster.leader("shared"), Some(1), "nobody else is left");
}

#[test]
fn a_lease_that_expires_gives_the_leaders_back() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.prepare_restart(1, 1000);
    let first = cluster.image.brokers[&BrokerId(1)].restart_lease.unwrap();
    cluster.prepare_restart(1, 1000);
    cluster.submit(Command::ExpireRestartLease(first));
    assert_eq!(cluster.leader("t"), Some(2), "it was renewed");
    cluster.expire_restart_lease(1);
    assert_eq!(cluster.leader("t"), Some(1));

    cluster.prepare_restart(1, 1000);
    cluster.prepare_restart(1, 0);
    assert_eq!(cluster.leader("t"), Some(1), "it was taken back");
}

#[test]
fn a_lease_belongs_to_one_registration() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.prepare_restart(1, 1000);
    let lease = cluster.image.brokers[&BrokerId(1)].restart_lease.unwrap();
    let incarnation = cluster.image.brokers[&BrokerId(1)].incarnation.clone();
    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    cluster.register(1, NO_LAST_RUN);
    assert_eq!(cluster.image.brokers[&BrokerId(1)].restart_lease, None);
    cluster.submit(Command::ExpireRestartLease(lease));

    let prepare = |broker_id, incarnation: &str, ttl_ms| {
        let incarnation = incarnation.to_string();
        Command::PrepareRestart(PrepareRestart {
            broker_id,
            incarnation,
            ttl_ms,
        })
    };
    let current = cluster.image.brokers[&BrokerId(1)].incarnation.clone();
    for (command, expected) in [
        (
            prepare(1, &incarnation, 1),
            CommandError::PreconditionFailed,
        ),
        (prepare(9, &current, 1), CommandError::UnknownBroker),
        (
            prepare(1, &current, RESTART_LEASE_TTL_MS_MAX + 1),
            CommandError::InvalidRequest,
        ),
    ] {
        assert_eq!(failure(&cluster.submit(command)), Some(expected));
    }
}

#[test]
fn a_broker_is_unregistered_only_in_the_incarnation_that_was_meant() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.submit(Command::FenceBroker(cluster.broker(1)));
    let incarnation = cluster.image.brokers[&BrokerId(1)].incarnation.clone();
    let unregister = |incarnation: &str| {
        Command::UnregisterBroker(UnregisterBroker {
            broker_id: 1,
            expected_incarnation: Some(incarnation.to_string()),
        })
    };
    let refused = cluster.submit(unregister("another"));
    assert_eq!(failure(&refused), Some(CommandError::PreconditionFailed));
    assert_eq!(failure(&cluster.submit(unregister(&incarnation))), None);
    assert!(cluster.image.brokers.is_empty());
}

const BROKERS: i32 = 5;

#[derive(Clone, Debug)]
struct Topic {
    replicas: Vec<i32>,
    isr: Vec<i32>,
    min_insync: u32,
}

fn topic() -> impl Strategy<Value = Topic> {
    let ids: Vec<i32> = (1..=BROKERS).collect();
    let replicas = prop::sample::subsequence(ids, 1..=4).prop_shuffle();
    replicas.prop_flat_map(|replicas| {
        let count = replicas.len();
        let isr = prop::sample::subsequence(replicas.clone(), 1..=count);
        (Just(replicas), isr, 1..4u32).prop_map(|(replicas, isr, min_insync)| Topic {
            replicas,
            isr,
            min_insync,
        })
    })
}

proptest! {
    #[test]
    fn after_a_safe_verdict_the_brokers_can_really_be_stopped(
        topics in prop::collection::vec(topic(), 1..6),
        fenced in prop::collection::btree_set(1..=BROKERS, 0..2),
        leased in prop::option::of(1..=BROKERS),
        stopping in prop::collection::btree_set(1..=BROKERS, 1..3),
        doubtful in prop::collection::btree_set(1..=BROKERS, 0..2),
        voters in 1..=BROKERS,
    ) {
        let mut cluster = Cluster::with_brokers(BROKERS);
        for (number, topic) in topics.iter().enumerate() {
            let (name, min) = (alloc::format!("t{number}"), topic.min_insync.to_string());
            cluster.create(&name, &topic.replicas, &[("min.insync.replicas", &min)]);
            let mut isr = topic.isr.clone();
            let first = topic.replicas[0];
            if !isr.contains(&first) {
                isr.push(first);
            }
            cluster.alter_isr(&name, &isr);
        }
        for id in &fenced {
            cluster.submit(Command::FenceBroker(cluster.broker(*id)));
        }
        if let Some(id) = leased {
            cluster.prepare_restart(id, 1000);
        }
        let list = |ids: &BTreeSet<i32>| ids.iter().copied().collect::<Vec<_>>();
        let voters: Vec<i32> = (1..=voters).collect();
        let verdict = check(&cluster.image, &list(&stopping), &voters, &list(&doubtful));
        prop_assume!(verdict.is_safe());

        let isr_before: BTreeMap<TopicId, Vec<BrokerId>> = cluster.image.topics.iter()
            .map(|(id, topic)| (*id, topic.partitions[0].isr.clone()))
            .collect();
        for id in stopping.iter().chain(&doubtful).chain(&leased) {
            cluster.submit(Command::FenceBroker(cluster.broker(*id)));
        }
        for topic in cluster.image.topics.values() {
            if !isr_before[&topic.id].iter().any(|id| stopping.contains(&id.0)) {
                continue;
            }
            let of_topic = |finding: &&Finding<AcceptedRisk>| {
                finding.partition.as_ref().is_some_and(|(name, _)| *name == topic.name)
            };
            let risk = verdict.accepted.named.iter().find(of_topic).map(|finding| finding.reason);
            let state = &topic.partitions[0];
            let min = cluster.image.min_insync_replicas(topic, 1).min(state.replicas.len());
            let has_leader = state.leader.is_some();
            match risk {
                None => prop_assert!(has_leader && state.isr.len() >= min, "{:?}", topic),
                Some(AcceptedRisk::SingleReplica) => prop_assert_eq!(state.replicas.len(), 1),
                Some(_) => prop_assert!(has_leader && min == state.replicas.len(), "{:?}", topic),
            }
        }
        let quorum_risk = verdict.accepted.named.iter().any(|finding| finding.partition.is_none());
        if voters.iter().any(|id| stopping.contains(id)) && !quorum_risk {
            let alive = voters.iter().filter(|id| cluster.image.is_active(BrokerId(**id)));
            prop_assert!(alive.count() > voters.len() / 2);
        }
    }
}
