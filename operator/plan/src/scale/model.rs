//! Scaling against a model of a cluster in which brokers start, stop, fail and lose disks while the spec
//! changes. Every seed is one history.

use super::*;
use crate::observed::{BrokerFacts, QuorumMember};
use crate::testing::{self, Random};

const SEEDS: u64 = 2_000;
const CHANGING_TICKS: usize = 80;
const QUIET_TICKS: usize = 600;
const STALL_TIMEOUT: Duration = Duration::from_secs(600);
const MOVING: DrainProgress = DrainProgress::Known {
    bytes_left: None,
    last_progress_at: None,
    blocked: None,
};

struct Node {
    broker: Broker,
    process: Process,
    /// Its process fails, and comes back later.
    down: bool,
    /// Disks that it had before.
    disk: u32,
    registered: bool,
    cordoned: bool,
    drain: bool,
    replicas: u32,
}

/// A broker with one of its disks.
type Member = (i32, u32);

struct World {
    random: Random,
    nodes: Vec<Node>,
    voters: Vec<Member>,
    learners: Vec<Member>,
    next_id: i32,
    wanted: usize,
    voters_wanted: usize,
    reachable: bool,
    /// Whether the members of the quorum are told.
    tells_members: bool,
    rebalance: RebalanceMode,
    rebalancing: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            nodes: Vec::new(),
            voters: vec![(0, 0)],
            learners: Vec::new(),
            next_id: 0,
            wanted: 1,
            voters_wanted: 1,
            reachable: false,
            tells_members: true,
            rebalance: RebalanceMode::OnScaleUp,
            rebalancing: false,
        };
        world.reconcile();
        world.go_on();
        world.reachable = true;
        world
    }

    fn answers(&self, member: Member) -> bool {
        let serves = |node: &Node| node.process.pod && !node.down;
        let is_it = |node: &Node| (node.broker.id, node.disk) == member;
        self.nodes.iter().any(|node| is_it(node) && serves(node))
    }

    fn has_majority(&self, voters: &[Member]) -> bool {
        let answering = voters.iter().filter(|voter| self.answers(**voter));
        answering.count() * 2 > voters.len()
    }

    fn admin(&self) -> Admin {
        if !self.reachable || !self.has_majority(&self.voters) {
            return Admin::Unreachable("nobody answers".to_owned());
        }
        let mut facts = testing::healthy(0);
        let mut voters = self.voters.iter();
        let controller = voters.find(|voter| self.answers(**voter));
        facts.controller_id = controller.map(|voter| voter.0);
        facts.rebalancing = self.rebalancing;
        facts.voters = self.voters.iter().map(|voter| voter.0).collect();
        let registered = self.nodes.iter().filter(|node| node.registered);
        facts.brokers = registered
            .map(|node| {
                let broker = BrokerFacts {
                    state: if node.process.pod && !node.down {
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

    fn quorum(&self) -> QuorumFacts {
        let directory = |(id, disk): Member| format!("disk {disk} of {id}");
        let described = |member: &Member| QuorumMember {
            id: member.0,
            directory: directory(*member),
            reachable: self.answers(*member),
        };
        let is_member = |node: &&Node| {
            let member = (node.broker.id, node.disk);
            self.voters.contains(&member) || self.learners.contains(&member)
        };
        let registered = self.nodes.iter().filter(|node| node.registered);
        let observers = registered.filter(|node| !is_member(node));
        QuorumFacts {
            voters: self.voters.iter().map(described).collect(),
            learners: self.learners.iter().map(described).collect(),
            observers: observers
                .map(|node| (node.broker.id, directory((node.broker.id, node.disk))))
                .collect(),
        }
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
            node.broker.joining |= node.broker.leaving && !leaving.contains(&id) && !recorded;
            node.broker.leaving = leaving.contains(&id) || recorded;
        }
        let brokers: Vec<_> = self.nodes.iter().map(|node| node.broker.clone()).collect();
        let processes = self.nodes.iter().map(|node| (node.broker.id, node.process));
        let processes = processes.collect();
        let voters: Vec<_> = self.voters.iter().map(|voter| voter.0).collect();
        let quorum = self.quorum();
        let none = BTreeMap::new();
        let known = brokers.iter().map(|broker| (broker.id, MOVING));
        let known = known.collect();
        let situation = |drains, rebalance_progress| Situation {
            brokers: &brokers,
            leaving: &leaving,
            processes: &processes,
            admin: &admin,
            quorum: Some(&quorum).filter(|_| self.tells_members),
            drains,
            rebalance: self.rebalance,
            rebalance_progress,
            voters_recorded: &voters,
            voters: self.voters_wanted,
            drain_stall_timeout: STALL_TIMEOUT,
            now: testing::now(),
        };
        let answer = self.rebalance_progress();
        let (mut scale, mut asked) = (decide(&situation(&none, None)), None);
        match scale {
            Scale::Ask(_) => scale = decide(&situation(&known, None)),
            Scale::AskRebalance => {
                asked = Some(&answer);
                scale = decide(&situation(&none, asked));
            }
            _ => {}
        }
        for node in &mut self.nodes {
            node.broker.joining &= !has_share(&node.broker, &admin, asked);
        }
        let departed = departed(&leaving, &processes, &admin);
        let gone = gone(&leaving, &processes, &admin, &voters);
        self.nodes.retain(|node| {
            let is_left = node.process != Process::default() || node.registered;
            let forgotten = departed.contains(&node.broker.id);
            assert!(!forgotten || !is_left, "forgotten too early");
            !forgotten
        });
        for node in &mut self.nodes {
            node.process.stateful_set |= !gone.contains(&node.broker.id);
        }
        while self.nodes.len() < self.wanted {
            let mut node = new_node(self.next_id);
            node.broker.joining = self.next_id > 0;
            self.nodes.push(node);
            self.next_id += 1;
        }
        if let Scale::Step(step) = &scale {
            self.take(step);
        }
        scale
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::AddVoter(id) => self.add_voter(*id),
            Step::RemoveVoter { id, directory } => self.remove_member(*id, directory),
            Step::Cordon(id) => {
                assert!(!self.rebalancing, "replicas move onto brokers that leave");
                self.node(*id).cordoned = true;
            }
            Step::Uncordon(id) => self.node(*id).cordoned = false,
            Step::Drain(id) => {
                assert!(self.node(*id).cordoned);
                self.node(*id).drain = true;
            }
            Step::CancelDrain(id) => self.node(*id).drain = false,
            Step::StartRebalance => {
                assert_eq!(self.leaving(), BTreeSet::new());
                assert_ne!(self.rebalance, RebalanceMode::Disabled);
                assert!(self.surplus() > 0, "there is nothing to move");
                self.rebalancing = true;
            }
            Step::CancelRebalance => self.rebalancing = false,
            Step::Stop(id) => {
                let votes = self.voters.iter().any(|voter| voter.0 == *id);
                assert!(!votes, "{id} votes");
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

    fn add_voter(&mut self, id: i32) {
        assert!(!self.leaving().contains(&id), "{id} is not wanted");
        let member = (id, self.node(id).disk);
        let of_id = |member: &&Member| member.0 == id;
        assert_eq!(self.voters.iter().find(of_id), None, "{id} votes");
        match self.learners.iter().find(of_id) {
            None => self.learners.push(member),
            Some(learner) => assert_eq!(*learner, member, "with the disk that is lost"),
        }
        // It does not always catch up at once.
        let promoted = [&self.voters[..], &[member]].concat();
        let caught_up = self.answers(member) && self.random.one_in(2);
        if caught_up && self.has_majority(&promoted) {
            self.learners.retain(|learner| *learner != member);
            self.voters = promoted;
            self.voters.sort_unstable();
        }
    }

    fn remove_member(&mut self, id: i32, directory: &str) {
        let is_it = |member: &Member| *directory == format!("disk {} of {id}", member.1);
        let is_other = |member: &Member| member.0 != id || !is_it(member);
        let left: Vec<_> = self.voters.iter().copied().filter(is_other).collect();
        if left.len() < self.voters.len() {
            assert!(self.has_majority(&left), "too few of {left:?} answer");
        }
        self.voters = left;
        self.learners.retain(is_other);
    }

    fn node(&mut self, id: i32) -> &mut Node {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|node| node.broker.id == id).unwrap()
    }

    /// Brokers that take replicas, those with the fewest first.
    fn takers(&self) -> Vec<usize> {
        let is_taker = |node: &Node| node.registered && !node.cordoned && !node.drain;
        let mut takers: Vec<usize> = (0..self.nodes.len())
            .filter(|index| is_taker(&self.nodes[*index]))
            .collect();
        takers.sort_by_key(|index| (self.nodes[*index].replicas, *index));
        takers
    }

    /// Replicas that have to move for every broker to have its share.
    fn surplus(&self) -> u32 {
        let replicas: Vec<u32> = self
            .takers()
            .iter()
            .map(|i| self.nodes[*i].replicas)
            .collect();
        let count = u32::try_from(replicas.len()).unwrap().max(1);
        let (share, rest) = (
            replicas.iter().sum::<u32>() / count,
            replicas.iter().sum::<u32>() % count,
        );
        let full = replicas.iter().rev().zip(0..count);
        full.map(|(has, place)| has.saturating_sub(share + u32::from(place < rest)))
            .sum()
    }

    fn rebalance_progress(&self) -> RebalanceProgress {
        RebalanceProgress::Known {
            partitions_left: self.surplus(),
            partitions_moving: 0,
            last_progress_at: None,
            paused: None,
        }
    }

    /// The controller moves a replica, and ends the rebalance once none has to move.
    fn go_on_rebalancing(&mut self) {
        let takers = self.takers();
        let running = |index: &usize| self.nodes[*index].process.pod && !self.nodes[*index].down;
        if !self.rebalancing || !takers.iter().all(running) {
            return;
        }
        if self.surplus() == 0 {
            self.rebalancing = false;
            return;
        }
        let (first, last) = (takers[0], takers[takers.len() - 1]);
        self.nodes[last].replicas -= 1;
        self.nodes[first].replicas += 1;
    }

    /// Pods follow their StatefulSets, replicas leave, and new ones are made.
    fn go_on(&mut self) {
        self.go_on_rebalancing();
        for node in &mut self.nodes {
            node.process.pod = node.process.stateful_set;
            node.registered |= node.process.pod && !node.down;
        }
        let open = |node: &Node| node.process.pod && !node.down && !node.cordoned && !node.drain;
        let takers: Vec<_> = (0..self.nodes.len())
            .filter(|i| open(&self.nodes[*i]))
            .collect();
        if takers.is_empty() {
            return;
        }
        let moving = |node: &Node| node.drain && node.replicas > 0;
        let from = (0..self.nodes.len()).find(|index| moving(&self.nodes[*index]));
        let to = takers[self.random.below(takers.len())];
        if !self.nodes[to].registered {
            return;
        }
        if let Some(from) = from {
            self.nodes[from].replicas -= 1;
            self.nodes[to].replicas += 1;
        } else if self.random.one_in(4) {
            self.nodes[to].replicas += 1;
        }
    }

    fn disturb(&mut self) {
        self.reachable = !self.random.one_in(4);
        self.tells_members = !self.random.one_in(8);
        if self.random.one_in(8) {
            self.wanted = 1 + self.random.below(6);
            let possible = [1, 3, 5].into_iter().filter(|count| *count <= self.wanted);
            let possible: Vec<_> = possible.collect();
            self.voters_wanted = possible[self.random.below(possible.len())];
        }
        if self.random.one_in(16) {
            let modes = [
                RebalanceMode::OnScaleUp,
                RebalanceMode::Automatic,
                RebalanceMode::Disabled,
            ];
            self.rebalance = modes[self.random.below(modes.len())];
        }
        let index = self.random.below(self.nodes.len());
        if self.random.one_in(6) {
            self.nodes[index].down ^= true;
        }
        if self.random.one_in(6) && self.may_lose_disk(index) {
            self.nodes[index].disk += 1;
        }
    }

    /// No quorum survives the loss of a majority's disks.
    fn may_lose_disk(&self, index: usize) -> bool {
        let has = |member: &Member| {
            let mut nodes = self.nodes.iter();
            nodes.any(|node| (node.broker.id, node.disk) == *member)
        };
        let node = &self.nodes[index];
        let votes = self.voters.contains(&(node.broker.id, node.disk));
        !votes || self.voters.len() > 2 && self.voters.iter().all(has)
    }
}

fn new_node(id: i32) -> Node {
    Node {
        broker: Broker {
            id,
            ..Broker::default()
        },
        process: Process::default(),
        down: false,
        disk: 0,
        registered: false,
        cordoned: false,
        drain: false,
        replicas: 0,
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
        (world.reachable, world.tells_members) = (true, true);
        world.rebalance = RebalanceMode::OnScaleUp;
        for node in &mut world.nodes {
            node.down = false;
        }
        let mut quiet = (0..QUIET_TICKS).map(|_| {
            let all_serve = world.nodes.iter().all(|node| node.registered);
            let scale = world.reconcile();
            world.go_on();
            scale == Scale::Settled && all_serve && world.nodes.len() == world.wanted
        });
        assert!(quiet.any(|settled| settled), "seed {seed} does not settle");
        drop(quiet);
        let mut voters = world.voters.iter();
        assert!(voters.all(|voter| world.answers(*voter)), "seed {seed}");
        assert_eq!(world.voters.len(), world.voters_wanted, "seed {seed}");
        assert_eq!(world.learners, [], "seed {seed}");
        let untouched =
            |node: &Node| !node.cordoned && !node.drain && node.process.pod && !node.broker.joining;
        assert!(!world.rebalancing, "seed {seed}");
        assert!(world.nodes.iter().all(untouched), "seed {seed}");
    }
}
