//! The metadata quorum as a model: a committed log, and one active controller at a time that
//! decides with the product's code.
//!
//! Stands in for Raft. What the brokers can see of it is kept: a command is decided on everything
//! committed before it; it is answered once committed; when the controller changes, what was
//! proposed survives or not, and nobody is told; a new controller gives brokers time to find it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::controller::{
    Command, ConfigTable, Context, Decision, Defaults, PlacementRequest, Response, decide,
    plan_preferred_elections,
};
use broker_core::liveness::{Heartbeat, Liveness, LivenessConfig, StreamId};
use broker_core::metadata::{Image, ResourceType};
use broker_core::mutation::{Mutation, mutated};
use broker_core::{BrokerId, Duration, TopicId, TopicPartition};

use crate::env::Env;
use crate::event::{Event, HeartbeatAnswer, Message, NotController, Peer};
use crate::random::Random;
use crate::trace::Micros;

/// `broker.session.timeout.ms`.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_millis(1000);

const TICK_INTERVAL: Micros = 40_000;
/// A controller that has no majority for so long is deposed.
const ELECTION_TIMEOUT: Micros = 500_000;
/// A command gets to the controller no later than this once its process has ended, before the next one
/// begins: the connection ends with the process.
const OUTLIVES_MAX: Micros = 50_000;
const REBALANCE_INTERVAL: Micros = 1_100_000;

/// See the module's documentation.
pub(crate) struct Quorum {
    random: Random,
    term: u64,
    active: Option<Active>,
    brokers: usize,
    /// When the active controller last had a majority.
    majority_at: Micros,
    topics_made: u64,
}

struct Active {
    broker: usize,
    liveness: Liveness,
    mailbox: Vec<Submission>,
    /// Proposed and not committed yet.
    proposed: Option<Batch>,
    rebalanced: Micros,
}

struct Submission {
    /// `None` for the controller's own commands.
    sender: Option<(Peer, u64)>,
    command: Command,
}

struct Batch {
    image: Image,
    answers: Vec<(Peer, u64, Response)>,
    /// Partitions that got a leader uncleanly, for a while at least.
    unclean: Vec<TopicPartition>,
}

/// Takes every setting as it is.
struct AnySetting;

impl ConfigTable for AnySetting {
    fn validate(&self, _: ResourceType, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn list_default(&self, _: ResourceType, _: &str) -> Option<String> {
        None
    }
}

impl Quorum {
    pub(crate) const fn new(random: Random, brokers: usize) -> Self {
        Self {
            random,
            term: 0,
            active: None,
            brokers,
            majority_at: 0,
            topics_made: 0,
        }
    }

    /// A command of an operator or a broker.
    pub(crate) fn submit(&mut self, env: &mut Env, sender: Option<(Peer, u64)>, command: Command) {
        let Some(active) = &mut self.active else {
            return;
        };
        let idle = active.mailbox.is_empty();
        active.mailbox.push(Submission { sender, command });
        if idle && active.proposed.is_none() {
            env.after(300, Event::QuorumDecide { term: self.term });
        }
    }

    /// A message to the broker in its role as controller; `false` when it is none for that role.
    pub(crate) fn handle(
        &mut self,
        env: &mut Env,
        from: Peer,
        to: usize,
        message: &Message,
    ) -> bool {
        match message {
            Message::Submit {
                request,
                run,
                sent_at,
                command,
            } => {
                let Peer::Broker(broker) = from else {
                    return true;
                };
                if env.runs[broker] != *run && env.now > sent_at + OUTLIVES_MAX {
                    return true;
                }
                if self.is_active(to) {
                    self.submit(env, Some((from, *request)), (**command).clone());
                } else {
                    let (request, result) = (*request, Err(NotController));
                    env.send(
                        Peer::Broker(to),
                        from,
                        Message::Submitted { request, result },
                    );
                }
                true
            }
            Message::Heartbeat {
                stream,
                sent_at,
                epoch,
                offset,
                wants_shutdown,
            } => {
                let Peer::Broker(broker) = from else {
                    return true;
                };
                let heartbeat = Heartbeat {
                    broker: BrokerId(broker as i32),
                    epoch: *epoch,
                    offset: Some(*offset),
                    wants_shutdown: *wants_shutdown,
                };
                let answer = self.heartbeat(env, to, *stream, heartbeat);
                let answer = Message::HeartbeatAnswer {
                    stream: *stream,
                    sent_at: *sent_at,
                    answer,
                };
                env.send(Peer::Broker(to), from, answer);
                true
            }
            _ => false,
        }
    }

    fn is_active(&self, broker: usize) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.broker == broker)
    }

    fn heartbeat(
        &mut self,
        env: &Env,
        to: usize,
        stream: u64,
        heartbeat: Heartbeat,
    ) -> HeartbeatAnswer {
        let Some(active) = self.active.as_mut().filter(|active| active.broker == to) else {
            return HeartbeatAnswer::NotController;
        };
        let now = env.time(to);
        if active
            .liveness
            .heartbeat(now, StreamId(stream), heartbeat)
            .is_err()
        {
            return HeartbeatAnswer::StaleEpoch;
        }
        let image = env.image();
        let known = image.brokers.get(&heartbeat.broker);
        let gets_no_leaders = known.is_none_or(|broker| broker.draining || broker.fenced);
        let has_handed_over = gets_no_leaders && image.leaders_to_hand_over(heartbeat.broker) == 0;
        HeartbeatAnswer::Heard {
            fenced: known.is_none_or(|broker| broker.fenced),
            may_shutdown: heartbeat.wants_shutdown
                && (has_handed_over || mutated(Mutation::StopBeforeHandover)),
        }
    }

    pub(crate) fn stream_closed(&mut self, env: &Env, broker: usize, stream: u64) {
        if let Some(active) = &mut self.active {
            let broker = BrokerId(broker as i32);
            let now = env.time(active.broker);
            active.liveness.stream_closed(now, broker, StreamId(stream));
        }
    }

    /// `running` are the brokers whose processes run and are not paused.
    pub(crate) fn tick(&mut self, env: &mut Env, running: &[usize]) {
        env.after(TICK_INTERVAL, Event::QuorumTick);
        match self.active.as_ref().map(|active| active.broker) {
            Some(broker) => {
                if running.contains(&broker) && self.has_majority(env, broker, running) {
                    self.majority_at = env.now;
                } else if env.now > self.majority_at + ELECTION_TIMEOUT {
                    self.depose(env);
                }
            }
            None => self.elect(env, running, None),
        }
        self.look_after_brokers(env);
    }

    fn has_majority(&self, env: &Env, broker: usize, running: &[usize]) -> bool {
        let connected =
            |other: &&usize| **other == broker || env.network.connects(env.now, broker, **other);
        running.iter().filter(connected).count() > self.brokers / 2
    }

    /// Another voter takes over, as after an election that nobody needed.
    pub(crate) fn change_controller(&mut self, env: &mut Env, running: &[usize]) {
        let old = self.active.as_ref().map(|active| active.broker);
        self.depose(env);
        self.elect(env, running, old);
    }

    fn depose(&mut self, env: &mut Env) {
        let Some(active) = self.active.take() else {
            return;
        };
        env.note(
            Peer::Broker(active.broker),
            || "is no longer the controller",
        );
        env.controller = None;
        self.term += 1;
        // A majority may have the batch all the same: the next leader commits it then.
        if let Some(batch) = active.proposed
            && self.random.chance(500)
        {
            Self::publish(env, batch.image, batch.unclean);
        }
    }

    fn elect(&mut self, env: &mut Env, running: &[usize], not: Option<usize>) {
        let candidates = running.iter().copied();
        let candidates: Vec<usize> = candidates
            .filter(|broker| Some(*broker) != not && self.has_majority(env, *broker, running))
            .collect();
        if candidates.is_empty() {
            return;
        }
        let broker = candidates[self.random.index(candidates.len())];
        self.term += 1;
        self.majority_at = env.now;
        env.controller = Some(broker);
        let term = self.term;
        env.note(Peer::Broker(broker), || {
            format!("is the controller of term {term}")
        });
        let config = LivenessConfig {
            session_timeout: SESSION_TIMEOUT,
            reconnect_grace: Duration::from_millis(300),
            voters: (0..self.brokers)
                .map(|broker| BrokerId(broker as i32))
                .collect::<BTreeSet<_>>(),
        };
        let offset = Some(env.images.len() as u64 - 1);
        self.active = Some(Active {
            broker,
            liveness: Liveness::new(config, env.time(broker), env.image(), offset),
            mailbox: Vec::new(),
            proposed: None,
            rebalanced: env.now,
        });
    }

    fn look_after_brokers(&mut self, env: &mut Env) {
        let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.proposed.is_none())
        else {
            return;
        };
        let mut commands = active.liveness.tick(env.time(active.broker), env.image());
        if env.now > active.rebalanced + REBALANCE_INTERVAL {
            active.rebalanced = env.now;
            commands.extend(plan_preferred_elections(env.image()));
        }
        for command in commands {
            self.submit(env, None, command);
        }
    }

    pub(crate) fn decide(&mut self, env: &mut Env, term: u64) {
        if term != self.term {
            return;
        }
        let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.proposed.is_none())
        else {
            return;
        };
        let newest = env.images.len() - 1;
        let behind = usize::from(mutated(Mutation::DecideOnOldImage) && newest > 0);
        let mut image = Image::clone(&env.images[newest - behind]);
        let (mut answers, mut unclean) = (Vec::new(), Vec::new());
        let mut changed = false;
        for submission in std::mem::take(&mut active.mailbox) {
            let Decision {
                records,
                response,
                unfinished,
                unclean_elections,
            } = decide_one(&image, &submission.command, &mut self.topics_made);
            assert!(!unfinished, "the simulated cluster has few partitions");
            unclean.extend(unclean_elections.into_iter().map(|(id, _)| id));
            for record in &records {
                let applied = image.apply(record);
                applied.expect("a decision's records apply to the image it was decided on");
                changed = true;
            }
            if let Some((sender, request)) = submission.sender {
                answers.push((sender, request, response));
            }
        }
        active.proposed = Some(Batch {
            image,
            answers,
            unclean,
        });
        let delay = if changed {
            self.random.range(500, 8_000)
        } else {
            0
        };
        env.after(delay, Event::QuorumCommit { term });
    }

    pub(crate) fn commit(&mut self, env: &mut Env, term: u64) {
        if term != self.term {
            return;
        }
        let Some(active) = &mut self.active else {
            return;
        };
        let Some(batch) = active.proposed.take() else {
            return;
        };
        Self::publish(env, batch.image, batch.unclean);
        let offset = Some(env.images.len() as u64 - 1);
        active
            .liveness
            .follow(env.time(active.broker), env.image(), offset);
        let from = Peer::Broker(active.broker);
        for (sender, request, response) in batch.answers {
            let result = Ok(Box::new(response));
            env.send(from, sender, Message::Submitted { request, result });
        }
        if !active.mailbox.is_empty() {
            env.after(300, Event::QuorumDecide { term });
        }
    }

    fn publish(env: &mut Env, image: Image, unclean: Vec<TopicPartition>) {
        if image == **env.image() {
            return;
        }
        let old = Arc::clone(env.image());
        trace_changes(env, &old, &image);
        env.check.elected_uncleanly([&old, &image], &unclean);
        env.check.metadata_committed(env.now, &old, &image);
        env.images.push(Arc::new(image));
    }
}

fn decide_one(image: &Image, command: &Command, topics_made: &mut u64) -> Decision {
    let mut new_topic_id = || {
        *topics_made += 1;
        TopicId((u128::from(*topics_made)).to_be_bytes())
    };
    let mut context = Context {
        defaults: Defaults {
            num_partitions: 1,
            replication_factor: 3,
            min_insync_replicas: 1,
            unclean_leader_election: false,
        },
        new_topic_id: &mut new_topic_id,
        place: &place,
        config_table: &AnySetting,
    };
    decide(image, &mut context, command)
}

fn place(request: &PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> {
    let brokers: Vec<_> = request
        .brokers
        .iter()
        .map(|broker| klamm_placement::Broker {
            id: broker.id.0,
            rack: broker.rack.clone(),
            replicas: broker.replicas,
            leaders: broker.leaders,
            available: broker.available,
        })
        .collect();
    let ids = |replicas: &Vec<BrokerId>| replicas.iter().map(|id| id.0).collect();
    let existing: Vec<Vec<i32>> = request.existing.iter().map(ids).collect();
    let planned = klamm_placement::plan_added_partitions(
        &brokers,
        &existing,
        request.partitions,
        request.replication_factor,
    );
    let planned = planned.map_err(|error| error.to_string())?.into_iter();
    Ok(planned
        .map(|replicas| replicas.into_iter().map(BrokerId).collect())
        .collect())
}

fn trace_changes(env: &mut Env, old: &Image, new: &Image) {
    let known: BTreeMap<_, _> = old.partitions().collect();
    for (id, state) in new.partitions() {
        if known.get(&id).is_some_and(|before| ***before == **state) {
            continue;
        }
        let Some(topic) = new.topics.get(&id.topic) else {
            continue;
        };
        env.note("metadata", || {
            format!(
                "{}-{}: leader {:?} epoch {} ISR {:?} ELR {:?} of {:?}, partition epoch {}",
                topic.name,
                id.partition,
                state.leader.map(|id| id.0),
                state.leader_epoch,
                state.isr,
                state.elr,
                state.replicas,
                state.partition_epoch
            )
        });
    }
    for broker in new.brokers.values() {
        let before = old.brokers.get(&broker.id);
        if before.is_none_or(|before| {
            before.fenced != broker.fenced
                || before.epoch != broker.epoch
                || before.draining != broker.draining
        }) {
            let state = match (broker.fenced, broker.draining) {
                (true, _) => "fenced",
                (false, true) => "draining",
                (false, false) => "active",
            };
            env.note("metadata", || {
                format!("broker {} is {state} in epoch {}", broker.id, broker.epoch)
            });
        }
    }
    for (id, topic) in &new.topics {
        if old
            .topics
            .get(id)
            .is_none_or(|before| before.config != topic.config)
        {
            env.note("metadata", || {
                format!("{} is configured {:?}", topic.name, topic.config)
            });
        }
    }
}
