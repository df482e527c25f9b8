//! Which broker joins the quorum, leaves it or leaves the cluster next, and by which step.
//!
//! A broker that the spec no longer wants gets no new replicas, gives its vote to another one, and is
//! emptied by the controller. Its process is stopped only once the active controller says, in this
//! very pass, that it has neither replica nor vote; its id is unregistered only once the process is gone.
//! Until then it stays if the spec wants it again. A broker that was added gets its share of the replicas
//! once nothing else is to be done. Nothing is ever done because time has passed, and
//! nothing while the active controller does not answer.
//!
//! Invariants (a model of a cluster): no process with a replica or a vote is stopped; voters change one
//! by one, and a majority of them answers after each change; what is wanted again serves again; repeated
//! steps end with the brokers and voters that the spec wants.

mod departure;
mod members;
#[cfg(test)]
mod model;
mod progress;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use klamm_crds::RebalanceMode;

use crate::allocation::Broker;
use crate::mutation::{Mutation, mutated};
use crate::observed::{
    Admin, BrokerState, ClusterFacts, DrainProgress, QuorumFacts, RebalanceProgress,
};

pub use departure::Process;
pub(crate) use departure::{departed, gone, leaving, processes, taken_back};
pub(crate) use spread::has_share;

/// What scaling is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Every recorded broker.
    pub brokers: &'a [Broker],
    /// Those that the spec no longer wants.
    pub leaving: &'a BTreeSet<i32>,
    /// What Kubernetes has of each broker.
    pub processes: &'a BTreeMap<i32, Process>,
    pub admin: &'a Admin,
    /// Nothing when nobody has told it; no voter changes then.
    pub quorum: Option<&'a QuorumFacts>,
    /// Answers about brokers that are being emptied.
    pub drains: &'a BTreeMap<i32, DrainProgress>,
    /// When replicas move between brokers that stay.
    pub rebalance: RebalanceMode,
    /// Answer about that, once somebody was asked.
    pub rebalance_progress: Option<&'a RebalanceProgress>,
    /// Who voted when the active controller was last heard.
    pub voters_recorded: &'a [i32],
    /// How many brokers shall vote.
    pub voters: usize,
    /// A broker of which no replica has left for so long is told of.
    pub drain_stall_timeout: Duration,
    pub now: Timestamp,
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Brokers and voters are as wanted.
    Settled,
    /// The one thing to be done.
    Step(Step),
    /// What is waited for.
    Waiting { reason: Reason, message: String },
    /// The active controller must be asked how far this broker is emptied.
    Ask(i32),
    /// The active controller must be asked what is left to be moved for every broker to have its share.
    AskRebalance,
}

/// What is waited for. Ascending by how much it matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Replicas move onto brokers that were added.
    Rebalancing,
    /// They do not, as something is missing.
    RebalancePaused,
    /// Replicas are on their way, or an empty broker's process is.
    Draining,
    /// A voter that shall go has to stay for now.
    VoterChange,
    /// Replicas have nowhere to go.
    DrainBlocked,
    /// Nobody who knows can be asked.
    AdminUnreachable,
    /// No replica has left for long.
    DrainStalled,
}

impl Reason {
    /// As a reason of a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rebalancing => "Rebalancing",
            Self::RebalancePaused => "RebalancePaused",
            Self::Draining => "ScalingDown",
            Self::VoterChange => "VoterChange",
            Self::DrainBlocked => "DrainBlocked",
            Self::AdminUnreachable => "AdminUnreachable",
            Self::DrainStalled => "DrainStalled",
        }
    }
}

/// One step. Each may be repeated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// The broker gets no new replicas.
    Cordon(i32),
    /// The broker, wanted again, keeps the replicas that it has.
    CancelDrain(i32),
    /// The broker, wanted again, gets new replicas.
    Uncordon(i32),
    /// The controller moves replicas until every broker has its share.
    StartRebalance,
    /// Replicas that have not moved stay where they are.
    CancelRebalance,
    /// The broker gets the quorum's log, and votes once it has all of it.
    AddVoter(i32),
    /// The voter or learner is a member no longer.
    RemoveVoter { id: i32, directory: String },
    /// The controller moves the broker's replicas to others.
    Drain(i32),
    /// The empty broker's StatefulSet is deleted, and its pod with it.
    Stop(i32),
    /// The stopped broker's id is forgotten by the controller.
    Unregister { id: i32, incarnation: String },
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Scale {
    let undoing = || returning(situation).next().is_some();
    let Some(facts) = situation.admin.confirmed() else {
        if situation.leaving.is_empty() && !undoing() {
            return Scale::Settled;
        }
        let message = "no active controller answers the operator".to_owned();
        return waiting(Reason::AdminUnreachable, message);
    };
    let step = take_back(situation, facts)
        .or_else(|| spread::break_off(situation, facts))
        .or_else(|| cordon(situation, facts))
        .map(Scale::Step);
    step.or_else(|| members::change(situation, facts))
        .or_else(|| drain(situation, facts).map(Scale::Step))
        .or_else(|| remove(situation, facts).map(Scale::Step))
        .or_else(|| progress::wait(situation, facts))
        .or_else(|| spread::decide(situation, facts))
        .unwrap_or(Scale::Settled)
}

fn waiting(reason: Reason, message: String) -> Scale {
    Scale::Waiting { reason, message }
}

/// Brokers that were leaving, and are wanted again.
fn returning<'a>(situation: &Situation<'a>) -> impl Iterator<Item = i32> + use<'a> {
    let leaving = situation.leaving;
    let recorded = situation.brokers.iter().filter(|broker| broker.leaving);
    let ids = recorded.map(|broker| broker.id);
    ids.filter(move |id| !leaving.contains(id))
}

fn take_back(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    returning(situation).find_map(|id| {
        let broker = facts.brokers.get(&id)?;
        if broker.drain {
            return Some(Step::CancelDrain(id));
        }
        let stays = mutated(Mutation::StayCordoned);
        (broker.cordoned && !stays).then_some(Step::Uncordon(id))
    })
}

/// All of them before the first is emptied: none shall get the replicas of another.
fn cordon(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let mut leaving = situation.leaving.iter();
    let open = |id: &&i32| facts.brokers.get(id).is_some_and(|broker| !broker.cordoned);
    leaving.find(open).copied().map(Step::Cordon)
}

fn drain(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let mut leaving = situation.leaving.iter();
    let idle = |id: &&i32| facts.brokers.get(id).is_some_and(|broker| !broker.drain);
    leaving.find(idle).copied().map(Step::Drain)
}

fn remove(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let Situation {
        leaving,
        processes,
        admin,
        voters_recorded,
        ..
    } = *situation;
    let gone = gone(leaving, processes, admin, voters_recorded);
    gone.into_iter().find_map(|id| {
        let process = processes.get(&id).copied().unwrap_or_default();
        if process.stateful_set {
            return Some(Step::Stop(id));
        }
        let broker = facts.brokers.get(&id)?;
        let stopped = !process.pod && broker.state == BrokerState::Fenced;
        stopped.then(|| Step::Unregister {
            id,
            incarnation: broker.incarnation.clone(),
        })
    })
}
