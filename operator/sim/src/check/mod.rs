//! Invariants, one file for each. A call is judged by what was so when its pass looked at the brokers
//! and still is when the call is made: no operator can know of more.

mod budget;
mod canary;
mod converged;
mod disruption;
mod fencing;
mod identity;
mod order;
mod preparation;
mod quorum;
mod removal;
mod replication;
mod status;
mod volumes;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use operator_plan::broker_pod::{PodState, pod_state, ready_since};
use operator_plan::kafka_cluster::Judged;
use operator_plan::resources::revision;

use crate::clock;
use crate::kubernetes::{broker_id, is_ready, set_of};
use crate::operator::{Call, Execution};
use crate::trace::Seconds;
use crate::world::World;

/// An invariant that does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
    /// Simulated seconds since the start of the run.
    pub at: i64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} s: {}", self.invariant, self.at, self.what)
    }
}

/// What one invariant says.
type Verdict = Result<(), String>;

/// What is remembered from check to check.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// The first one.
    pub(crate) violation: Option<Violation>,
    identity: identity::Identity,
    /// Brokers that an operator stopped and that do not serve again yet.
    disrupted: BTreeSet<i32>,
    /// Version of the cluster object that was checked last.
    seen: Option<String>,
}

impl Checker {
    fn judge(&mut self, at: Seconds, invariant: &'static str, verdict: Verdict) {
        if let (Err(what), None) = (verdict, &self.violation) {
            self.violation = Some(Violation {
                invariant,
                what,
                at,
            });
        }
    }
}

/// What is so, as far as an operator could know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Brokers that are missing, or do not serve with everything in sync.
    unsettled: BTreeSet<i32>,
    /// By broker: partitions that must not lose it.
    harmed: BTreeMap<i32, BTreeSet<usize>>,
    /// Voters without which there is no majority.
    needed: BTreeSet<i32>,
    /// Directories of voters after whose removal no majority would answer.
    irremovable: BTreeSet<String>,
    /// Brokers with a replica or a vote.
    used: BTreeSet<i32>,
    running: BTreeSet<i32>,
    recovering: BTreeSet<i32>,
    voters: BTreeSet<i32>,
    /// Brokers that have not been ready for as long as the spec asks for.
    soaking: BTreeSet<i32>,
    /// Of running processes.
    directories: BTreeSet<String>,
    prepared: BTreeSet<i32>,
    /// Brokers whose image cannot be pulled.
    unpullable: BTreeSet<i32>,
    controller: Option<i32>,
    /// Whether every partition can be written and read.
    serves: bool,
    under_replicated: bool,
    /// Brokers whose pod is not of its StatefulSet's revision, and not on its way out.
    outdated: BTreeSet<i32>,
}

impl Known {
    pub(crate) fn of(world: &World) -> Self {
        let brokers = &world.brokers;
        let facts = brokers.describe();
        let ids: BTreeSet<i32> = brokers.registered.keys().copied().collect();
        let voters: BTreeSet<i32> = brokers.voters.iter().map(|voter| voter.id).collect();
        let harmed = ids.iter().map(|id| (*id, brokers.harmed_without(*id)));
        let with = |what: &dyn Fn(i32) -> bool| {
            let of_all = ids.union(&voters).copied();
            of_all.filter(|id| what(*id)).collect::<BTreeSet<i32>>()
        };
        let irremovable = brokers.voters.iter().filter(|voter| {
            let others = brokers.voters.iter().filter(|other| other != voter);
            !brokers.has_majority(&others.cloned().collect::<Vec<_>>())
        });
        let running = brokers.processes.keys().copied();
        let directories = brokers.processes.values().map(|process| &process.directory);
        Self {
            unsettled: unsettled(world),
            harmed: harmed.filter(|(_, harmed)| !harmed.is_empty()).collect(),
            needed: with(&|id| brokers.quorum_needs(id)),
            irremovable: irremovable.map(|voter| voter.directory.clone()).collect(),
            used: with(&|id| brokers.replicas(id) > 0 || brokers.votes(id)),
            recovering: running
                .clone()
                .filter(|id| !brokers.is_recovered(*id))
                .collect(),
            running: running.collect(),
            prepared: with(&|id| brokers.is_active(id) && !brokers.is_wanted_as_leader(id)),
            voters,
            soaking: soaking(world),
            directories: directories.cloned().collect(),
            unpullable: unpullable(world),
            controller: brokers.controller,
            serves: brokers.controller.is_some()
                && facts.offline_partitions == 0
                && facts.under_min_isr_partitions == 0,
            under_replicated: facts.under_replicated_partitions > 0,
            outdated: outdated(world),
        }
    }

    /// What was so, and is so now.
    fn and(&self, now: &Self) -> Self {
        let both = |one: &BTreeSet<i32>, other: &BTreeSet<i32>| one & other;
        let harmed = self.harmed.iter().filter_map(|(id, partitions)| {
            let still = partitions & now.harmed.get(id)?;
            (!still.is_empty()).then_some((*id, still))
        });
        Self {
            unsettled: both(&self.unsettled, &now.unsettled),
            harmed: harmed.collect(),
            needed: both(&self.needed, &now.needed),
            irremovable: &self.irremovable & &now.irremovable,
            used: both(&self.used, &now.used),
            running: both(&self.running, &now.running),
            recovering: both(&self.recovering, &now.recovering),
            voters: both(&self.voters, &now.voters),
            soaking: both(&self.soaking, &now.soaking),
            directories: &self.directories & &now.directories,
            prepared: both(&self.prepared, &now.prepared),
            unpullable: both(&self.unpullable, &now.unpullable),
            controller: self
                .controller
                .filter(|_| self.controller == now.controller),
            serves: self.serves && now.serves,
            under_replicated: self.under_replicated && now.under_replicated,
            outdated: both(&self.outdated, &now.outdated),
        }
    }
}

/// Recorded brokers without those that leave and are empty, which nobody misses.
fn recorded(world: &World) -> BTreeSet<i32> {
    let brokers = &world.brokers;
    let status = world.kubernetes.api.cluster.status.iter();
    let recorded = status.flat_map(|status| &status.brokers);
    let is_used = |id: i32| brokers.replicas(id) > 0 || brokers.votes(id);
    let missed = recorded.filter(|broker| !broker.leaving || is_used(broker.id));
    missed.map(|broker| broker.id).collect()
}

/// Those that are missing or not quite there.
fn unsettled(world: &World) -> BTreeSet<i32> {
    let (api, brokers) = (&world.kubernetes.api, &world.brokers);
    let serves = |id: i32| {
        let mut pods = api.pods.values();
        let pod = pods.find(|pod| broker_id(pod) == id);
        let in_sync = brokers
            .partitions
            .iter()
            .all(|partition| !partition.replicas.contains(&id) || partition.isr.contains(&id));
        pod.is_some_and(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
            && brokers.is_active(id)
            && in_sync
    };
    let mut missed = recorded(world);
    missed.retain(|id| !serves(*id));
    missed
}

fn soaking(world: &World) -> BTreeSet<i32> {
    let long_ago = clock::timestamp(world.now - world.story.soak);
    let pods = world.kubernetes.api.pods.values();
    let young = pods.filter(|pod| ready_since(pod).is_some_and(|since| since > long_ago));
    let missed = recorded(world);
    young
        .map(broker_id)
        .filter(|id| missed.contains(id))
        .collect()
}

fn unpullable(world: &World) -> BTreeSet<i32> {
    let pods = world.kubernetes.api.pods.values();
    let waits = pods.filter(
        |pod| matches!(pod_state(pod), PodState::NotRunning(why) if why == "ImagePullBackOff"),
    );
    waits.map(broker_id).collect()
}

fn outdated(world: &World) -> BTreeSet<i32> {
    let api = &world.kubernetes.api;
    let differs = api.pods.values().filter(|pod| {
        let set = api.stateful_sets.get(set_of(pod));
        let template = set.and_then(|set| set.spec.as_ref()?.template.metadata.as_ref());
        let stops = pod.metadata.deletion_timestamp.is_some();
        !stops && template.and_then(revision) != revision(&pod.metadata)
    });
    differs.map(broker_id).collect()
}

/// Number at the end of a broker's object.
fn id_of(object: &Judged) -> i32 {
    let id = object
        .name
        .rsplit('-')
        .next()
        .and_then(|id| id.parse().ok());
    id.unwrap_or(-1)
}

impl World {
    /// Before the call is made.
    pub(crate) fn check_call(&mut self, execution: &Execution, call: &Call) {
        if matches!(
            call,
            Call::Record(_) | Call::CreateToken | Call::Apply(_) | Call::Report(_)
        ) {
            return;
        }
        if let Call::DeletePod { pod, .. } = call
            && !self.kubernetes.api.is_as_judged(pod)
        {
            return;
        }
        let now = Known::of(self);
        let known = execution.known.and(&now);
        let verdicts = [
            ("disruption", disruption::of_call(self, &known, call)),
            ("replication", replication::of_call(&known, call)),
            ("quorum", quorum::of_call(execution, &known, call)),
            ("order", order::of_call(execution, &known, call)),
            ("preparation", preparation::of_call(execution, &known, call)),
            ("wishes", wishes::of_call(execution, &known, call)),
            ("canary", canary::of_call(execution, &known, call)),
            ("removal", removal::of_call(execution, &now, call)),
            ("volumes", volumes::of_call(self, execution, &now, call)),
        ];
        for (invariant, verdict) in verdicts {
            self.checker.judge(self.now, invariant, verdict);
        }
        if let Call::DeletePod { id, .. } = call
            && known.running.contains(id)
        {
            self.checker.disrupted.insert(*id);
        }
    }

    /// After a pass without a failure.
    pub(crate) fn check_pass(&mut self, execution: &Execution) {
        let known = execution.known.and(&Known::of(self));
        let verdicts = [
            ("budget", budget::of_pass(self, execution, &known)),
            ("status", status::of_pass(execution)),
        ];
        for (invariant, verdict) in verdicts {
            self.checker.judge(self.now, invariant, verdict);
        }
    }

    pub(crate) fn check_fencing(&mut self, epoch: u64) {
        let verdict = fencing::of_change(epoch, self.brokers.operator_epoch);
        self.checker.judge(self.now, "fencing", verdict);
    }

    /// After every second.
    pub(crate) fn check_second(&mut self) {
        let version = self
            .kubernetes
            .api
            .cluster
            .metadata
            .resource_version
            .clone();
        if self.checker.seen != version {
            self.checker.seen = version;
            let cluster = &self.kubernetes.api.cluster;
            let verdict = self.checker.identity.of_status(cluster.status.as_ref());
            self.checker.judge(self.now, "identity", verdict);
        }
        let verdict = quorum::of_second(&self.brokers);
        self.checker.judge(self.now, "quorum", verdict);
        if !self.checker.disrupted.is_empty() {
            let unsettled = unsettled(self);
            self.checker.disrupted.retain(|id| unsettled.contains(id));
        }
    }

    pub(crate) fn has_converged(&mut self) -> bool {
        converged::of_world(self).is_ok()
    }

    /// When it is about time.
    pub(crate) fn check_convergence(&mut self) {
        let verdict = converged::of_world(self);
        self.checker.judge(self.now, "convergence", verdict);
    }

    /// Once everything has come right.
    pub(crate) fn check_idempotence(&mut self) {
        let verdict = converged::is_idempotent(self);
        self.checker.judge(self.now, "idempotence", verdict);
    }
}
