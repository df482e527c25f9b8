//! The rollout against a model of a cluster: pods, a quorum, brokers that recover and catch up, and
//! faults that come at any time, on a clock of its own. Every seed is one history.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Policy, Rollout, Situation, Step, decide};
use crate::broker_pod::{BrokerPod, PodState};
use crate::observed::{
    Admin, Answers, Blocker, BlockerReason, BrokerFacts, BrokerState, RestartVerdict,
};
use crate::testing::{self, Random};

const SEEDS: u64 = 3_000;
const TICK: SignedDuration = SignedDuration::from_secs(2);
const FAULTY_TICKS: usize = 120;
/// For a cluster of five to be restarted once more, each broker with recovery and soak.
const QUIET_TICKS: usize = 400;
const LEASE: SignedDuration = SignedDuration::from_secs(60);
const SOAK: Duration = Duration::from_secs(6);

struct Node {
    pod: PodState,
    pod_revision: usize,
    set_revision: usize,
    taken_up: Timestamp,
    ready_since: Option<Timestamp>,
    /// Ticks until the log is recovered.
    recovering: usize,
    /// Ticks until every replica is in sync.
    behind: usize,
    leads: bool,
    lease_until: Option<Timestamp>,
    /// Stopped by the rollout, and not serving again since.
    by_rollout: bool,
    /// The operator died after it had changed the StatefulSet and before it deleted the pod: whatever
    /// stops the broker next, it comes back on that revision.
    half_way: bool,
}

struct World {
    random: Random,
    now: Timestamp,
    nodes: Vec<Node>,
    voters: usize,
    controller: Option<usize>,
    wanted: usize,
    /// Revisions whose image does not exist.
    bad: Vec<usize>,
    reachable: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let now = testing::now();
        let node = |_| Node {
            pod: PodState::Ready,
            pod_revision: 0,
            set_revision: 0,
            taken_up: now,
            ready_since: Some(now),
            recovering: 0,
            behind: 0,
            leads: true,
            lease_until: None,
            by_rollout: false,
            half_way: false,
        };
        let nodes: Vec<_> = (0..[1, 3, 4, 5][random.below(4)]).map(node).collect();
        Self {
            voters: nodes.len().min(3),
            nodes,
            random,
            now,
            controller: Some(0),
            wanted: 1,
            bad: Vec::new(),
            reachable: true,
        }
    }

    fn votes(&self, id: usize) -> bool {
        let node = &self.nodes[id];
        id < self.voters && node.pod.runs() && node.recovering == 0
    }

    fn has_quorum(&self) -> bool {
        (0..self.voters).filter(|id| self.votes(*id)).count() * 2 > self.voters
    }

    fn state(&self, id: usize) -> BrokerState {
        let node = &self.nodes[id];
        match node.pod {
            PodState::Ready if node.lease_until.is_some() => BrokerState::Draining,
            PodState::Ready if node.behind > 0 => BrokerState::CatchingUp,
            PodState::Ready => BrokerState::Serving,
            PodState::Terminating => BrokerState::Draining,
            PodState::Absent | PodState::NotRunning(_) | PodState::Starting => BrokerState::Fenced,
        }
    }

    fn facts(&self, id: usize) -> BrokerFacts {
        let node = &self.nodes[id];
        BrokerFacts {
            state: self.state(id),
            started_at: Some(node.taken_up),
            replicas: 10,
            in_sync: if node.behind > 0 { 5 } else { 10 },
            preferred: 10,
            preferred_led: if node.leads { 10 } else { 0 },
            ..testing::serving(number(id))
        }
    }

    fn admin(&self) -> Admin {
        if !self.reachable || !self.has_quorum() {
            return Admin::Unreachable("nobody answers".to_owned());
        }
        let mut facts = testing::healthy(number(self.nodes.len()));
        facts.controller_id = self.controller.map(number);
        facts.voters = (0..number(self.voters)).collect();
        facts.brokers = (0..self.nodes.len())
            .map(|id| (number(id), self.facts(id)))
            .collect();
        let behind = self.nodes.iter().filter(|node| node.behind > 0);
        facts.under_replicated_partitions = u32::try_from(behind.count()).unwrap();
        Admin::Answered(facts)
    }

    fn pods(&self) -> Vec<BrokerPod> {
        let pod = |(id, node): (usize, &Node)| {
            let exists = !matches!(node.pod, PodState::Absent | PodState::Terminating);
            BrokerPod {
                id: number(id),
                zone: None,
                pod: node.pod.clone(),
                taken_up: Some(node.taken_up),
                ready_since: node.ready_since,
                outdated: node.set_revision != self.wanted
                    || (exists && node.pod_revision != self.wanted),
            }
        };
        self.nodes.iter().enumerate().map(pod).collect()
    }

    /// What the controller would say: whether all the others serve.
    fn verdict(&mut self, id: i32) -> RestartVerdict {
        if self.random.one_in(20) {
            return RestartVerdict::Unknown("time-out".to_owned());
        }
        let others = (0..self.nodes.len()).filter(|other| number(*other) != id);
        if others
            .clone()
            .all(|other| self.state(other) == BrokerState::Serving)
        {
            return RestartVerdict::Safe;
        }
        let blocker = Blocker {
            partition: None,
            reason: BlockerReason::QuorumLoss,
        };
        RestartVerdict::Unsafe {
            blockers: vec![blocker],
            total: 1,
        }
    }

    fn decide(&mut self) -> Rollout {
        let (pods, admin) = (self.pods(), self.admin());
        let policy = Policy {
            soak: SOAK,
            preferred_leaders_min_pct: 95,
            hold: Vec::new(),
        };
        let mut answers = Answers::default();
        loop {
            let rollout = decide(&Situation {
                brokers: &pods,
                admin: &admin,
                answers: &answers,
                policy: &policy,
                now: self.now,
            });
            let Rollout::Ask(id) = rollout else {
                return rollout;
            };
            let verdict = self.verdict(id);
            assert!(
                answers.restarts.insert(id, verdict).is_none(),
                "asked twice"
            );
        }
    }

    /// Carries the decision out, or only a part of it where the operator dies.
    fn carry_out(&mut self, rollout: Rollout) {
        let Rollout::Step(step) = rollout else { return };
        let dies = self.random.one_in(10);
        match step {
            Step::RestoreLeaders { .. } => self.nodes.iter_mut().for_each(|node| node.leads = true),
            Step::TransferController { id } => {
                let voters = (0..self.voters).filter(|voter| self.votes(*voter));
                let mut others = voters.filter(|voter| number(*voter) != id);
                self.controller = others.next().or(self.controller);
            }
            Step::Prepare { id, .. } => {
                let node = &mut self.nodes[usize::try_from(id).unwrap()];
                node.lease_until = self.now.checked_add(LEASE).ok();
                node.leads = self.voters == 1;
            }
            Step::Replace { id, .. } => {
                let id = usize::try_from(id).unwrap();
                self.check_replacement(id);
                let wanted = self.wanted;
                let node = &mut self.nodes[id];
                node.set_revision = wanted;
                if matches!(node.pod, PodState::Absent | PodState::Terminating) {
                    return;
                }
                node.half_way = dies;
                if dies {
                    return;
                }
                node.by_rollout |= node.pod.runs();
                node.pod = PodState::Terminating;
                node.ready_since = None;
            }
        }
    }

    fn check_replacement(&self, id: usize) {
        let node = &self.nodes[id];
        assert_ne!(
            node.pod,
            PodState::Starting,
            "a recovering broker is restarted"
        );
        assert!(node.set_revision != self.wanted || node.pod_revision != self.wanted);
        if node.pod != PodState::Ready {
            return;
        }
        for (other, node) in self.nodes.iter().enumerate().filter(|(o, _)| *o != id) {
            assert_eq!(
                self.state(other),
                BrokerState::Serving,
                "broker {other} is down"
            );
            assert!(!node.by_rollout);
        }
        let left = (0..self.voters).filter(|voter| *voter != id && self.votes(*voter));
        assert!(
            self.voters == 1 || left.count() * 2 > self.voters,
            "no majority is left"
        );
        assert!(node.lease_until.is_some(), "its leaders have not moved");
        assert!(
            self.voters == 1 || self.controller != Some(id),
            "it controls"
        );
    }

    fn check(&self) {
        let down = self.nodes.iter().filter(|node| node.by_rollout);
        assert!(down.count() <= 1, "two brokers are down by the rollout");
        for bad in &self.bad {
            let whole = self.nodes.iter().filter(|node| !node.half_way);
            let on_bad = whole.filter(|node| node.set_revision == *bad);
            assert!(
                on_bad.count() <= 1,
                "a bad revision goes on to a second broker"
            );
        }
    }

    fn disturb(&mut self) {
        self.reachable = !self.random.one_in(8);
        let victim = self.random.below(self.nodes.len());
        match self.random.below(40) {
            0 if self.nodes[victim].pod.runs() => {
                self.nodes[victim].pod = PodState::Terminating;
                self.nodes[victim].ready_since = None;
            }
            1 => self.wanted += 1,
            2 => {
                self.wanted += 1;
                self.bad.push(self.wanted);
            }
            3 => self.nodes[victim].behind = self.random.below(10),
            4 => self.nodes[victim].leads = false,
            _ => {}
        }
    }

    fn live(&mut self) {
        self.now = self.now.checked_add(TICK).unwrap();
        let (now, quorum) = (self.now, self.has_quorum());
        for node in &mut self.nodes {
            if node.lease_until.is_some_and(|until| until <= now) {
                node.lease_until = None;
                node.leads = true;
            }
            node.behind = node.behind.saturating_sub(1);
            node.pod = match &node.pod {
                PodState::Terminating => PodState::Absent,
                PodState::Absent => {
                    node.pod_revision = node.set_revision;
                    node.taken_up = now;
                    node.lease_until = None;
                    node.leads = false;
                    PodState::NotRunning("ContainerCreating".to_owned())
                }
                PodState::NotRunning(_) if self.bad.contains(&node.pod_revision) => {
                    PodState::NotRunning("ImagePullBackOff".to_owned())
                }
                PodState::NotRunning(_) => {
                    node.recovering = self.random.below(12);
                    PodState::Starting
                }
                PodState::Starting if node.recovering == 0 && quorum => {
                    node.ready_since = Some(now);
                    node.behind = self.random.below(8);
                    PodState::Ready
                }
                PodState::Starting => {
                    node.recovering = node.recovering.saturating_sub(1);
                    PodState::Starting
                }
                PodState::Ready => {
                    node.by_rollout &= node.behind > 0;
                    PodState::Ready
                }
            };
        }
        if !self.controller.is_some_and(|id| self.votes(id)) {
            self.controller = (0..self.voters).find(|id| self.votes(*id));
        }
    }
}

fn number(id: usize) -> i32 {
    i32::try_from(id).unwrap()
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..FAULTY_TICKS {
        world.disturb();
        // An operator that does not run, or does not get far.
        if !world.random.one_in(4) {
            let rollout = world.decide();
            world.carry_out(rollout);
        }
        world.check();
        world.live();
    }
    world.reachable = true;
    if world.bad.contains(&world.wanted) {
        world.wanted += 1;
    }
    for _ in 0..QUIET_TICKS {
        let rollout = world.decide();
        if rollout == Rollout::UpToDate {
            return;
        }
        world.carry_out(rollout);
        world.check();
        world.live();
    }
    panic!("never ended: {:?}", world.decide());
}

#[test]
fn no_history_harms_and_every_one_ends() {
    for seed in 1..=SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
