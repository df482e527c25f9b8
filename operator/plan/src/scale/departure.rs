//! How far a broker that leaves has come: wanted no longer, without need of a process, without one,
//! forgotten.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use klamm_crds::Pool;

use crate::allocation::Broker;
use crate::broker_pod::pod_state;
use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::observed::{Admin, ClusterFacts, Observed};

/// What Kubernetes has of a broker.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Process {
    pub stateful_set: bool,
    pub pod: bool,
    /// Whether the pod runs: a broker that is not registered may be so any moment.
    pub runs: bool,
}

/// What Kubernetes has of each of the brokers.
pub(crate) fn processes(
    cluster: &str,
    brokers: &[Broker],
    observed: &Observed,
) -> BTreeMap<i32, Process> {
    let (sets, pods) = (&observed.stateful_sets, &observed.pods);
    let process = |broker: &Broker| {
        let set = Some(naming::stateful_set(cluster, &broker.pool, broker.id));
        let pod = Some(naming::pod(cluster, &broker.pool, broker.id));
        let pod = pods.iter().find(|live| live.metadata.name == pod);
        let process = Process {
            stateful_set: sets.iter().any(|live| live.metadata.name == set),
            pod: pod.is_some(),
            runs: pod.is_some_and(|pod| pod_state(pod).runs()),
        };
        (broker.id, process)
    };
    brokers.iter().map(process).collect()
}

/// Brokers that the spec no longer wants: of each pool with too many those in `remove` first, then those
/// with the highest ids.
pub(crate) fn leaving(pools: &[Pool], brokers: &[Broker]) -> BTreeSet<i32> {
    let of_pool = |pool: &Pool| {
        let mut ids: Vec<_> = brokers
            .iter()
            .filter(|broker| broker.pool == pool.name)
            .map(|broker| broker.id)
            .collect();
        ids.sort_by_key(|id| (!pool.remove.contains(id), Reverse(*id)));
        let wanted = usize::try_from(pool.replicas).unwrap_or(0);
        ids.truncate(ids.len().saturating_sub(wanted));
        ids
    };
    pools.iter().flat_map(of_pool).collect()
}

/// Leaving brokers that need no process any more. One that runs and is not registered yet could get
/// replicas before it stops: it is waited for, and emptied like the others. While no active controller
/// answers, these are the ones that have none and did not vote, so that nothing empty is brought back.
pub(crate) fn gone(
    leaving: &BTreeSet<i32>,
    processes: &BTreeMap<i32, Process>,
    admin: &Admin,
    voters_recorded: &[i32],
) -> BTreeSet<i32> {
    let has_set = |id: i32| processes.get(&id).is_some_and(|of| of.stateful_set);
    let arrives = |id: i32| {
        let runs = processes.get(&id).is_some_and(|of| of.runs);
        has_set(id) && runs && admin.broker(id).is_none()
    };
    let is_gone = |id: &i32| match admin.confirmed() {
        Some(facts) => is_empty(facts, *id) && !arrives(*id),
        None => !has_set(*id) && !voters_recorded.contains(id),
    };
    leaving.iter().copied().filter(is_gone).collect()
}

/// Leaving brokers that have left no process, and that the active controller does not know.
pub(crate) fn departed(
    leaving: &BTreeSet<i32>,
    processes: &BTreeMap<i32, Process>,
    admin: &Admin,
) -> BTreeSet<i32> {
    let Some(facts) = admin.confirmed() else {
        return BTreeSet::new();
    };
    let is_known = |id: &i32| {
        (facts.brokers.contains_key(id) || facts.voters.contains(id))
            && !mutated(Mutation::ForgetRegistration)
    };
    let process = |id: &i32| processes.get(id).copied().unwrap_or_default();
    let is_departed = |id: &i32| !is_known(id) && process(id) == Process::default();
    leaving.iter().copied().filter(is_departed).collect()
}

/// Whether a broker that was leaving is like any other again.
pub(crate) fn taken_back(facts: &ClusterFacts, id: i32) -> bool {
    let broker = facts.brokers.get(&id);
    broker.is_none_or(|broker| !broker.drain && !broker.cordoned)
}

/// Without replicas, and with none to come; without a vote.
fn is_empty(facts: &ClusterFacts, id: i32) -> bool {
    let broker = facts.brokers.get(&id);
    let has_none = broker.is_none_or(|broker| {
        broker.drain && (broker.replicas == 0 || mutated(Mutation::RemoveUndrained))
    });
    has_none && !facts.voters.contains(&id)
}
