//! Which broker, if any, is brought to its newest revision now, and by which step.
//!
//! A running broker is stopped only when every other one has settled (see [`settle`]), the active
//! controller has said that this one may stop, and its leaders were moved away. The active controller
//! goes last, after another voter has taken over. A pod that does not run has nothing to lose and
//! gets the newest revision without all that, so that a bad one can be repaired; but never while a
//! pod of the newest revision does not run. Whatever is not known forbids: no time-out ever restarts
//! anything. Nothing is remembered from pass to pass: a broker whose restart is prepared is found by
//! its state.
//!
//! Invariants (property tests and a model of a cluster): one step at a time; at most one running
//! broker is stopped, and none while another one is missing; repeated steps end with every pod up to
//! date when brokers come back; a revision that does not start stops at one broker.

mod blockers;
mod settle;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::broker_pod::{BrokerPod, PodState};
use crate::mutation::{Mutation, mutated};
use crate::observed::{Admin, Answers, BrokerState, RestartVerdict};

pub use settle::hindrance;

/// How carefully brokers are restarted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long every broker must have been ready.
    pub soak: Duration,
    /// How many of its preferred partitions a broker must lead.
    pub preferred_leaders_min_pct: u32,
    /// Brokers that are not restarted.
    pub hold: Vec<i32>,
}

/// What a rollout is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub brokers: &'a [BrokerPod],
    pub admin: &'a Admin,
    pub answers: &'a Answers,
    pub policy: &'a Policy,
    pub now: Timestamp,
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rollout {
    /// Every pod is of the newest revision.
    UpToDate,
    /// The one thing to be done.
    Step(Step),
    /// Pods are outdated; why none is replaced.
    Waiting(Wait),
    /// The active controller must be asked whether this broker may stop.
    Ask(i32),
}

/// One step of a rollout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Leaders go back to the replicas that shall lead.
    RestoreLeaders { why: String },
    /// Another voter becomes the active controller.
    TransferController { id: i32 },
    /// The broker's leaders are moved away.
    Prepare { id: i32, incarnation: String },
    /// The pod is deleted, if there is one, and made anew.
    Replace { id: i32, reason: &'static str },
}

/// Why a rollout waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wait {
    pub reason: WaitReason,
    /// What is waited for and, where somebody has to do something, what.
    pub message: String,
}

/// What a rollout waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitReason {
    /// Brokers, or the news of them, have yet to arrive.
    Settling,
    /// A pod has no node.
    Unscheduled,
    /// Nobody who knows can be asked.
    AdminUnreachable,
    /// A broker recovers its log or catches up with the metadata.
    Recovering,
    /// Replicas are not in sync.
    CatchingUp,
    /// Partitions have no leader.
    PartitionsOffline,
    /// Brokers have not been ready for long enough.
    Soaking,
    /// The active controller says that stopping the next broker would harm.
    Blocked,
    /// The newest revision does not start.
    CanaryFailed,
    /// The user holds the brokers that are left.
    Held,
}

impl WaitReason {
    /// As a reason of a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settling => "Settling",
            Self::Unscheduled => "Unscheduled",
            Self::AdminUnreachable => "AdminUnreachable",
            Self::Recovering => "Recovering",
            Self::CatchingUp => "CatchingUp",
            Self::PartitionsOffline => "PartitionsOffline",
            Self::Soaking => "Soaking",
            Self::Blocked => "Blocked",
            Self::CanaryFailed => "CanaryFailed",
            Self::Held => "Held",
        }
    }
}

impl Wait {
    fn new(reason: WaitReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Rollout {
    let Situation {
        brokers, policy, ..
    } = situation;
    let mut outdated = brokers.iter().filter(|broker| broker.outdated);
    if outdated.clone().next().is_none() {
        return Rollout::UpToDate;
    }
    if outdated.all(|broker| is_held(policy, broker.id)) {
        let held = "every broker that is left is in spec.hold: remove it there to go on";
        return Rollout::Waiting(Wait::new(WaitReason::Held, held));
    }
    if let Some(id) = repairable(situation) {
        let reason = "its pod does not run";
        return Rollout::Step(Step::Replace { id, reason });
    }
    if let Some(wait) = canary_failed(brokers) {
        return Rollout::Waiting(wait);
    }
    let candidate = candidate(situation);
    let prepared = candidate.filter(|broker| is_prepared(situation, broker));
    if let Some(wait) = hindrance(situation, prepared.map(|broker| broker.id)) {
        return Rollout::Waiting(wait);
    }
    if prepared.is_none() {
        if let Some(why) = settle::unbalanced(situation) {
            return Rollout::Step(Step::RestoreLeaders { why });
        }
        if let Some(wait) = settle::soaking(situation) {
            return Rollout::Waiting(wait);
        }
    }
    candidate.map_or(Rollout::UpToDate, |broker| stop(situation, broker))
}

/// An outdated broker without a process, which may get the newest revision: it loses nothing.
///
/// Not while a pod of the newest revision does not run, which may not be able to. One that runs and is
/// not ready proves nothing yet, unless no broker can be asked: then it may wait for this one. Pods
/// that have failed go first: others may come back by themselves.
fn repairable(situation: &Situation<'_>) -> Option<i32> {
    let current = || situation.brokers.iter().filter(|broker| !broker.outdated);
    let proven = current().all(|broker| broker.pod == PodState::Ready);
    let run = current().all(|broker| broker.pod.runs());
    let alone = run && situation.admin.confirmed().is_none();
    if !(proven || alone) {
        return None;
    }
    let may = |broker: &&BrokerPod| {
        let has_nothing = !broker.pod.runs()
            || broker.pod == PodState::Starting && mutated(Mutation::ReplaceStartingPods);
        broker.outdated && has_nothing && !is_held(situation.policy, broker.id)
    };
    let due = situation.brokers.iter().filter(may);
    due.min_by_key(|broker| (!has_failed(broker), broker.id))
        .map(|broker| broker.id)
}

fn has_failed(broker: &BrokerPod) -> bool {
    matches!(&broker.pod, PodState::NotRunning(why) if is_failure(why))
}

fn canary_failed(brokers: &[BrokerPod]) -> Option<Wait> {
    let failed = |broker: &BrokerPod| match &broker.pod {
        PodState::NotRunning(why) if !broker.outdated && is_failure(why) => Some(Wait::new(
            WaitReason::CanaryFailed,
            format!(
                "broker {} does not start on the newest revision ({why}) and no other one is \
                 restarted: correct the spec, or restore the former one; kubectl describe and logs \
                 of its pod tell more",
                broker.id
            ),
        )),
        _ => None,
    };
    brokers.iter().find_map(failed)
}

/// Whether a container that waits for that reason waits for somebody to do something.
fn is_failure(why: &str) -> bool {
    why.ends_with("BackOff")
        || why.ends_with("Error")
        || why.starts_with("Err")
        || why == "InvalidImageName"
}

/// The next one: the one that is prepared already; else those that do not vote before those that do,
/// the active controller last, and one zone after the other.
fn candidate<'a>(situation: &Situation<'a>) -> Option<&'a BrokerPod> {
    let facts = situation.admin.confirmed();
    let class = |id: i32| match facts {
        _ if mutated(Mutation::RestartVotersFirst) => 0,
        Some(facts) if facts.controller_id == Some(id) => 2,
        Some(facts) if facts.voters.contains(&id) => 1,
        _ => 0,
    };
    let due = |broker: &&BrokerPod| broker.outdated && !is_held(situation.policy, broker.id);
    situation.brokers.iter().filter(due).min_by_key(|broker| {
        let next = !is_prepared(situation, broker);
        (next, class(broker.id), broker.zone.as_deref(), broker.id)
    })
}

/// Whether the user wants the broker left alone.
fn is_held(policy: &Policy, id: i32) -> bool {
    policy.hold.contains(&id) && !mutated(Mutation::IgnoreHold)
}

fn is_prepared(situation: &Situation<'_>, broker: &BrokerPod) -> bool {
    let facts = situation.admin.broker(broker.id);
    broker.pod == PodState::Ready && facts.is_some_and(|facts| facts.state == BrokerState::Draining)
}

/// The next step towards stopping a broker, with nothing else in the way.
fn stop(situation: &Situation<'_>, broker: &BrokerPod) -> Rollout {
    let id = broker.id;
    match situation.answers.restarts.get(&id) {
        None => return Rollout::Ask(id),
        Some(RestartVerdict::Safe) => {}
        Some(RestartVerdict::Unsafe { .. }) if mutated(Mutation::IgnoreRestartVerdict) => {}
        Some(RestartVerdict::Unknown(why)) => {
            let message = format!("nobody can tell whether broker {id} may stop: {why}");
            return Rollout::Waiting(Wait::new(WaitReason::AdminUnreachable, message));
        }
        Some(RestartVerdict::Unsafe { blockers, total }) => {
            let message = blockers::message(id, blockers, *total);
            return Rollout::Waiting(Wait::new(WaitReason::Blocked, message));
        }
    }
    let controls = situation
        .admin
        .confirmed()
        .is_some_and(|facts| facts.controller_id == Some(id) && facts.voters.len() > 1);
    if controls && !mutated(Mutation::StopActiveController) {
        return Rollout::Step(Step::TransferController { id });
    }
    let facts = situation.admin.broker(id);
    let is_ready = is_prepared(situation, broker) || mutated(Mutation::SkipPreparation);
    match facts.filter(|_| !is_ready) {
        Some(facts) => Rollout::Step(Step::Prepare {
            id,
            incarnation: facts.incarnation.clone(),
        }),
        None => Rollout::Step(Step::Replace {
            id,
            reason: "its configuration changed",
        }),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
