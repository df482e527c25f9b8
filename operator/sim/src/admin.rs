//! The brokers' Admin service: what they answer the operator and what they change for it, as
//! `broker/src/admin` and `broker_core::controller` do it.

use std::collections::BTreeSet;

use operator_plan::dynamic_config::ConfigChange;
use operator_plan::kafka_cluster::Question;
use operator_plan::observed::{
    Answers, Blocker, BlockerReason, BrokerFacts, BrokerState, ClusterFacts, ConfigVerdicts,
    DrainProgress, KeyVerdict, QuorumFacts, QuorumMember, RebalanceProgress, RestartVerdict,
};
use operator_plan::scale::Step;

use crate::brokers::{Brokers, Member, Partition, Registration};
use crate::clock;
use crate::trace::Seconds;

/// Time for which a broker leads nothing before its restart.
const RESTART_LEASE: Seconds = 60;
/// A setting that running brokers take.
pub(crate) const DYNAMIC_KEY: &str = "log.retention.ms";
/// One for which they restart.
pub(crate) const STATIC_KEY: &str = "num.network.threads";

/// Something that the operator asks for.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    RestoreLeaders,
    TransferController,
    Prepare { id: i32, incarnation: String },
    ApplyConfig(ConfigChange),
    AddLearner(i32),
    Promote(i32),
    Scale(Step),
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The quorum is changed later; that is fine.
    Later,
    Failed(&'static str),
}

impl Brokers {
    /// The active controller's answer to DescribeCluster, or without one what others know.
    pub(crate) fn describe(&self) -> ClusterFacts {
        let led = |partition: &&Partition| partition.leader.is_some();
        let count = |partitions: usize| u32::try_from(partitions).unwrap_or(u32::MAX);
        let under = |wanted: fn(&Self, &Partition) -> usize| {
            let partitions = self.partitions.iter();
            count(partitions.filter(|p| p.isr.len() < wanted(self, p)).count())
        };
        ClusterFacts {
            confirmed: self.controller.is_some(),
            controller_id: self.controller,
            voters: self.voters.iter().map(|voter| voter.id).collect(),
            brokers: self
                .registered
                .keys()
                .map(|id| (*id, self.facts(*id)))
                .collect(),
            offline_partitions: count(
                self.partitions.len() - self.partitions.iter().filter(led).count(),
            ),
            under_replicated_partitions: under(|_, partition| partition.replicas.len()),
            under_min_isr_partitions: under(Self::needed),
            rebalancing: self.rebalancing,
            dynamic_config: self.dynamic_config.clone(),
        }
    }

    /// In-sync replicas without which a partition refuses `acks=all`.
    pub(crate) fn needed(&self, partition: &Partition) -> usize {
        self.min_insync.min(partition.replicas.len()).max(1)
    }

    fn facts(&self, id: i32) -> BrokerFacts {
        let broker = &self.registered[&id];
        let count = |carried: &dyn Fn(&Partition) -> bool| {
            let carried = self
                .partitions
                .iter()
                .filter(|partition| carried(partition));
            u32::try_from(carried.count()).unwrap_or(u32::MAX)
        };
        let replicas = count(&|partition| partition.replicas.contains(&id));
        let in_sync = count(&|partition| partition.isr.contains(&id));
        let state = if broker.fenced {
            BrokerState::Fenced
        } else if broker.stopping || broker.lease_until.is_some() {
            BrokerState::Draining
        } else if in_sync < replicas {
            BrokerState::CatchingUp
        } else {
            BrokerState::Serving
        };
        BrokerFacts {
            state,
            incarnation: broker.incarnation.clone(),
            started_at: Some(clock::timestamp(broker.started_at)),
            rack: None,
            replicas,
            in_sync,
            leaders: count(&|partition| partition.leader == Some(id)),
            preferred: count(&|partition| partition.replicas[0] == id),
            preferred_led: count(&|p| p.replicas[0] == id && p.leader == Some(id)),
            cordoned: broker.cordoned,
            drain: broker.drain,
        }
    }

    pub(crate) fn describe_quorum(&self) -> QuorumFacts {
        let described = |member: &Member| QuorumMember {
            id: member.id,
            directory: member.directory.clone(),
            reachable: self.answers(member),
        };
        let is_member = |id: i32, directory: &str| {
            let learners = self.learners.iter().map(|(member, _)| member);
            let mut members = self.voters.iter().chain(learners);
            members.any(|member| member.id == id && member.directory == directory)
        };
        let registered = self.registered.iter();
        QuorumFacts {
            voters: self.voters.iter().map(described).collect(),
            learners: self
                .learners
                .iter()
                .map(|(member, _)| described(member))
                .collect(),
            observers: registered
                .filter(|(id, broker)| !is_member(**id, &broker.directory))
                .map(|(id, broker)| (*id, broker.directory.clone()))
                .collect(),
        }
    }

    pub(crate) fn answer(&self, question: Question, answers: &mut Answers) {
        match question {
            Question::ValidateConfig(properties) => {
                let judge = |(key, _): (String, String)| {
                    let verdict = match key.as_str() {
                        DYNAMIC_KEY => KeyVerdict::Dynamic,
                        STATIC_KEY => KeyVerdict::NeedsRestart,
                        _ => KeyVerdict::Refused(format!("{key} is unknown")),
                    };
                    (key, verdict)
                };
                let verdicts = properties.into_iter().map(judge).collect();
                answers.config = Some(ConfigVerdicts::Known(verdicts));
            }
            Question::CheckRestart(id) => {
                answers.restarts.insert(id, self.check_restart(id));
            }
            Question::DrainStatus(id) => {
                let known = DrainProgress::Known {
                    bytes_left: None,
                    last_progress_at: Some(clock::timestamp(self.last_progress_at(Some(id)))),
                    blocked: self.blocked(id),
                };
                answers.drains.insert(id, known);
            }
            Question::RebalanceStatus => {
                let moving = self
                    .partitions
                    .iter()
                    .filter_map(|partition| partition.moving);
                let moving = moving.filter(|moving| moving.rebalances).count();
                answers.rebalance = Some(RebalanceProgress::Known {
                    partitions_left: u32::try_from(self.uneven()).unwrap_or(u32::MAX),
                    partitions_moving: u32::try_from(moving).unwrap_or(u32::MAX),
                    last_progress_at: Some(clock::timestamp(self.last_progress_at(None))),
                    paused: self.rebalance_pause(),
                });
            }
        }
    }

    fn check_restart(&self, id: i32) -> RestartVerdict {
        if self.controller.is_none() {
            return RestartVerdict::Unknown("there is no active controller".to_owned());
        }
        if !self.registered.contains_key(&id) {
            return RestartVerdict::Unknown(format!("broker {id} is not registered"));
        }
        let mut blockers = Vec::new();
        if self.quorum_needs(id) {
            blockers.push(Blocker {
                partition: None,
                reason: BlockerReason::QuorumLoss,
            });
        }
        for index in self.harmed_without(id) {
            let number = i32::try_from(index).unwrap_or(i32::MAX);
            blockers.push(Blocker {
                partition: Some(("topic".to_owned(), number)),
                reason: BlockerReason::BelowMinIsr,
            });
        }
        if blockers.is_empty() {
            return RestartVerdict::Safe;
        }
        let total = u32::try_from(blockers.len()).unwrap_or(u32::MAX);
        RestartVerdict::Unsafe { blockers, total }
    }

    /// Whether no majority of the voters would be left without the broker. Of one or two voters each
    /// belongs to every majority: that is accepted.
    pub(crate) fn quorum_needs(&self, id: i32) -> bool {
        let remains = |voter: &&Member| voter.id != id && self.answers(voter);
        let left = self.voters.iter().filter(remains).count();
        let spare = self.voters.len() > 2 || left + 1 < self.voters.len();
        self.votes(id) && left * 2 <= self.voters.len() && spare
    }

    /// Partitions that would fall below `min.insync.replicas` or lose their leader without the broker,
    /// except where that cannot be avoided.
    pub(crate) fn harmed_without(&self, id: i32) -> BTreeSet<usize> {
        let remains = |other: &&i32| **other != id && self.is_wanted_as_leader(**other);
        let is_harmed = |partition: &Partition| {
            let left = partition.isr.iter().filter(remains).count();
            let needed = self.needed(partition);
            let accepted = partition.replicas.len() == 1
                || needed == partition.replicas.len() && left + 1 >= needed && left > 0;
            partition.isr.contains(&id) && left < needed && !accepted
        };
        let partitions = self.partitions.iter().enumerate();
        let harmed = partitions.filter(|(_, partition)| is_harmed(partition));
        harmed.map(|(index, _)| index).collect()
    }

    /// A change, asked for by the operator of that epoch.
    pub(crate) fn change(&mut self, epoch: u64, request: &Request) -> Result<(), Refusal> {
        let Some(controller) = self.controller else {
            return Err(Refusal::Failed("there is no active controller"));
        };
        if epoch < self.operator_epoch {
            return Err(Refusal::Failed("another operator has taken over"));
        }
        self.operator_epoch = epoch;
        self.version += 1;
        match request {
            Request::RestoreLeaders => self.restore_leaders(None),
            Request::TransferController => self.transfer(controller)?,
            Request::Prepare { id, incarnation } => self.prepare(*id, incarnation)?,
            Request::ApplyConfig(change) => {
                self.dynamic_config.extend(change.set.clone());
                self.dynamic_config
                    .retain(|key, _| !change.reset.contains(key));
            }
            Request::AddLearner(id) => self.add_learner(*id)?,
            Request::Promote(id) => self.promote(*id)?,
            Request::Scale(step) => self.scale(step, controller)?,
        }
        Ok(())
    }

    fn transfer(&mut self, controller: i32) -> Result<(), Refusal> {
        let able = |voter: &&Member| voter.id != controller && self.answers(voter);
        let able = self.voters.iter().filter(able).map(|voter| voter.id);
        let able: Vec<i32> = able.collect();
        let next = self.random.pick(&able).copied();
        self.controller = Some(next.ok_or(Refusal::Failed("no other voter can take over"))?);
        Ok(())
    }

    fn prepare(&mut self, id: i32, incarnation: &str) -> Result<(), Refusal> {
        let until = self.now + RESTART_LEASE;
        let broker = self.registered.get_mut(&id);
        let broker = broker.filter(|broker| broker.incarnation == incarnation);
        let broker = broker.ok_or(Refusal::Failed("another process of the broker runs"))?;
        broker.lease_until = Some(until);
        self.lead();
        Ok(())
    }

    fn scale(&mut self, step: &Step, controller: i32) -> Result<(), Refusal> {
        let now = self.now;
        match step {
            Step::Cordon(id) => self.registration(*id)?.cordoned = true,
            Step::Uncordon(id) => self.registration(*id)?.cordoned = false,
            Step::Drain(id) => self.registration(*id)?.begin_to_drain(now),
            Step::CancelDrain(id) => self.registration(*id)?.drain = false,
            Step::StartRebalance => self.rebalancing = true,
            Step::CancelRebalance => self.rebalancing = false,
            Step::RemoveVoter { id, directory } => {
                let member = Member {
                    id: *id,
                    directory: directory.clone(),
                };
                return self.remove_voter(&member, controller);
            }
            Step::Unregister { id, incarnation } => {
                let broker = self.registration(*id)?;
                let stopped = broker.incarnation == *incarnation && broker.fenced;
                if !stopped || self.replicas(*id) > 0 {
                    return Err(Refusal::Failed("the broker is alive or has replicas"));
                }
                self.registered.remove(id);
            }
            Step::AddVoter(_) | Step::Stop(_) => {}
        }
        Ok(())
    }

    fn registration(&mut self, id: i32) -> Result<&mut Registration, Refusal> {
        let broker = self.registered.get_mut(&id);
        broker.ok_or(Refusal::Failed("the broker is not registered"))
    }

    fn add_learner(&mut self, id: i32) -> Result<(), Refusal> {
        let broker = self.registered.get(&id);
        let broker = broker.ok_or(Refusal::Failed("the broker is not registered"))?;
        let member = Member {
            id,
            directory: broker.directory.clone(),
        };
        let learners = self.learners.iter().map(|(learner, _)| learner);
        match self
            .voters
            .iter()
            .chain(learners)
            .find(|known| known.id == id)
        {
            Some(known) if *known == member => Ok(()),
            Some(_) => Err(Refusal::Failed("the broker is a member already")),
            None => {
                let has_log_at = self.now + self.random.range(0, 10);
                self.learners.push((member, has_log_at));
                Ok(())
            }
        }
    }

    fn promote(&mut self, id: i32) -> Result<(), Refusal> {
        if self.votes(id) {
            return Ok(());
        }
        let mut learners = self.learners.iter();
        let learner = learners.find(|(learner, _)| learner.id == id).cloned();
        let (member, has_log_at) = learner.ok_or(Refusal::Failed("no such learner"))?;
        let promoted = [self.voters.as_slice(), std::slice::from_ref(&member)].concat();
        let caught_up = has_log_at <= self.now && self.answers(&member);
        if !caught_up || !self.has_majority(&promoted) {
            return Err(Refusal::Later);
        }
        self.learners.retain(|(learner, _)| learner.id != id);
        self.voters = promoted;
        Ok(())
    }

    fn remove_voter(&mut self, member: &Member, controller: i32) -> Result<(), Refusal> {
        if self.learners.iter().any(|(learner, _)| learner == member) {
            self.learners.retain(|(learner, _)| learner != member);
            return Ok(());
        }
        if !self.voters.contains(member) {
            return Err(Refusal::Failed("no such voter"));
        }
        let others = self.voters.iter().filter(|voter| *voter != member);
        let others: Vec<Member> = others.cloned().collect();
        if others.is_empty() || !self.has_majority(&others) {
            return Err(Refusal::Later);
        }
        // The active controller hands over first.
        if member.id == controller {
            self.transfer(controller)?;
            return Err(Refusal::Later);
        }
        self.voters = others;
        Ok(())
    }
}
