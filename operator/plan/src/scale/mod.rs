//! Which broker joins the quorum, leaves it or leaves the cluster next, and by which step.
//!
//! A broker that the spec no longer wants gets no new replicas, gives its vote to another one, and is
//! emptied by the controller. Its process is stopped only once the active controller says, in this
//! very pass, that it has neither replica nor vote; its id is unregistered only once the process is gone.
//! Until then it stays if the spec wants it again. Nothing is ever done because time has passed, and
//! nothing while the active controller does not answer.
//!
//! Invariants (a model of a cluster): no process with a replica or a vote is stopped; voters change one
//! by one; what is wanted again serves again; repeated steps end with the brokers and voters that the
//! spec wants.

mod departure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::allocation::Broker;
use crate::observed::{Admin, BrokerState, ClusterFacts, DrainProgress};
use crate::voters;

pub use departure::Process;
pub(crate) use departure::{departed, gone, leaving, processes, taken_back};

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
    /// Answers about brokers that are being emptied.
    pub drains: &'a BTreeMap<i32, DrainProgress>,
    /// Who voted when the active controller was last heard.
    pub voters_recorded: &'a [i32],
    /// How many brokers shall vote.
    pub voters: usize,
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Brokers and voters are as wanted.
    Settled,
    /// The one thing to be done.
    Step(Step),
    /// What is waited for.
    Waiting {
        reason: &'static str,
        message: String,
    },
    /// The active controller must be asked how far this broker is emptied.
    Ask(i32),
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
    /// The broker gets the quorum's log, and votes once it has all of it.
    AddVoter(i32),
    RemoveVoter(i32),
    /// The controller moves the broker's replicas to others.
    Drain(i32),
    /// The empty broker's StatefulSet is deleted, and its pod with it.
    Stop(i32),
    /// The stopped broker's id is forgotten by the controller.
    Unregister {
        id: i32,
        incarnation: String,
    },
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
        return waiting("AdminUnreachable", message);
    };
    let step = take_back(situation, facts)
        .or_else(|| cordon(situation, facts))
        .map(Scale::Step);
    step.or_else(|| vote(situation, facts))
        .or_else(|| drain(situation, facts).map(Scale::Step))
        .or_else(|| remove(situation, facts).map(Scale::Step))
        .or_else(|| wait(situation, facts))
        .unwrap_or(Scale::Settled)
}

fn waiting(reason: &'static str, message: String) -> Scale {
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
        broker.cordoned.then_some(Step::Uncordon(id))
    })
}

/// All of them before the first is emptied: none shall get the replicas of another.
fn cordon(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let mut leaving = situation.leaving.iter();
    let open = |id: &&i32| facts.brokers.get(id).is_some_and(|broker| !broker.cordoned);
    leaving.find(open).copied().map(Step::Cordon)
}

/// One change of the voters: a new one joins before an old one goes, the active controller last.
fn vote(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Scale> {
    let stays = |broker: &&Broker| !situation.leaving.contains(&broker.id);
    let staying = situation.brokers.iter().filter(stays);
    // A voter that is down keeps its place: it may come back with its log at any time.
    let able = |id: i32| facts.voters.contains(&id) || situation.admin.serves(id);
    let able: Vec<_> = staying
        .clone()
        .filter(|broker| able(broker.id))
        .map(|broker| (broker.id, broker.zone.as_deref()))
        .collect();
    let wanted = voters::choose(&able, &facts.voters, situation.voters);
    let mut joining = wanted.iter().filter(|id| !facts.voters.contains(id));
    if let Some(id) = joining.next() {
        return Some(Scale::Step(Step::AddVoter(*id)));
    }
    let surplus = facts.voters.iter().filter(|id| !wanted.contains(id));
    let next = surplus.min_by_key(|id| (facts.controller_id == Some(**id), **id))?;
    if wanted.len() < situation.voters.min(staying.count()).max(1) {
        let message =
            format!("broker {next} votes until another one serves that can take its place");
        return Some(waiting("VoterChange", message));
    }
    Some(Scale::Step(Step::RemoveVoter(*next)))
}

fn drain(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let mut leaving = situation.leaving.iter();
    let idle = |id: &&i32| facts.brokers.get(id).is_some_and(|broker| !broker.drain);
    leaving.find(idle).copied().map(Step::Drain)
}

fn remove(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Step> {
    let gone = gone(situation);
    gone.into_iter().find_map(|id| {
        let process = situation.processes.get(&id).copied().unwrap_or_default();
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

fn wait(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Scale> {
    let id = *situation.leaving.first()?;
    let replicas = facts.brokers.get(&id).map_or(0, |broker| broker.replicas);
    if replicas == 0 {
        let message = format!("broker {id}, which is empty, is stopping");
        return Some(waiting("ScalingDown", message));
    }
    let Some(drain) = situation.drains.get(&id) else {
        return Some(Scale::Ask(id));
    };
    Some(match drain {
        DrainProgress::Known { blocked: Some(why) } => waiting(
            "DrainBlocked",
            format!("{replicas} replicas of broker {id} are left, and some cannot move: {why}"),
        ),
        DrainProgress::Known { blocked: None } => waiting(
            "ScalingDown",
            format!("{replicas} replicas of broker {id} are left and move to others"),
        ),
        DrainProgress::Unknown(why) => waiting(
            "AdminUnreachable",
            format!("nobody can tell how far broker {id} is emptied: {why}"),
        ),
    })
}
