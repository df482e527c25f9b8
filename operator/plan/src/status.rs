//! The status of a `KafkaCluster`: what is, in words that say what to do.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use klamm_crds::{BrokerStatus, KafkaCluster, KafkaClusterStatus, ListenerStatus, RebalanceStatus};

use crate::allocation::{Allocation, Broker};
use crate::broker_pod::{BrokerPod, PodState};
use crate::conditions::{Truth, Verdict, find};
use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::observed::{Admin, BrokerState, RebalanceProgress};
use crate::resources::bracketed;
use crate::rollout::{Rollout, Step, Wait, WaitReason};
use crate::scale::{self, Scale};
use crate::validate::{Problem, Validated};

/// Reasons of `Ready` before a cluster was ready for the first time.
const NOT_YET_READY: [&str; 2] = ["BrokersStarting", "InvalidSpec"];

/// What the plan found.
#[derive(Clone, Copy, Debug)]
pub struct Findings<'a> {
    pub allocation: &'a Allocation,
    pub brokers: &'a [BrokerPod],
    pub rollout: &'a Rollout,
    pub scale: &'a Scale,
    pub turn: Turn,
    pub admin: &'a Admin,
    /// How far a rebalance is, or what one would move.
    pub rebalance: Option<&'a RebalanceProgress>,
    pub problem: Option<&'a Problem>,
}

/// Whose step may be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    Rollout,
    /// Brokers and voters may change: no restart is pending, or it waits for just that.
    Scale,
}

/// The status that tells the findings.
#[must_use]
pub fn of_cluster(
    cluster: &KafkaCluster,
    valid: Option<&Validated>,
    findings: &Findings<'_>,
    now: Timestamp,
) -> KafkaClusterStatus {
    let former = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation;
    let conditions = [
        ("Ready", ready(&former.conditions, valid, findings)),
        ("Progressing", progressing(cluster, valid, findings)),
        ("UpToDate", up_to_date(cluster, findings)),
        ("Degraded", degraded(&former.conditions, findings)),
        ("SpecValid", spec_valid(findings)),
        ("QuorumHealthy", quorum_healthy(findings)),
    ];
    let conditions = conditions
        .map(|(type_, verdict)| verdict.into_condition(type_, &former.conditions, generation, now));
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let (offline, under_replicated) = match findings.admin {
        Admin::Unreachable(_) => (None, None),
        Admin::Answered(facts) => (
            Some(count(facts.offline_partitions)),
            Some(count(facts.under_replicated_partitions)),
        ),
    };
    let mut status = with_identity(former, findings.allocation);
    for entry in &mut status.brokers {
        let pod = findings.brokers.iter().find(|broker| broker.id == entry.id);
        let absent = if entry.leaving { "Removing" } else { "Unknown" };
        entry.state = pod
            .map_or(absent, |pod| state(pod, findings.admin))
            .to_owned();
        entry.up_to_date = pod.is_some_and(|pod| !pod.outdated);
        let facts = findings.admin.broker(entry.id).filter(|_| entry.leaving);
        entry.replicas_left = facts.map(|facts| count(facts.replicas));
    }
    let ready_brokers = findings
        .brokers
        .iter()
        .filter(|b| serves(b, findings.admin))
        .count();
    KafkaClusterStatus {
        observed_generation: generation,
        listeners: valid.map_or_else(
            || status.listeners.clone(),
            |valid| listeners(valid, findings.allocation),
        ),
        replicas: i32::try_from(findings.allocation.brokers.len()).unwrap_or(i32::MAX),
        ready_brokers: i32::try_from(ready_brokers).unwrap_or(i32::MAX),
        offline_partitions: offline,
        under_replicated_partitions: under_replicated,
        rebalance: rebalance(findings),
        conditions: conditions.into(),
        ..status
    }
}

fn rebalance(findings: &Findings<'_>) -> Option<RebalanceStatus> {
    findings
        .admin
        .confirmed()
        .filter(|facts| facts.rebalancing)?;
    let RebalanceProgress::Known {
        partitions_left,
        partitions_moving,
        last_progress_at,
        ..
    } = findings.rebalance?
    else {
        return None;
    };
    Some(RebalanceStatus {
        partitions_left: i32::try_from(*partitions_left).unwrap_or(i32::MAX),
        partitions_moving: i32::try_from(*partitions_moving).unwrap_or(i32::MAX),
        last_progress_time: last_progress_at.map(Time),
    })
}

/// The status with the identity in it; nothing else changes.
#[must_use]
pub fn with_identity(status: KafkaClusterStatus, allocation: &Allocation) -> KafkaClusterStatus {
    let entry = |broker: &Broker| {
        let former = status.brokers.iter().find(|entry| entry.id == broker.id);
        BrokerStatus {
            id: broker.id,
            pool: broker.pool.clone(),
            zone: broker.zone.clone(),
            advertised_host: broker.advertised_host.clone(),
            node_port: broker.node_port,
            state: former.map_or_else(|| "Unknown".to_owned(), |entry| entry.state.clone()),
            up_to_date: former.is_some_and(|entry| entry.up_to_date),
            leaving: broker.leaving,
            joining: broker.joining,
            replicas_left: former.and_then(|entry| entry.replicas_left),
        }
    };
    let brokers = allocation.brokers.iter().map(entry).collect();
    let cluster_id = Some(allocation.cluster_id.clone()).filter(|id| !id.is_empty());
    KafkaClusterStatus {
        cluster_id,
        voters: allocation.voters.clone(),
        quorum_formed: allocation.quorum_formed,
        next_broker_id: allocation.next_broker_id,
        brokers,
        ..status
    }
}

/// In which status a condition is a warning.
#[must_use]
pub fn bad(type_: &str) -> Truth {
    match type_ {
        "Degraded" => Truth::True,
        "Progressing" | "UpToDate" => Truth::Unknown,
        _ => Truth::False,
    }
}

fn serves(broker: &BrokerPod, admin: &Admin) -> bool {
    let known = matches!(admin, Admin::Answered(_));
    broker.pod == PodState::Ready && (!known || admin.serves(broker.id))
}

fn state(broker: &BrokerPod, admin: &Admin) -> &'static str {
    let registered = match admin {
        Admin::Unreachable(_) => None,
        Admin::Answered(facts) => facts.brokers.get(&broker.id).map(|broker| broker.state),
    };
    match (&broker.pod, registered) {
        (PodState::Absent | PodState::NotRunning(_), _) => "Pending",
        (PodState::Starting | PodState::Ready, Some(BrokerState::Serving)) => "Serving",
        (PodState::Starting | PodState::Ready, Some(BrokerState::CatchingUp)) => "CatchingUp",
        (_, Some(BrokerState::Draining)) => "Draining",
        (PodState::Terminating, _) => "Stopping",
        (PodState::Starting, _) => "Starting",
        (PodState::Ready, Some(BrokerState::Fenced)) => "Fenced",
        (PodState::Ready, None) => "Unknown",
    }
}

fn listeners(valid: &Validated, allocation: &Allocation) -> Vec<ListenerStatus> {
    let service = naming::bootstrap_service(&valid.name);
    let mut listeners = vec![ListenerStatus {
        name: valid.internal.name.clone(),
        bootstrap: format!("{service}.{}.svc:{}", valid.namespace, valid.internal.port),
        node_port: None,
    }];
    if let (Some(listener), Some(port)) = (&valid.node_port, allocation.bootstrap_node_port) {
        let hosts: BTreeSet<_> = allocation
            .brokers
            .iter()
            .filter_map(|broker| broker.advertised_host.as_deref())
            .map(|host| format!("{}:{port}", bracketed(host)))
            .collect();
        listeners.push(ListenerStatus {
            name: listener.name.clone(),
            bootstrap: hosts.into_iter().collect::<Vec<_>>().join(","),
            node_port: Some(port),
        });
    }
    listeners
}

fn ready(former: &[Condition], valid: Option<&Validated>, findings: &Findings<'_>) -> Verdict {
    let no = |reason, message: String| Verdict::new(Truth::False, reason, message);
    let never = never_ready(former);
    if let (None, Some(problem), true) = (valid, findings.problem, never) {
        return no("InvalidSpec", problem.message.clone());
    }
    let total = findings.allocation.brokers.len();
    let serving = findings
        .brokers
        .iter()
        .filter(|b| serves(b, findings.admin))
        .count();
    let facts = match findings.admin {
        Admin::Answered(facts) => facts,
        Admin::Unreachable(_) if never => {
            return no(
                "BrokersStarting",
                format!("{serving} of {total} brokers serve"),
            );
        }
        Admin::Unreachable(why) => {
            return Verdict::new(
                Truth::Unknown,
                "BrokersUnreachable",
                format!("the operator cannot ask the brokers: {why}"),
            );
        }
    };
    if never && serving < total {
        return no(
            "BrokersStarting",
            format!("{serving} of {total} brokers serve"),
        );
    }
    if facts.controller_id.is_none() {
        return no(
            "QuorumUnavailable",
            "no controller is active: a majority of the voters must run".to_owned(),
        );
    }
    if mutated(Mutation::ReadyWithoutPartitions) {
        return Verdict::new(Truth::True, "Serving", "");
    }
    if facts.offline_partitions > 0 {
        return no(
            "PartitionsOffline",
            format!(
                "{} partitions have no leader: bring their brokers back",
                facts.offline_partitions
            ),
        );
    }
    if facts.under_min_isr_partitions > 0 {
        return no(
            "UnderMinIsr",
            format!(
                "{} partitions have fewer in-sync replicas than min.insync.replicas and refuse \
                 acks=all: bring their brokers back",
                facts.under_min_isr_partitions
            ),
        );
    }
    if serving == 0 {
        return no("BrokersUnavailable", "no broker serves".to_owned());
    }
    Verdict::new(
        Truth::True,
        "Serving",
        "every partition can be written and read",
    )
}

fn never_ready(former: &[Condition]) -> bool {
    find(former, "Ready").is_none_or(|former| NOT_YET_READY.contains(&former.reason.as_str()))
}

fn progressing(
    cluster: &KafkaCluster,
    valid: Option<&Validated>,
    findings: &Findings<'_>,
) -> Verdict {
    let yes = |reason, message: String| Verdict::new(Truth::True, reason, message);
    if cluster.spec.paused {
        return Verdict::new(
            Truth::False,
            "Paused",
            "nothing is changed while spec.paused is set",
        );
    }
    if valid.is_none() {
        return Verdict::new(
            Truth::False,
            "InvalidSpec",
            "nothing is changed: see SpecValid",
        );
    }
    let rollout = rollout_message(findings.rollout);
    let scale = scale_message(findings.scale);
    let (first, second) = match findings.turn {
        Turn::Rollout => (rollout, scale),
        Turn::Scale => (scale, rollout),
    };
    if let Some((reason, message)) = first.or(second) {
        return yes(reason, message);
    }
    let missing: Vec<_> = findings
        .brokers
        .iter()
        .filter(|broker| !serves(broker, findings.admin))
        .map(|broker| match &broker.pod {
            PodState::NotRunning(why) => format!("broker {} does not run ({why})", broker.id),
            _ => format!("broker {} is not serving yet", broker.id),
        })
        .collect();
    if missing.is_empty() {
        Verdict::new(Truth::False, "Stable", "every broker serves as specified")
    } else {
        yes("BrokersStarting", missing.join("; "))
    }
}

/// Reason and message; nothing when no restart is pending.
fn rollout_message(rollout: &Rollout) -> Option<(&'static str, String)> {
    match rollout {
        Rollout::UpToDate => None,
        Rollout::Step(step) => Some(("RollingRestart", step_message(step))),
        Rollout::Waiting(wait) => {
            Some(("RolloutWaiting", format!("restarts wait: {}", wait.message)))
        }
        Rollout::Ask(id) => Some((
            "RolloutWaiting",
            format!("whether broker {id} may stop is not known"),
        )),
    }
}

/// Reason and message; nothing when brokers and voters are as wanted.
fn scale_message(scale: &Scale) -> Option<(&'static str, String)> {
    match scale {
        Scale::Settled => None,
        Scale::Step(step) => Some(scale_step_message(step)),
        Scale::Waiting { reason, message } => Some((reason.as_str(), message.clone())),
        Scale::Ask(id) => Some(("ScalingDown", format!("broker {id} is being emptied"))),
        Scale::AskRebalance => Some((
            "Rebalancing",
            "whether every broker has its share is not known".to_owned(),
        )),
    }
}

fn step_message(step: &Step) -> String {
    match step {
        Step::RestoreLeaders { why } => format!("leaders are moved back: {why}"),
        Step::TransferController { id } => {
            format!("the active controller moves away from broker {id}, which is restarted next")
        }
        Step::Prepare { id, .. } => {
            format!("leaders move away from broker {id}, which is restarted next")
        }
        Step::Replace { id, reason } => format!("broker {id} is replaced: {reason}"),
    }
}

fn scale_step_message(step: &scale::Step) -> (&'static str, String) {
    use scale::Step;
    match step {
        Step::Cordon(id) | Step::Drain(id) => (
            "ScalingDown",
            format!("broker {id} leaves: its replicas move to others"),
        ),
        Step::Stop(id) | Step::Unregister { id, .. } => (
            "ScalingDown",
            format!("broker {id}, which is empty, is removed"),
        ),
        Step::CancelDrain(id) | Step::Uncordon(id) => (
            "ScalingUp",
            format!("broker {id} stays: it is wanted again"),
        ),
        Step::StartRebalance => (
            "Rebalancing",
            "replicas move until every broker has its share".to_owned(),
        ),
        Step::CancelRebalance => (
            "RebalanceCancelled",
            "replicas that have not moved yet stay where they are".to_owned(),
        ),
        Step::AddVoter(id) => (
            "VoterChange",
            format!("broker {id} votes as soon as it has the metadata"),
        ),
        Step::RemoveVoter { id, .. } => {
            let message = format!("broker {id} gives up its place in the metadata quorum");
            ("VoterChange", message)
        }
    }
}

fn up_to_date(cluster: &KafkaCluster, findings: &Findings<'_>) -> Verdict {
    let total = findings.brokers.len();
    let outdated = findings.brokers.iter().filter(|broker| broker.outdated);
    let newest = total - outdated.count();
    let told = |reason, message: &str| {
        let message = format!("{newest} of {total} brokers run the newest revision; {message}");
        Verdict::new(Truth::False, reason, message)
    };
    match findings.rollout {
        Rollout::UpToDate => Verdict::new(
            Truth::True,
            "Current",
            "every broker runs the newest revision",
        ),
        _ if cluster.spec.paused => told("Paused", "nothing is restarted while spec.paused is set"),
        Rollout::Step(step) => told("Rolling", &step_message(step)),
        Rollout::Waiting(Wait { reason, message }) => told(reason.as_str(), message),
        Rollout::Ask(id) => told(
            WaitReason::AdminUnreachable.as_str(),
            &format!("whether broker {id} may stop is not known"),
        ),
    }
}

fn degraded(former: &[Condition], findings: &Findings<'_>) -> Verdict {
    let facts = match findings.admin {
        Admin::Answered(facts) => facts,
        Admin::Unreachable(why) => {
            return Verdict::new(
                Truth::Unknown,
                "BrokersUnreachable",
                format!("the operator cannot ask the brokers: {why}"),
            );
        }
    };
    if let Rollout::Waiting(Wait {
        reason: WaitReason::CanaryFailed,
        message,
    }) = findings.rollout
    {
        return Verdict::new(Truth::True, "CanaryFailed", message.clone());
    }
    if let Scale::Waiting {
        reason: scale::Reason::DrainStalled,
        message,
    } = findings.scale
    {
        return Verdict::new(Truth::True, "DrainStalled", message.clone());
    }
    let missing: Vec<_> = findings
        .brokers
        .iter()
        .filter(|broker| !serves(broker, findings.admin))
        .map(|broker| broker.id.to_string())
        .collect();
    if facts.under_replicated_partitions > 0 {
        return Verdict::new(
            Truth::True,
            "UnderReplicated",
            format!(
                "{} partitions are not fully in sync: wait for the brokers to catch up",
                facts.under_replicated_partitions
            ),
        );
    }
    if !missing.is_empty() && !never_ready(former) {
        let message = format!("not serving: brokers {}", missing.join(", "));
        return Verdict::new(Truth::True, "BrokersMissing", message);
    }
    Verdict::new(Truth::False, "FullyReplicated", "every replica is in sync")
}

fn spec_valid(findings: &Findings<'_>) -> Verdict {
    match findings.problem {
        None => Verdict::new(Truth::True, "Accepted", "the spec is carried out"),
        Some(problem) => Verdict::new(Truth::False, problem.reason, problem.message.clone()),
    }
}

fn quorum_healthy(findings: &Findings<'_>) -> Verdict {
    match findings.admin {
        Admin::Unreachable(why) => Verdict::new(
            Truth::Unknown,
            "BrokersUnreachable",
            format!("the operator cannot ask the voters: {why}"),
        ),
        Admin::Answered(facts) => match facts.controller_id {
            Some(id) => Verdict::new(
                Truth::True,
                "ControllerActive",
                format!("a majority of the voters answers; broker {id} is the active controller"),
            ),
            None => Verdict::new(
                Truth::False,
                "NoController",
                "the voters have no active controller: a majority of them must run",
            ),
        },
    }
}
