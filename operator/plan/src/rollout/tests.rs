//! Every row of the decision table in docs/rollout.md.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::observed::{Blocker, BlockerReason, ClusterFacts};
use crate::testing;

/// Three outdated brokers in three zones that serve; broker 0 is the active controller.
struct Scene {
    brokers: Vec<BrokerPod>,
    facts: Option<ClusterFacts>,
    answers: Answers,
    policy: Policy,
}

impl Scene {
    fn new() -> Self {
        let broker = |id| BrokerPod {
            id,
            zone: Some(["c", "b", "a"][usize::try_from(id).unwrap()].to_owned()),
            pod: PodState::Ready,
            taken_up: Some(testing::started_at()),
            ready_since: Some(testing::started_at()),
            outdated: true,
        };
        let safe = |id| (id, RestartVerdict::Safe);
        Self {
            brokers: (0..3).map(broker).collect(),
            facts: Some(testing::healthy(3)),
            answers: Answers {
                restarts: (0..3).map(safe).collect(),
                ..Answers::default()
            },
            policy: Policy {
                soak: Duration::from_secs(30),
                preferred_leaders_min_pct: 95,
                hold: Vec::new(),
            },
        }
    }

    fn outdated(mut self, ids: &[i32]) -> Self {
        for broker in &mut self.brokers {
            broker.outdated = ids.contains(&broker.id);
        }
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn pod(self, id: usize, pod: PodState) -> Self {
        self.with(|scene| scene.brokers[id].pod = pod)
    }

    fn facts(self, change: impl FnOnce(&mut ClusterFacts)) -> Self {
        self.with(|scene| change(scene.facts.as_mut().unwrap()))
    }

    fn state(self, id: i32, state: BrokerState) -> Self {
        self.facts(|facts| facts.brokers.get_mut(&id).unwrap().state = state)
    }

    fn silent(self) -> Self {
        self.with(|scene| scene.facts = None)
    }

    fn decide(&self) -> Rollout {
        let admin = match &self.facts {
            Some(facts) => Admin::Answered(facts.clone()),
            None => Admin::Unreachable("time-out".to_owned()),
        };
        decide(&Situation {
            brokers: &self.brokers,
            admin: &admin,
            answers: &self.answers,
            policy: &self.policy,
            now: testing::now(),
        })
    }

    #[track_caller]
    fn waits(&self, expected: WaitReason, text: &str) {
        match self.decide() {
            Rollout::Waiting(Wait { reason, message }) => {
                assert_eq!(reason, expected, "{message}");
                assert!(message.contains(text), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn replaces(&self, expected: i32) {
        match self.decide() {
            Rollout::Step(Step::Replace { id, .. }) => assert_eq!(id, expected),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn prepares(&self, expected: i32) {
        match self.decide() {
            Rollout::Step(Step::Prepare { id, incarnation }) => {
                assert_eq!(id, expected);
                assert_eq!(incarnation, format!("incarnation-of-{id}"));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn stuck() -> PodState {
    PodState::NotRunning("ImagePullBackOff".to_owned())
}

#[test]
fn nothing_outdated_is_up_to_date_whatever_is_missing() {
    let scene = Scene::new().outdated(&[]).pod(1, stuck()).silent();
    assert_eq!(scene.decide(), Rollout::UpToDate);
}

#[test]
fn each_broker_is_asked_about_prepared_and_replaced() {
    let scene = Scene::new().with(|scene| scene.answers.restarts.clear());
    assert_eq!(scene.decide(), Rollout::Ask(2), "the first zone first");
    Scene::new().prepares(2);
    Scene::new().state(2, BrokerState::Draining).replaces(2);
}

#[test]
fn the_active_controller_goes_last_after_another_has_taken_over() {
    Scene::new().outdated(&[0, 1]).prepares(1);
    let last = Scene::new().outdated(&[0]);
    let transfer = Step::TransferController { id: 0 };
    assert_eq!(last.decide(), Rollout::Step(transfer));
    last.facts(|facts| facts.controller_id = Some(1))
        .prepares(0);
    let only_voter = Scene::new().outdated(&[0]);
    only_voter.facts(|facts| facts.voters = vec![0]).prepares(0);
}

#[test]
fn brokers_that_do_not_vote_go_first() {
    let scene = Scene::new().facts(|facts| facts.voters = vec![0, 2]);
    scene.prepares(1);
}

#[test]
fn a_prepared_broker_goes_before_every_other() {
    let scene = Scene::new().state(1, BrokerState::Draining);
    scene.replaces(1);
    let blocked = scene.with(|scene| {
        let why = RestartVerdict::Unknown("time-out".to_owned());
        scene.answers.restarts.insert(1, why);
    });
    blocked.waits(WaitReason::AdminUnreachable, "broker 1 may stop: time-out");
}

#[test]
fn what_is_missing_or_unknown_is_waited_for() {
    use WaitReason::{
        AdminUnreachable, CatchingUp, PartitionsOffline, Recovering, Settling, Unscheduled,
    };
    let silent = "no active controller answers";
    Scene::new().silent().waits(AdminUnreachable, silent);
    let old_news = Scene::new().facts(|facts| facts.confirmed = false);
    old_news.waits(AdminUnreachable, silent);
    let leaderless = Scene::new().facts(|facts| facts.controller_id = None);
    leaderless.waits(AdminUnreachable, silent);

    let stopping = Scene::new().outdated(&[0]).pod(1, PodState::Terminating);
    stopping.waits(Settling, "broker 1 is stopping");
    let starting = Scene::new().pod(1, PodState::Starting);
    starting.waits(Recovering, "broker 1 is starting or recovering");
    let homeless = PodState::NotRunning("Unschedulable".to_owned());
    let homeless = Scene::new().outdated(&[0]).pod(1, homeless);
    homeless.waits(Unscheduled, "no node can take the pod of broker 1");
    let absent = Scene::new().outdated(&[0]).pod(1, PodState::Absent);
    absent.waits(Settling, "broker 1 has no pod");

    let unknown = Scene::new().facts(|facts| drop(facts.brokers.remove(&1)));
    unknown.waits(Settling, "broker 1 has not registered");
    let fenced = Scene::new().state(1, BrokerState::Fenced);
    fenced.waits(Recovering, "broker 1 does not serve");
    let behind = Scene::new().state(1, BrokerState::CatchingUp);
    behind.waits(CatchingUp, "replicas of broker 1 are in sync");
    let draining = Scene::new().outdated(&[0]).state(1, BrokerState::Draining);
    draining.waits(Settling, "broker 1 is giving its leaders away");
    let lagging = Scene::new().facts(|facts| facts.under_replicated_partitions = 4);
    lagging.waits(CatchingUp, "4 partitions are not fully in sync");
    let offline = Scene::new().facts(|facts| facts.offline_partitions = 1);
    offline.waits(PartitionsOffline, "1 partitions have no leader");
}

#[test]
fn news_of_the_process_before_do_not_count() {
    let later = testing::now();
    let scene = Scene::new().with(|scene| scene.brokers[1].taken_up = Some(later));
    scene.waits(WaitReason::Settling, "new process of broker 1");
}

#[test]
fn every_broker_soaks() {
    let a_moment_ago = testing::now()
        .checked_sub(SignedDuration::from_secs(29))
        .unwrap();
    let scene = Scene::new().with(|scene| scene.brokers[1].ready_since = Some(a_moment_ago));
    scene.waits(WaitReason::Soaking, "broker 1 has just become ready");
    let long_enough = scene.with(|scene| scene.policy.soak = Duration::from_secs(29));
    long_enough.prepares(2);
}

#[test]
fn leaders_go_back_before_the_next_restart() {
    let unbalanced = |led| {
        Scene::new().facts(|facts| {
            let broker = facts.brokers.get_mut(&1).unwrap();
            (broker.preferred, broker.preferred_led) = (100, led);
        })
    };
    let step = unbalanced(94).decide();
    let why = "broker 1 leads 94 of the 100 partitions that it should lead".to_owned();
    assert_eq!(step, Rollout::Step(Step::RestoreLeaders { why }));
    unbalanced(95).prepares(2);
    let any = unbalanced(0).with(|scene| scene.policy.preferred_leaders_min_pct = 0);
    any.prepares(2);
    unbalanced(0).state(1, BrokerState::Draining).replaces(1);
}

#[test]
fn a_no_of_the_controller_names_what_would_break() {
    let blocker = |partition| Blocker {
        partition: Some(("orders".to_owned(), partition)),
        reason: BlockerReason::BelowMinIsr,
    };
    let verdict = RestartVerdict::Unsafe {
        blockers: (0..9).map(blocker).collect(),
        total: 12,
    };
    let answers = Answers {
        restarts: BTreeMap::from([(2, verdict)]),
        ..Answers::default()
    };
    let scene = Scene::new().with(|scene| scene.answers = answers);
    scene.waits(
        WaitReason::Blocked,
        "orders-4 would fall below min.insync.replicas and 7 more; bring the missing brokers back",
    );
}

#[test]
fn held_brokers_stay_as_they_are() {
    let held = Scene::new().with(|scene| scene.policy.hold = vec![2]);
    held.prepares(1);
    let all = Scene::new().with(|scene| scene.policy.hold = vec![0, 1, 2]);
    all.waits(WaitReason::Held, "remove it there");
    let stopped = Scene::new().outdated(&[1]).pod(1, stuck());
    let stopped = stopped.with(|scene| scene.policy.hold = vec![1]);
    stopped.waits(WaitReason::Held, "remove it there");
}

#[test]
fn a_revision_that_does_not_start_stops_at_one_broker() {
    let failed = Scene::new().outdated(&[0, 1]).pod(2, stuck());
    failed.waits(WaitReason::CanaryFailed, "broker 2 does not start");
    let stopped = Scene::new().outdated(&[0, 1]).pod(2, stuck());
    let stopped = stopped.pod(1, PodState::Absent);
    stopped.waits(WaitReason::CanaryFailed, "ImagePullBackOff");
    let creating = PodState::NotRunning("ContainerCreating".to_owned());
    let creating = Scene::new().outdated(&[0, 1]).pod(2, creating);
    creating.waits(WaitReason::Settling, "ContainerCreating");
}

#[test]
fn what_does_not_run_is_repaired_even_without_a_quorum() {
    Scene::new().pod(1, stuck()).replaces(1);
    let never_started = Scene::new().silent();
    let never_started = never_started
        .pod(0, stuck())
        .pod(1, stuck())
        .pod(2, stuck());
    never_started.replaces(0);
    let first_starts = never_started.outdated(&[1, 2]).pod(0, PodState::Starting);
    first_starts.replaces(1);
}

#[test]
fn a_broker_that_stops_on_its_own_waits_while_the_first_of_a_revision_starts() {
    let scene = Scene::new().outdated(&[0, 1]);
    let scene = scene.pod(2, PodState::Starting).pod(1, PodState::Absent);
    scene.waits(WaitReason::Settling, "broker 1 has no pod");
}
