//! Scaling by table.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::observed::BrokerFacts;
use crate::testing;

const STALL_TIMEOUT: Duration = Duration::from_secs(600);

fn brokers(count: i32) -> Vec<Broker> {
    let broker = |id| Broker {
        id,
        pool: "main".to_owned(),
        ..Broker::default()
    };
    (0..count).map(broker).collect()
}

/// Brokers, of which some leave, in one zone.
struct Scene {
    count: i32,
    facts: ClusterFacts,
    quorum: QuorumFacts,
    leaving: BTreeSet<i32>,
    voters: usize,
    drains: BTreeMap<i32, DrainProgress>,
    joining: Vec<i32>,
    rebalance: RebalanceMode,
    rebalance_progress: Option<RebalanceProgress>,
}

impl Scene {
    /// All of them serve, and the first three vote.
    fn new(count: i32, leaving: &[i32]) -> Self {
        let facts = testing::healthy(count);
        Self {
            count,
            quorum: testing::quorum(&facts.voters),
            facts,
            leaving: leaving.iter().copied().collect(),
            voters: 3,
            drains: BTreeMap::new(),
            joining: Vec::new(),
            rebalance: RebalanceMode::OnScaleUp,
            rebalance_progress: None,
        }
    }

    fn broker(&mut self, id: i32) -> &mut BrokerFacts {
        self.facts.brokers.get_mut(&id).unwrap()
    }

    fn vote(&mut self, voters: &[i32]) {
        self.facts.voters = voters.to_vec();
        self.quorum = testing::quorum(voters);
    }

    fn fail(&mut self, id: i32) {
        self.broker(id).state = BrokerState::Fenced;
        let mut voters = self.quorum.voters.iter_mut();
        if let Some(voter) = voters.find(|voter| voter.id == id) {
            voter.reachable = false;
        }
    }

    /// It serves again, with an empty disk.
    fn lose_disk(&mut self, id: i32) {
        self.fail(id);
        self.broker(id).state = BrokerState::Serving;
        self.quorum.observers.insert(id, "another".to_owned());
    }

    fn decided_with(&self, quorum: Option<&QuorumFacts>) -> Scale {
        let mut brokers = brokers(self.count);
        for broker in &mut brokers {
            broker.joining = self.joining.contains(&broker.id);
        }
        let process = Process {
            stateful_set: true,
            pod: true,
            runs: true,
        };
        decide(&Situation {
            brokers: &brokers,
            leaving: &self.leaving,
            processes: &brokers.iter().map(|broker| (broker.id, process)).collect(),
            admin: &Admin::Answered(self.facts.clone()),
            quorum,
            drains: &self.drains,
            rebalance: self.rebalance,
            rebalance_progress: self.rebalance_progress.as_ref(),
            voters_recorded: &self.facts.voters,
            voters: self.voters,
            drain_stall_timeout: STALL_TIMEOUT,
            now: testing::now(),
        })
    }

    fn decided(&self) -> Scale {
        self.decided_with(Some(&self.quorum))
    }

    fn waits_for(&self, reason: Reason, told: &str) {
        match self.decided() {
            Scale::Waiting {
                reason: of,
                message,
            } => {
                assert_eq!(of, reason, "{message}");
                assert!(message.contains(told), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn removal(id: i32) -> Scale {
    Scale::Step(Step::RemoveVoter {
        id,
        directory: testing::member(id).directory,
    })
}

/// It may be registered, and get replicas, before its process ends.
#[test]
fn a_broker_that_starts_is_not_removed_before_the_controller_knows_it() {
    let mut scene = Scene::new(4, &[3]);
    let arriving = scene.facts.brokers.remove(&3).unwrap();
    scene.waits_for(Reason::Draining, "broker 3 is starting");
    scene.facts.brokers.insert(3, arriving);
    assert_eq!(scene.decided(), Scale::Step(Step::Cordon(3)));
}

#[test]
fn the_steps_of_a_removal_come_in_order() {
    let mut scene = Scene::new(4, &[2]);
    scene.broker(2).replicas = 7;
    assert_eq!(scene.decided(), Scale::Step(Step::Cordon(2)));
    scene.broker(2).cordoned = true;
    assert_eq!(scene.decided(), Scale::Step(Step::AddVoter(3)));
    scene.vote(&[0, 1, 2, 3]);
    assert_eq!(scene.decided(), removal(2));
    scene.vote(&[0, 1, 3]);
    assert_eq!(scene.decided(), Scale::Step(Step::Drain(2)));
    scene.broker(2).drain = true;
    assert_eq!(scene.decided(), Scale::Ask(2));
    scene.broker(2).replicas = 0;
    assert_eq!(scene.decided(), Scale::Step(Step::Stop(2)));
}

#[test]
fn none_is_emptied_before_all_that_leave_are_cordoned() {
    let mut scene = Scene::new(6, &[4, 5]);
    scene.broker(4).cordoned = true;
    assert_eq!(scene.decided(), Scale::Step(Step::Cordon(5)));
    scene.broker(5).cordoned = true;
    assert_eq!(scene.decided(), Scale::Step(Step::Drain(4)));
}

#[test]
fn a_voter_stays_until_another_can_take_its_place() {
    let mut scene = Scene::new(4, &[2]);
    scene.broker(2).cordoned = true;
    scene.fail(3);
    scene.waits_for(
        Reason::VoterChange,
        "broker 2 votes until another one serves",
    );
}

#[test]
fn a_voter_that_is_down_keeps_its_place() {
    let mut scene = Scene::new(4, &[]);
    scene.fail(1);
    assert_eq!(scene.decided(), Scale::Settled);
}

#[test]
fn the_active_controller_is_the_last_to_lose_its_vote() {
    let mut scene = Scene::new(4, &[]);
    scene.voters = 1;
    assert_eq!(scene.decided(), removal(1));
}

#[test]
fn of_fewer_voters_those_that_answer_stay() {
    let mut scene = Scene::new(5, &[]);
    scene.vote(&[0, 1, 2, 3, 4]);
    scene.facts.controller_id = Some(4);
    scene.fail(0);
    scene.fail(1);
    assert_eq!(scene.decided(), removal(0));
}

#[test]
fn no_voter_goes_without_whom_too_few_would_answer() {
    let mut scene = Scene::new(4, &[2]);
    scene.broker(2).cordoned = true;
    scene.vote(&[0, 1, 2, 3]);
    scene.fail(1);
    assert_eq!(scene.decided(), removal(2), "two of three are left");
    scene.fail(3);
    scene.waits_for(Reason::VoterChange, "broker 2 votes until a majority");
}

#[test]
fn no_voter_changes_while_nobody_tells_how_far_they_are() {
    let mut scene = Scene::new(4, &[]);
    assert_eq!(scene.decided_with(None), Scale::Settled);
    scene.voters = 1;
    let decided = scene.decided_with(None);
    let Scale::Waiting { reason, .. } = decided else {
        panic!("{decided:?}");
    };
    assert_eq!(reason, Reason::AdminUnreachable);
}

#[test]
fn a_vote_whose_disk_is_lost_is_given_up_and_given_again() {
    let mut scene = Scene::new(3, &[]);
    scene.lose_disk(1);
    assert_eq!(scene.decided(), removal(1));
    scene.fail(2);
    scene.waits_for(Reason::VoterChange, "broker 1 has lost the disk");
    let mut scene = Scene::new(3, &[]);
    scene.vote(&[0, 2]);
    scene.quorum.observers.insert(1, "another".to_owned());
    assert_eq!(scene.decided(), Scale::Step(Step::AddVoter(1)));
}

#[test]
fn a_learner_that_another_was_chosen_over_is_a_member_no_longer() {
    let mut scene = Scene::new(4, &[]);
    scene.quorum.learners.push(testing::member(3));
    assert_eq!(scene.decided(), removal(3));
}

#[test]
fn it_is_told_how_far_a_broker_is_emptied_and_what_keeps_it() {
    let mut scene = Scene::new(6, &[4, 5]);
    for id in [4, 5] {
        let broker = scene.broker(id);
        (broker.cordoned, broker.drain, broker.replicas) = (true, true, 7);
    }
    let progress = |seconds: i64, blocked: Option<&str>| DrainProgress::Known {
        bytes_left: Some(30 << 30),
        last_progress_at: testing::now()
            .checked_sub(SignedDuration::from_secs(seconds))
            .ok(),
        blocked: blocked.map(str::to_owned),
    };
    scene.drains.insert(4, progress(599, None));
    assert_eq!(scene.decided(), Scale::Ask(5));
    scene.drains.insert(5, progress(0, None));
    scene.waits_for(
        Reason::Draining,
        "7 replicas of broker 5 are left, 30 GiB, and move",
    );
    scene
        .drains
        .insert(5, progress(599, Some("orders-3: nowhere")));
    scene.waits_for(Reason::DrainBlocked, "some cannot move: orders-3: nowhere");
    scene.drains.insert(4, progress(600, None));
    scene.waits_for(
        Reason::DrainStalled,
        "broker 4 are left, 30 GiB, and none has left since",
    );
    scene
        .drains
        .insert(4, DrainProgress::Unknown("timed out".to_owned()));
    scene.waits_for(Reason::AdminUnreachable, "timed out");
}

fn moving(left: u32, moving: u32, paused: Option<&str>) -> Option<RebalanceProgress> {
    Some(RebalanceProgress::Known {
        partitions_left: left,
        partitions_moving: moving,
        last_progress_at: None,
        paused: paused.map(str::to_owned),
    })
}

#[test]
fn a_broker_that_was_added_gets_its_share_once_it_serves() {
    let mut scene = Scene::new(4, &[]);
    scene.joining = vec![3];
    scene.fail(3);
    assert_eq!(scene.decided(), Scale::Settled, "it does not serve yet");
    scene.broker(3).state = BrokerState::Serving;
    assert_eq!(scene.decided(), Scale::AskRebalance);
    scene.rebalance_progress = moving(7, 0, None);
    assert_eq!(scene.decided(), Scale::Step(Step::StartRebalance));
    scene.facts.rebalancing = true;
    scene.rebalance_progress = moving(7, 2, None);
    scene.waits_for(Reason::Rebalancing, "7 partitions move until every broker");
    scene.rebalance_progress = moving(7, 0, Some("broker 1 is not alive"));
    scene.waits_for(Reason::RebalancePaused, "wait: broker 1 is not alive");
    scene.rebalance_progress = Some(RebalanceProgress::Unknown("timed out".to_owned()));
    scene.waits_for(Reason::AdminUnreachable, "timed out");
    scene.facts.rebalancing = false;
    scene.rebalance_progress = moving(0, 0, None);
    assert_eq!(scene.decided(), Scale::Settled);
}

#[test]
fn replicas_move_when_the_mode_says_so() {
    let mut scene = Scene::new(4, &[]);
    scene.rebalance_progress = moving(7, 0, None);
    assert_eq!(scene.decided(), Scale::Settled, "nobody was added");
    scene.rebalance = RebalanceMode::Automatic;
    assert_eq!(scene.decided(), Scale::Step(Step::StartRebalance));
    scene.rebalance = RebalanceMode::Disabled;
    scene.joining = vec![3];
    assert_eq!(scene.decided(), Scale::Settled);
    scene.facts.rebalancing = true;
    assert_eq!(scene.decided(), Scale::Step(Step::CancelRebalance));
}

#[test]
fn a_rebalance_is_broken_off_before_brokers_leave() {
    let mut scene = Scene::new(5, &[4]);
    scene.joining = vec![3];
    scene.facts.rebalancing = true;
    scene.rebalance_progress = moving(7, 2, None);
    assert_eq!(scene.decided(), Scale::Step(Step::CancelRebalance));
    scene.facts.rebalancing = false;
    assert_eq!(scene.decided(), Scale::Step(Step::Cordon(4)));
}

#[test]
fn a_broker_has_joined_when_it_serves_and_nothing_is_left_to_move() {
    let broker = Broker {
        id: 3,
        joining: true,
        ..Broker::default()
    };
    let mut scene = Scene::new(4, &[]);
    let joined = |scene: &Scene, progress: Option<RebalanceProgress>| {
        let admin = Admin::Answered(scene.facts.clone());
        has_share(&broker, &admin, progress.as_ref())
    };
    assert!(joined(&scene, moving(0, 0, None)));
    assert!(!joined(&scene, moving(1, 0, None)));
    assert!(!joined(&scene, None));
    let down = moving(0, 0, Some("broker 1 is not alive"));
    assert!(!joined(&scene, down), "what is on it is not counted");
    scene.facts.rebalancing = true;
    assert!(!joined(&scene, moving(0, 0, None)), "it is just beginning");
    scene.facts.rebalancing = false;
    scene.fail(3);
    assert!(!joined(&scene, moving(0, 0, None)));
}

#[test]
fn those_named_go_first_then_those_with_the_highest_ids() {
    let mut pool = testing::cluster().spec.pools.remove(0);
    pool.replicas = 2;
    let brokers = brokers(4);
    let pools = |pool: &klamm_crds::Pool| [pool.clone()];
    assert_eq!(leaving(&pools(&pool), &brokers), BTreeSet::from([2, 3]));
    pool.remove = vec![1, 9];
    assert_eq!(leaving(&pools(&pool), &brokers), BTreeSet::from([1, 3]));
    pool.replicas = 4;
    assert_eq!(leaving(&pools(&pool), &brokers), BTreeSet::new());
}
