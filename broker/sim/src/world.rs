//! A run: brokers, quorum and clients, and the loop that gives them their events.

use std::collections::BTreeMap;
use std::ops::Range;

use broker_core::controller::{
    AlterConfigs, AlterMode, AlterReassignments, Command, ConfigOp, ConfigOpType, ConfigResource,
    CreatePartitions, CreateTopics, ElectLeaders, ElectionType, InitializeCluster, NewPartitions,
    NewTopic, PartitionRef, Reassignment, TargetReplicas,
};
use broker_core::metadata::ResourceType;

use crate::check::{Checker, Violation};
use crate::client::{Client, Consumer, Deleter, Producer};
use crate::env::Env;
use crate::event::{Event, Message, Peer};
use crate::network::Network;
use crate::node::{Broker, End};
use crate::plan::{Fault, Plan, TopicPlan};
use crate::quorum::Quorum;
use crate::random::Random;
use crate::trace::{Micros, Trace};

/// Everything must have come right so long after the faults.
const SETTLE_MAX: Micros = 20_000_000;
const SETTLE_INTERVAL: Micros = 100_000;
/// Clients begin when there are topics; if there are none by now, there is a defect.
const EVENTS_MAX: u64 = 400_000;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) violation: Option<Violation>,
    pub(crate) lines: Vec<String>,
    pub(crate) events: u64,
    pub(crate) committed: u64,
}

struct World {
    env: Env,
    plan: Plan,
    quorum: Quorum,
    brokers: Vec<Broker>,
    clients: Vec<Client>,
    events: u64,
    settled: bool,
}

/// Runs the plan to its end or to the first violation.
pub(crate) fn run(plan: Plan, trace: Trace) -> Finished {
    let mut world = World::new(plan, trace);
    while world.env.check.violation().is_none() && !world.settled {
        let Some((at, event)) = world.env.queue.next() else {
            break;
        };
        world.env.now = at;
        world.events += 1;
        if world.events > EVENTS_MAX {
            world
                .env
                .check
                .did_not_settle(at, "the run goes round in circles".to_owned());
            break;
        }
        world.handle(event);
    }
    if let Some(violation) = world.env.check.violation().cloned() {
        world.env.note("VIOLATION", || {
            format!("{}: {}", violation.invariant, violation.found)
        });
    }
    Finished {
        violation: world.env.check.violation().cloned(),
        committed: world.env.check.committed_records(),
        lines: world.env.trace.into_lines(),
        events: world.events,
    }
}

impl World {
    fn new(plan: Plan, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed ^ 0x5EED);
        let network = Network::new(plan.network, random.fork());
        let brokers = plan.brokers.len();
        let mut env = Env::new(network, random.fork(), plan.brokers.clone(), trace);
        let quorum = Quorum::new(random.fork(), brokers);
        let brokers = (0..brokers)
            .map(|index| Broker::new(index, random.next()))
            .collect();
        let producers = plan.producers.iter().enumerate();
        let mut clients: Vec<Client> = producers
            .map(|(index, producer)| Client::Producer(Producer::new(index, *producer)))
            .collect();
        for _ in 0..plan.consumers {
            clients.push(Client::Consumer(Consumer::new(clients.len())));
        }
        if plan.deletes {
            clients.push(Client::Deleter(Deleter::new(clients.len())));
        }
        for client in 0..clients.len() {
            env.after(100_000, Event::ClientTimer { client });
        }
        for broker in 0..plan.brokers.len() {
            env.after(0, Event::Start { broker });
        }
        for (index, fault) in plan.faults.iter().enumerate() {
            env.queue.add(fault.at, Event::Fault(index));
        }
        env.queue.add(1, Event::QuorumTick);
        env.queue.add(plan.heal_at, Event::Heal);
        let (events, settled) = (0, false);
        Self {
            env,
            plan,
            quorum,
            brokers,
            clients,
            events,
            settled,
        }
    }

    fn running(&self) -> Vec<usize> {
        let running = self.brokers.iter().filter(|broker| broker.is_running());
        running.map(|broker| broker.index).collect()
    }

    fn handle(&mut self, event: Event) {
        let env = &mut self.env;
        match event {
            Event::Deliver {
                from,
                to: Peer::Client(client),
                message,
                ..
            } => {
                self.clients[client].handle(env, from, message);
            }
            Event::Deliver {
                from,
                to: Peer::Broker(broker),
                run,
                message,
            } => {
                self.deliver(from, broker, run, message);
            }
            Event::BrokerTimer { broker, run, .. } => {
                if run == env.runs[broker] {
                    self.brokers[broker].handle(env, event);
                    self.look(broker);
                }
            }
            Event::ClientTimer { client } => self.clients[client].tick(env),
            Event::Start { broker } => self.brokers[broker].start(env),
            Event::Resume { broker } => self.brokers[broker].resume(env),
            Event::DiskFreed { broker } => self.brokers[broker].heal_disk(),
            Event::HeartbeatClosed { broker, stream } => {
                self.quorum.stream_closed(env, broker, stream);
            }
            Event::Fault(index) => self.strike(index),
            Event::QuorumTick => {
                let running = self.running();
                self.quorum.tick(&mut self.env, &running);
                self.set_up();
            }
            Event::QuorumDecide { term } => self.quorum.decide(env, term),
            Event::QuorumCommit { term } => {
                self.quorum.commit(env, term);
                self.env.check.look(
                    self.env.now,
                    &self.env.images[self.env.images.len() - 1],
                    &self.brokers,
                );
            }
            Event::Heal => self.heal(),
            Event::Settle => self.settle(),
        }
    }

    fn deliver(&mut self, from: Peer, broker: usize, run: u32, message: Message) {
        let env = &mut self.env;
        if run == 0 || run != env.runs[broker] {
            return;
        }
        if self.brokers[broker].is_running() && self.quorum.handle(env, from, broker, &message) {
            return;
        }
        let to = Peer::Broker(broker);
        self.brokers[broker].handle(
            env,
            Event::Deliver {
                from,
                to,
                run,
                message,
            },
        );
        self.look(broker);
    }

    /// What must hold after every event of a broker.
    fn look(&mut self, broker: usize) {
        let image = std::sync::Arc::clone(self.env.image());
        let now = self.env.now;
        self.env.check.look(now, &image, &self.brokers);
        self.env
            .check
            .check_maximal_isr(now, &image, &self.brokers[broker]);
    }

    /// Makes the cluster and its topics as soon as that is possible.
    fn set_up(&mut self) {
        let env = &mut self.env;
        if env.image().cluster_id.is_empty() {
            let command = Command::InitializeCluster(InitializeCluster {
                cluster_id: "sim".to_owned(),
                features: BTreeMap::new(),
            });
            self.quorum.submit(env, None, command);
        }
        let image = env.image();
        let ready = self
            .brokers
            .iter()
            .all(|broker| image.is_active(broker.id()));
        if image.topics.is_empty() && ready {
            let topics = self.plan.topics.iter().map(new_topic).collect();
            let validate_only = false;
            let command = Command::CreateTopics(CreateTopics {
                topics,
                validate_only,
            });
            self.quorum.submit(env, None, command);
        }
    }

    fn strike(&mut self, index: usize) {
        let fault = self.plan.faults[index].fault.clone();
        let env = &mut self.env;
        match fault {
            Fault::Kill { broker, down } => {
                self.brokers[broker].stop(env, End::Kill);
                env.after(down, Event::Start { broker });
            }
            Fault::PowerLoss { brokers, down } => {
                for broker in brokers {
                    self.brokers[broker].stop(env, End::PowerLoss);
                    let down = down + env.random.range(0, 200_000);
                    env.after(down, Event::Start { broker });
                }
            }
            Fault::Restart { broker } => self.brokers[broker].restart(env),
            Fault::Pause { broker, lasts } => self.brokers[broker].pause(env, lasts),
            Fault::Partition { blocked, lasts } => {
                let until = env.now + lasts;
                env.note("network", || {
                    format!("{blocked:?} are cut for {} ms", lasts / 1000)
                });
                for link in blocked {
                    env.network.block(link, until);
                }
            }
            Fault::SlowMetadata { broker, lasts } => {
                let until = env.now + lasts;
                env.note(Peer::Broker(broker), || "gets metadata late");
                if let Some(process) = &mut self.brokers[broker].process {
                    process.slow_metadata(until);
                }
            }
            Fault::DiskError { broker, after } => {
                env.note(Peer::Broker(broker), || {
                    format!("has an EIO in {after} operations")
                });
                self.brokers[broker].fail_disk(after);
            }
            Fault::DiskFull { broker, lasts } => {
                env.note(Peer::Broker(broker), || "has a full disk");
                self.brokers[broker].fill_disk();
                env.after(lasts, Event::DiskFreed { broker });
            }
            Fault::ControllerChange => {
                let running = self.running();
                self.quorum.change_controller(&mut self.env, &running);
            }
            Fault::MinInsync { topic, value } => {
                self.configure(topic, "min.insync.replicas", value.to_string());
            }
            Fault::Unclean { topic, value } => {
                self.configure(topic, "unclean.leader.election.enable", value.to_string());
            }
            Fault::AddPartition { topic } => self.add_partition(topic),
            Fault::Stall { held, lasts } => {
                let until = env.now + lasts;
                env.note("network", || {
                    format!("streams {held:?} are held back for {} ms", lasts / 1000)
                });
                for link in held {
                    env.network.stall(link, until);
                }
            }
            Fault::Reassign {
                topic,
                partition,
                replicas,
            } => {
                let replicas = replicas.into_iter().map(|id| id as i32).collect();
                let target = Some(TargetReplicas { replicas });
                self.reassign(topic, partition..partition + 1, target.as_ref());
            }
            Fault::GiveUpReassignment { topic } => self.reassign(topic, 0..i32::MAX, None),
            Fault::PreferredElection => {
                let election_type = ElectionType::Preferred.into();
                let command = Command::ElectLeaders(ElectLeaders {
                    election_type,
                    partitions: Vec::new(),
                });
                self.quorum.submit(env, None, command);
            }
        }
    }

    fn configure(&mut self, topic: usize, key: &str, value: String) {
        let Some(topic) = self.plan.topics.get(topic) else {
            return;
        };
        let resource = ConfigResource {
            resource_type: ResourceType::Topic.into(),
            name: topic.name.to_owned(),
            mode: AlterMode::Incremental.into(),
            ops: vec![ConfigOp {
                key: key.to_owned(),
                op: ConfigOpType::Set.into(),
                value: Some(value),
            }],
        };
        let command = Command::AlterConfigs(AlterConfigs {
            resources: vec![resource],
            validate_only: false,
        });
        self.quorum.submit(&mut self.env, None, command);
    }

    fn reassign(&mut self, topic: usize, wanted: Range<i32>, target: Option<&TargetReplicas>) {
        let image = self.env.image();
        let topic = self.plan.topics.get(topic).map(|topic| topic.name);
        let Some(topic) = topic.and_then(|name| image.topic_by_name(name)) else {
            return;
        };
        let partitions = (0..topic.partitions.len() as i32).filter(|index| wanted.contains(index));
        let partitions = partitions.map(|partition| Reassignment {
            partition: PartitionRef {
                topic_id: topic.id.into(),
                partition,
            },
            target: target.cloned(),
        });
        let command = Command::AlterReassignments(AlterReassignments {
            partitions: partitions.collect(),
            keep_replication_factor: false,
            replaces_dead: false,
            rebalances: false,
        });
        self.quorum.submit(&mut self.env, None, command);
    }

    fn add_partition(&mut self, topic: usize) {
        let image = self.env.image();
        let topic = self.plan.topics.get(topic).map(|topic| topic.name);
        let Some(topic) = topic.and_then(|name| image.topic_by_name(name)) else {
            return;
        };
        let command = Command::CreatePartitions(CreatePartitions {
            topics: vec![NewPartitions {
                name: topic.name.to_string(),
                count: topic.partitions.len() as i32 + 1,
                assignments: Vec::new(),
                expected_topic_id: None,
                expected_count: None,
            }],
            validate_only: false,
        });
        self.quorum.submit(&mut self.env, None, command);
    }

    /// Ends all faults. What only a restart mends is restarted.
    fn heal(&mut self) {
        let env = &mut self.env;
        env.note("network", || "all faults end");
        env.healed = true;
        env.network.heal();
        for broker in &mut self.brokers {
            broker.heal_disk();
            broker.resume(env);
            if let Some(process) = &mut broker.process {
                process.slow_metadata(0);
                if process.has_failed_log() {
                    broker.stop(env, End::Kill);
                }
            }
            env.after(
                10_000,
                Event::Start {
                    broker: broker.index,
                },
            );
        }
        env.after(SETTLE_INTERVAL, Event::Settle);
    }

    /// What only an operator can decide: who leads where all candidates may have lost something.
    fn elect_anybody(&mut self) {
        let image = self.env.image();
        let back = self
            .brokers
            .iter()
            .all(|broker| image.is_active(broker.id()));
        if back && image.partitions().any(|(_, state)| state.leader.is_none()) {
            let election_type = ElectionType::Unclean.into();
            let partitions = Vec::new();
            let command = Command::ElectLeaders(ElectLeaders {
                election_type,
                partitions,
            });
            self.quorum.submit(&mut self.env, None, command);
        }
    }

    fn settle(&mut self) {
        let now = self.env.now;
        match Checker::unsettled(&self.env, &self.brokers, &self.clients) {
            None => {
                self.env.check.finish(now, &mut self.brokers);
                self.settled = true;
            }
            Some(waiting) if now > self.plan.heal_at + SETTLE_MAX => {
                self.env.check.did_not_settle(now, waiting);
            }
            Some(_) => {
                self.elect_anybody();
                self.env.after(SETTLE_INTERVAL, Event::Settle);
            }
        }
    }
}

fn new_topic(plan: &TopicPlan) -> NewTopic {
    let mut configs = BTreeMap::from([
        (
            "min.insync.replicas".to_owned(),
            plan.min_insync_replicas.to_string(),
        ),
        (
            "unclean.leader.election.enable".to_owned(),
            plan.unclean_leader_election.to_string(),
        ),
    ]);
    if plan.flushes_every_message {
        configs.insert("flush.messages".to_owned(), "1".to_owned());
    }
    NewTopic {
        name: plan.name.to_owned(),
        num_partitions: plan.partitions,
        replication_factor: plan.replication_factor,
        assignments: Vec::new(),
        configs,
    }
}
