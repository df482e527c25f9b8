//! Whether the cluster has settled since the last restart: the gate before every next one.
//!
//! Ready is not enough, nor is in sync: leaders have to be back where they belong, and some time has
//! to pass. A broker that recovers is waited for without end.

use k8s_openapi::jiff::SignedDuration;

use super::{Situation, Wait, WaitReason};
use crate::broker_pod::{BrokerPod, PodState};
use crate::mutation::{Mutation, mutated};
use crate::observed::{BrokerFacts, BrokerState, ClusterFacts};

/// What is missing, so that no running broker may be stopped. `prepared` is the broker whose restart
/// is under way, and which therefore leads nothing.
#[must_use]
pub fn hindrance(situation: &Situation<'_>, prepared: Option<i32>) -> Option<Wait> {
    let brokers = situation.brokers;
    if let Some(wait) = brokers.iter().find_map(not_ready)
        && !mutated(Mutation::IgnoreUnreadyPods)
    {
        return Some(wait);
    }
    let Some(facts) = situation.admin.confirmed() else {
        let message = "no active controller answers the operator: a majority of the voters must run \
                       and be reachable";
        return Some(Wait::new(WaitReason::AdminUnreachable, message));
    };
    let mut others = brokers.iter().filter(|broker| Some(broker.id) != prepared);
    if let Some(wait) = others.find_map(|broker| not_serving(broker, facts.brokers.get(&broker.id)))
        && !mutated(Mutation::IgnoreBrokerStates)
    {
        return Some(wait);
    }
    not_replicated(facts)
}

fn not_ready(broker: &BrokerPod) -> Option<Wait> {
    let id = broker.id;
    let settling = |message: String| Some(Wait::new(WaitReason::Settling, message));
    match &broker.pod {
        PodState::Ready => None,
        PodState::NotRunning(why) if why == "Unschedulable" => Some(Wait::new(
            WaitReason::Unscheduled,
            format!(
                "no node can take the pod of broker {id}: kubectl describe of the pod says why not"
            ),
        )),
        PodState::NotRunning(why) => {
            settling(format!("the pod of broker {id} does not run ({why})"))
        }
        PodState::Absent => settling(format!("broker {id} has no pod")),
        PodState::Terminating => settling(format!("the pod of broker {id} is stopping")),
        PodState::Starting => Some(Wait::new(
            WaitReason::Recovering,
            format!("broker {id} is starting or recovering its log"),
        )),
    }
}

fn not_serving(broker: &BrokerPod, facts: Option<&BrokerFacts>) -> Option<Wait> {
    let id = broker.id;
    let Some(facts) = facts else {
        let message = format!("broker {id} has not registered yet");
        return Some(Wait::new(WaitReason::Settling, message));
    };
    if !is_of_pod(broker, facts) {
        let message = format!("the controller has not heard of the new process of broker {id}");
        return Some(Wait::new(WaitReason::Settling, message));
    }
    match facts.state {
        BrokerState::Serving => None,
        BrokerState::CatchingUp if mutated(Mutation::IgnoreCatchUp) => None,
        BrokerState::CatchingUp => Some(Wait::new(
            WaitReason::CatchingUp,
            format!(
                "{} of {} replicas of broker {id} are in sync",
                facts.in_sync, facts.replicas
            ),
        )),
        BrokerState::Fenced => Some(Wait::new(
            WaitReason::Recovering,
            format!("broker {id} does not serve yet"),
        )),
        BrokerState::Draining => Some(Wait::new(
            WaitReason::Settling,
            format!("broker {id} is giving its leaders away"),
        )),
    }
}

/// Whether the process that the controller knows is one of the pod, and not of the pod before it.
/// Both times are of the same node's clock; a pod has whole seconds.
fn is_of_pod(broker: &BrokerPod, facts: &BrokerFacts) -> bool {
    let Some(taken_up) = broker.taken_up else {
        return true;
    };
    facts.started_at.is_some_and(|started| started >= taken_up)
}

fn not_replicated(facts: &ClusterFacts) -> Option<Wait> {
    if facts.offline_partitions > 0 {
        let message = format!(
            "{} partitions have no leader: bring their brokers back",
            facts.offline_partitions
        );
        return Some(Wait::new(WaitReason::PartitionsOffline, message));
    }
    if facts.under_replicated_partitions > 0 && !mutated(Mutation::IgnoreCatchUp) {
        let message = format!(
            "{} partitions are not fully in sync",
            facts.under_replicated_partitions
        );
        return Some(Wait::new(WaitReason::CatchingUp, message));
    }
    None
}

/// Which broker leads too little of what it should, if one does.
pub(super) fn unbalanced(situation: &Situation<'_>) -> Option<String> {
    let facts = situation.admin.confirmed()?;
    let min_pct = u64::from(situation.policy.preferred_leaders_min_pct);
    let too_few = |broker: &BrokerFacts| {
        u64::from(broker.preferred_led) * 100 < u64::from(broker.preferred) * min_pct
    };
    let (id, broker) = facts.brokers.iter().find(|(_, broker)| too_few(broker))?;
    Some(format!(
        "broker {id} leads {} of the {} partitions that it should lead",
        broker.preferred_led, broker.preferred
    ))
}

/// Whether a broker has not been ready for long enough.
pub(super) fn soaking(situation: &Situation<'_>) -> Option<Wait> {
    let youngest = situation
        .brokers
        .iter()
        .max_by_key(|broker| broker.ready_since)?;
    let soak = SignedDuration::try_from(situation.policy.soak).unwrap_or(SignedDuration::MAX);
    let until = youngest.ready_since?.saturating_add(soak).ok()?;
    if until <= situation.now || mutated(Mutation::SkipSoak) {
        return None;
    }
    let message = format!(
        "broker {} has just become ready: the next one is restarted at {until} at the earliest",
        youngest.id
    );
    Some(Wait::new(WaitReason::Soaking, message))
}
