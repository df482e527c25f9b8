//! A process's life in the cluster: it registers, heartbeats, proposes ISR changes and leaves in
//! order. Mirrors `broker/src/controller/registration.rs` and `broker/src/partition/manager.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::controller::{
    AlterPartition, AlterPartitions, BrokerRef, Command, CommandError, RegisterBroker, Response,
};
use broker_core::lease::Lease;
use broker_core::metadata::{self, Endpoint};
use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::IsrProposal;
use broker_core::{BrokerEpoch, BrokerId, Duration, PartitionEpoch, Time, TopicPartition};

use super::process::Process;
use super::storage::LastRun;
use crate::env::Env;
use crate::event::{BrokerTimer, HeartbeatAnswer, Message, NotController, Peer};
use crate::trace::Micros;

const HEARTBEAT_INTERVAL: Micros = 150_000;
/// While the broker waits to be registered, unfenced or stopped.
const IMPATIENT_INTERVAL: Micros = 40_000;
/// Without an answer for so long, a stream or request is given up.
const SILENCE_MAX: Micros = 500_000;
const LEASE_EXTENSION_INTERVAL: Micros = 100_000;
/// The session's time-out without a heartbeat's interval and a margin, as the product has it.
const LEASE_DURATION: Duration = Duration::from_millis(750);
/// A controlled shutdown that takes longer ends all the same.
const SHUTDOWN_WAIT_MAX: Micros = 1_500_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Membership {
    last_run: LastRun,
    pub(super) epoch: Option<BrokerEpoch>,
    /// The heartbeat stream, to the controller of that time.
    pub(super) stream: Option<u64>,
    controller: Option<usize>,
    heard: Micros,
    fenced: bool,
    lease: Lease,
    pub(super) wants_shutdown: Option<Micros>,
    pub(super) may_stop: bool,
    registering: Option<u64>,
    asked: Micros,
    incarnation: Option<u64>,
    /// ISR proposals without an answer.
    proposals: BTreeMap<u64, Vec<(TopicPartition, PartitionEpoch)>>,
}

impl Membership {
    pub(super) fn new(last_run: LastRun) -> Self {
        Self {
            last_run,
            epoch: None,
            stream: None,
            controller: None,
            heard: 0,
            fenced: true,
            lease: Lease::default(),
            wants_shutdown: None,
            may_stop: false,
            registering: None,
            asked: 0,
            incarnation: None,
            proposals: BTreeMap::new(),
        }
    }
}

impl Process {
    /// The process runs: it may go on leading.
    pub(super) fn extend_lease(&self, env: &mut Env) {
        let now = env.time(self.index);
        self.membership.lease.extend(now, LEASE_DURATION);
        env.timer(self.index, LEASE_EXTENSION_INTERVAL, BrokerTimer::Lease);
    }

    /// Whether clients may be served by what this process leads.
    pub(super) fn holds_lease(&self, env: &Env) -> bool {
        self.membership.lease.holds(env.time(self.index))
    }

    pub(super) fn heartbeat(&mut self, env: &mut Env) {
        match self.membership.epoch {
            None => self.register(env),
            Some(epoch) => self.send_heartbeat(env, epoch),
        }
        let membership = &mut self.membership;
        membership.may_stop |= membership
            .wants_shutdown
            .is_some_and(|since| env.now > since + SHUTDOWN_WAIT_MAX);
        let impatient = membership.fenced || membership.wants_shutdown.is_some();
        let delay = if impatient {
            IMPATIENT_INTERVAL
        } else {
            HEARTBEAT_INTERVAL
        };
        env.timer(self.index, delay, BrokerTimer::Heartbeat);
    }

    fn register(&mut self, env: &mut Env) {
        let membership = &mut self.membership;
        if membership.registering.is_some() && env.now < membership.asked + SILENCE_MAX {
            return;
        }
        let incarnation = *membership.incarnation.get_or_insert_with(|| env.next_id());
        let command = Command::RegisterBroker(Box::new(RegisterBroker {
            cluster_id: "sim".to_owned(),
            registration: metadata::RegisterBroker {
                broker_id: self.index as i32,
                incarnation: format!("process {incarnation}"),
                endpoints: vec![Endpoint {
                    listener: "PLAINTEXT".to_owned(),
                    host: format!("broker-{}", self.index),
                    port: 9092,
                }],
                rpc_host: format!("broker-{}", self.index),
                rpc_port: 9090,
                ..metadata::RegisterBroker::default()
            },
            previous_broker_epoch: membership.last_run.lossless_epoch.0,
            disks_broker_epoch: membership.last_run.epoch.0,
        }));
        membership.asked = env.now;
        self.membership.registering = self.submit(env, command);
    }

    fn submit(&self, env: &mut Env, command: Command) -> Option<u64> {
        let controller = env.controller?;
        let request = env.next_id();
        let command = Box::new(command);
        let message = Message::Submit {
            request,
            run: env.runs[self.index],
            sent_at: env.now,
            command,
        };
        env.send_command(self.peer(), Peer::Broker(controller), &message);
        Some(request)
    }

    fn send_heartbeat(&mut self, env: &mut Env, epoch: BrokerEpoch) {
        let applied = if mutated(Mutation::ReportKnownMetadata) {
            self.known_offset
        } else {
            self.applied
        };
        let offset = applied as u64;
        let membership = &mut self.membership;
        let silent = env.now > membership.heard + SILENCE_MAX;
        if membership.stream.is_none() || silent || membership.controller != env.controller {
            membership.stream = Some(env.next_id());
            membership.controller = env.controller;
            membership.heard = env.now;
        }
        let (Some(stream), Some(controller)) = (membership.stream, membership.controller) else {
            return;
        };
        let wants_shutdown = membership.wants_shutdown.is_some();
        let heartbeat = Message::Heartbeat {
            stream,
            sent_at: env.time(self.index),
            epoch,
            offset,
            wants_shutdown,
        };
        env.send(
            Peer::Broker(self.index),
            Peer::Broker(controller),
            heartbeat,
        );
    }

    pub(super) fn handle_heartbeat_answer(
        &mut self,
        env: &mut Env,
        stream: u64,
        sent_at: Time,
        answer: HeartbeatAnswer,
    ) {
        let membership = &mut self.membership;
        if membership.stream != Some(stream) {
            return;
        }
        membership.heard = env.now;
        match answer {
            HeartbeatAnswer::Heard {
                fenced,
                may_shutdown,
            } => {
                membership.fenced = fenced;
                if fenced {
                    membership.lease.end();
                } else {
                    membership.lease.accept(sent_at, LEASE_DURATION);
                }
                if may_shutdown && membership.wants_shutdown.is_some() && !membership.may_stop {
                    membership.may_stop = true;
                    let (me, image) = (BrokerId(self.index as i32), Arc::clone(env.image()));
                    env.check.may_stop(env.now, me, &image);
                }
            }
            HeartbeatAnswer::StaleEpoch => {
                membership.lease.end();
                membership.epoch = None;
                membership.stream = None;
            }
            HeartbeatAnswer::NotController => membership.stream = None,
        }
    }

    pub(super) fn handle_submitted(
        &mut self,
        env: &mut Env,
        request: u64,
        result: Result<Box<Response>, NotController>,
    ) {
        if self.membership.registering == Some(request) {
            self.membership.registering = None;
            if let Ok(Response::RegisterBroker(registered)) = result.as_deref() {
                let epoch = BrokerEpoch(registered.broker_epoch);
                self.membership.epoch = Some(epoch);
                env.note(self.peer(), || format!("is registered under epoch {epoch}"));
            }
            return;
        }
        let Some(proposed) = self.membership.proposals.remove(&request) else {
            return;
        };
        let Ok(Response::AlterPartitions(answered)) = result.as_deref() else {
            return;
        };
        let now = env.time(self.index);
        let mut due = BTreeSet::new();
        for (answer, (id, partition_epoch)) in answered.partitions.iter().zip(proposed) {
            let Some(failure) = &answer.failure else {
                continue;
            };
            let kind = failure.error();
            env.note(self.peer(), || {
                format!("is refused an ISR change of {id}: {kind:?}")
            });
            if let Some(hosted) = self.hosted.get_mut(&id).filter(|_| is_final(kind)) {
                hosted.replica.handle_isr_refused(now, partition_epoch);
                due.insert(id);
            }
        }
        self.propose_isr(env, &due);
    }

    pub(super) fn propose_isr(&mut self, env: &mut Env, due: &BTreeSet<TopicPartition>) {
        let now = env.time(self.index);
        let Some(epoch) = self.membership.epoch else {
            return;
        };
        let leader = BrokerRef {
            broker_id: self.index as i32,
            broker_epoch: epoch.0,
        };
        let (mut partitions, mut proposed) = (Vec::new(), Vec::new());
        for id in due {
            let Some(hosted) = self.hosted.get_mut(id) else {
                continue;
            };
            let log_end = hosted.log.end_offset();
            // Who is fenced is not looked at: that only spares questions, and refusals test more.
            let Some(proposal) = hosted.replica.handle_tick(now, log_end, |_| true) else {
                continue;
            };
            let members: Vec<i32> = proposal.isr.iter().map(|member| member.broker.0).collect();
            let name = format!("{}-{}", hosted.topic, id.partition);
            env.note(Peer::Broker(self.index), || {
                format!("proposes ISR {members:?} for {name}")
            });
            proposed.push((*id, proposal.partition_epoch));
            partitions.push(self.command(leader, &proposal, *id));
        }
        if partitions.is_empty() {
            return;
        }
        let command = Command::AlterPartitions(AlterPartitions { leader, partitions });
        if let Some(request) = self.submit(env, command) {
            self.membership.proposals.insert(request, proposed);
        }
    }

    fn command(
        &self,
        leader: BrokerRef,
        proposal: &IsrProposal,
        id: TopicPartition,
    ) -> AlterPartition {
        let registered = |id| {
            self.known
                .brokers
                .get(&id)
                .map_or(-1, |broker| broker.epoch.0)
        };
        let member = |member: &broker_core::partition::IsrMember| BrokerRef {
            broker_id: member.broker.0,
            broker_epoch: match member.epoch {
                Some(epoch) => epoch.0,
                None if member.broker == self.me() => leader.broker_epoch,
                None => registered(member.broker),
            },
        };
        AlterPartition {
            topic_id: id.topic.into(),
            partition: id.partition.0,
            leader_epoch: proposal.leader_epoch.0,
            partition_epoch: proposal.partition_epoch.0,
            new_isr: proposal.isr.iter().map(member).collect(),
        }
    }
}

/// Whether a refused proposal can't have taken effect.
const fn is_final(refusal: CommandError) -> bool {
    !matches!(
        refusal,
        CommandError::InvalidPartitionEpoch
            | CommandError::FencedLeaderEpoch
            | CommandError::NotController
            | CommandError::TimedOut
    )
}
