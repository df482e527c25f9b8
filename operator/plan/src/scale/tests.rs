//! Scaling by table, and against a model of a cluster in which brokers start, stop and lose replicas while
//! the spec changes. Every seed is one history.

use super::*;
use crate::observed::BrokerFacts;
use crate::testing::{self, Random};

const SEEDS: u64 = 2_000;
const CHANGING_TICKS: usize = 80;
const QUIET_TICKS: usize = 600;

struct Node {
    broker: Broker,
    process: Process,
    registered: bool,
    cordoned: bool,
    drain: bool,
    replicas: u32,
}

struct World {
    random: Random,
    nodes: Vec<Node>,
    voters: Vec<i32>,
    /// The learner that has all of the log from the next tick on.
    learner: Option<i32>,
    next_id: i32,
    wanted: usize,
    voters_wanted: usize,
    reachable: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            nodes: Vec::new(),
            voters: vec![0],
            learner: None,
            next_id: 0,
            wanted: 1,
            voters_wanted: 1,
            reachable: false,
        };
        world.reconcile();
        world.go_on();
        world.reachable = true;
        world
    }

    fn admin(&self) -> Admin {
        if !self.reachable {
            return Admin::Unreachable("nobody answers".to_owned());
        }
        let mut facts = testing::healthy(0);
        facts.controller_id = self.voters.first().copied();
        facts.voters.clone_from(&self.voters);
        let registered = self.nodes.iter().filter(|node| node.registered);
        facts.brokers = registered
            .map(|node| {
                let broker = BrokerFacts {
                    state: if node.process.pod {
                        BrokerState::Serving
                    } else {
                        BrokerState::Fenced
                    },
                    replicas: node.replicas,
                    cordoned: node.cordoned,
                    drain: node.drain,
                    ..testing::serving(node.broker.id)
                };
                (node.broker.id, broker)
            })
            .collect();
        Admin::Answered(facts)
    }

    fn leaving(&self) -> BTreeSet<i32> {
        let ids = self.nodes.iter().map(|node| node.broker.id);
        ids.rev()
            .take(self.nodes.len().saturating_sub(self.wanted))
            .collect()
    }

    /// One pass of the operator, as the plan makes it.
    fn reconcile(&mut self) -> Scale {
        let admin = self.admin();
        let leaving = self.leaving();
        for node in &mut self.nodes {
            let id = node.broker.id;
            let is_undone = |facts| taken_back(facts, id);
            let recorded = node.broker.leaving && !admin.confirmed().is_some_and(is_undone);
            node.broker.leaving = leaving.contains(&id) || recorded;
        }
        let brokers: Vec<_> = self.nodes.iter().map(|node| node.broker.clone()).collect();
        let processes = self.nodes.iter().map(|node| (node.broker.id, node.process));
        let processes = processes.collect();
        let none = BTreeMap::new();
        let ids = brokers.iter().map(|broker| broker.id);
        let known = ids.map(|id| (id, DrainProgress::Known { blocked: None }));
        let known = known.collect();
        let situation = |drains| Situation {
            brokers: &brokers,
            leaving: &leaving,
            processes: &processes,
            admin: &admin,
            drains,
            voters_recorded: &self.voters,
            voters: self.voters_wanted,
        };
        let mut scale = decide(&situation(&none));
        if let Scale::Ask(_) = scale {
            scale = decide(&situation(&known));
        }
        let departed = departed(&situation(&none));
        let gone = gone(&situation(&none));
        self.nodes.retain(|node| {
            let is_left = node.process != Process::default() || node.registered;
            assert!(
                !departed.contains(&node.broker.id) || !is_left,
                "forgotten too early"
            );
            !departed.contains(&node.broker.id)
        });
        for node in &mut self.nodes {
            node.process.stateful_set |= !gone.contains(&node.broker.id);
        }
        while self.nodes.len() < self.wanted {
            let broker = Broker {
                id: self.next_id,
                ..Broker::default()
            };
            self.next_id += 1;
            self.nodes.push(Node {
                broker,
                process: Process::default(),
                registered: false,
                cordoned: false,
                drain: false,
                replicas: 0,
            });
        }
        if let Scale::Step(step) = &scale {
            self.take(step);
        }
        scale
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::AddVoter(id) => {
                assert!(!self.leaving().contains(id), "{id} is not wanted");
                assert!(!self.voters.contains(id));
                // It does not always catch up at once.
                if self.learner == Some(*id) && self.random.one_in(2) {
                    self.voters.push(*id);
                    self.voters.sort_unstable();
                }
                self.learner = Some(*id);
            }
            Step::RemoveVoter(id) => {
                self.voters.retain(|voter| voter != id);
                assert!(!self.voters.is_empty(), "nobody votes");
            }
            Step::Cordon(id) => self.node(*id).cordoned = true,
            Step::Uncordon(id) => self.node(*id).cordoned = false,
            Step::Drain(id) => {
                assert!(self.node(*id).cordoned);
                self.node(*id).drain = true;
            }
            Step::CancelDrain(id) => self.node(*id).drain = false,
            Step::Stop(id) => {
                assert!(!self.voters.contains(id), "{id} votes");
                let node = self.node(*id);
                assert_eq!(node.replicas, 0, "{id} has replicas");
                node.process.stateful_set = false;
            }
            Step::Unregister { id, .. } => {
                let node = self.node(*id);
                assert!(!node.process.pod && node.replicas == 0);
                node.registered = false;
                node.cordoned = false;
                node.drain = false;
            }
        }
    }

    fn node(&mut self, id: i32) -> &mut Node {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|node| node.broker.id == id).unwrap()
    }

    /// Pods follow their StatefulSets, replicas leave, and new ones are made.
    fn go_on(&mut self) {
        for node in &mut self.nodes {
            node.process.pod = node.process.stateful_set;
            node.registered |= node.process.pod;
        }
        let open = |node: &Node| node.process.pod && !node.cordoned && !node.drain;
        let takers: Vec<_> = (0..self.nodes.len())
            .filter(|i| open(&self.nodes[*i]))
            .collect();
        if takers.is_empty() {
            return;
        }
        let moving = |node: &Node| node.drain && node.replicas > 0;
        let from = (0..self.nodes.len()).find(|index| moving(&self.nodes[*index]));
        let to = takers[self.random.below(takers.len())];
        if let Some(from) = from {
            self.nodes[from].replicas -= 1;
            self.nodes[to].replicas += 1;
        } else if self.random.one_in(4) {
            self.nodes[to].replicas += 1;
        }
    }

    fn disturb(&mut self) {
        self.reachable = !self.random.one_in(4);
        if self.random.one_in(8) {
            self.wanted = 1 + self.random.below(6);
            let possible = [1, 3, 5].into_iter().filter(|count| *count <= self.wanted);
            let possible: Vec<_> = possible.collect();
            self.voters_wanted = possible[self.random.below(possible.len())];
        }
    }
}

#[test]
fn whatever_is_wanted_comes_about_and_nothing_with_replicas_or_a_vote_is_stopped() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..CHANGING_TICKS {
            world.disturb();
            world.reconcile();
            world.go_on();
        }
        world.reachable = true;
        let mut quiet = (0..QUIET_TICKS).map(|_| {
            let scale = world.reconcile();
            world.go_on();
            scale == Scale::Settled && world.nodes.len() == world.wanted
        });
        assert!(quiet.any(|settled| settled), "seed {seed} does not settle");
        drop(quiet);
        assert_eq!(world.voters.len(), world.voters_wanted, "seed {seed}");
        let untouched = |node: &Node| !node.cordoned && !node.drain && node.process.pod;
        assert!(world.nodes.iter().all(untouched), "seed {seed}");
    }
}

fn brokers(count: i32) -> Vec<Broker> {
    let broker = |id| Broker {
        id,
        pool: "main".to_owned(),
        ..Broker::default()
    };
    (0..count).map(broker).collect()
}

fn decided(facts: ClusterFacts, leaving: &[i32], voters: usize) -> Scale {
    let brokers = brokers(4);
    let process = Process {
        stateful_set: true,
        pod: true,
    };
    decide(&Situation {
        brokers: &brokers,
        leaving: &leaving.iter().copied().collect(),
        processes: &brokers.iter().map(|broker| (broker.id, process)).collect(),
        admin: &Admin::Answered(facts),
        drains: &BTreeMap::new(),
        voters_recorded: &[0, 1, 2],
        voters,
    })
}

#[test]
fn the_steps_of_a_removal_come_in_order() {
    let mut facts = testing::healthy(4);
    facts.brokers.get_mut(&2).unwrap().replicas = 7;
    let leaving = [2];
    assert_eq!(
        decided(facts.clone(), &leaving, 3),
        Scale::Step(Step::Cordon(2))
    );
    facts.brokers.get_mut(&2).unwrap().cordoned = true;
    assert_eq!(
        decided(facts.clone(), &leaving, 3),
        Scale::Step(Step::AddVoter(3))
    );
    facts.voters.push(3);
    assert_eq!(
        decided(facts.clone(), &leaving, 3),
        Scale::Step(Step::RemoveVoter(2))
    );
    facts.voters.retain(|id| *id != 2);
    assert_eq!(
        decided(facts.clone(), &leaving, 3),
        Scale::Step(Step::Drain(2))
    );
    facts.brokers.get_mut(&2).unwrap().drain = true;
    assert_eq!(decided(facts.clone(), &leaving, 3), Scale::Ask(2));
    facts.brokers.get_mut(&2).unwrap().replicas = 0;
    assert_eq!(decided(facts, &leaving, 3), Scale::Step(Step::Stop(2)));
}

#[test]
fn a_voter_stays_until_another_can_take_its_place() {
    let mut facts = testing::healthy(4);
    facts.brokers.get_mut(&2).unwrap().cordoned = true;
    facts.brokers.get_mut(&3).unwrap().state = BrokerState::Fenced;
    let decided = decided(facts, &[2], 3);
    assert!(
        matches!(
            decided,
            Scale::Waiting {
                reason: "VoterChange",
                ..
            }
        ),
        "{decided:?}"
    );
}

#[test]
fn a_voter_that_is_down_keeps_its_place() {
    let mut facts = testing::healthy(4);
    facts.brokers.get_mut(&1).unwrap().state = BrokerState::Fenced;
    assert_eq!(decided(facts, &[], 3), Scale::Settled);
}

#[test]
fn the_active_controller_is_the_last_to_lose_its_vote() {
    let facts = testing::healthy(4);
    assert_eq!(decided(facts, &[], 1), Scale::Step(Step::RemoveVoter(1)));
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
