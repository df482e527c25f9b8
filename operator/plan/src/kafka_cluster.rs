//! From a `KafkaCluster` and what was observed to the plan of one reconciliation.

mod membership;
mod objects;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use klamm_crds::{KafkaCluster, KafkaClusterStatus};

use crate::allocation::{self, Allocation};
use crate::broker_pod::{BrokerPod, PodState, pod_state, ready_since, taken_up};
use crate::dynamic_config::{self, ConfigChange, ConfigPlan};
use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::observed::{Admin, Observed, RestartVerdict};
use crate::resources::{self, Disruptions, Object, revision, unless_applied};
use crate::rollout::{self, Rollout, Situation, Step};
use crate::scale::{self, Scale};
use crate::status::{self, Findings, Turn};
use crate::validate::{Problem, Validated, validate};
use membership::Membership;
use objects::{
    boxed, current_stateful_sets, newest_stateful_sets, set_revision, shared_objects,
    unwanted_network_policy, unwanted_services,
};

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Identity to be recorded before anything else is done.
    pub record_first: Option<KafkaClusterStatus>,
    /// For the token's Secret, in case there is none.
    pub validated: Option<Validated>,
    /// Objects that are missing or differ.
    pub apply: Vec<Object>,
    /// Services that nobody wants any more.
    pub delete_services: Vec<String>,
    /// The NetworkPolicy of a cluster that shall have none.
    pub delete_network_policy: Option<Judged>,
    /// Volumes of removed brokers that shall not be kept.
    pub delete_volumes: Vec<Judged>,
    /// Settings that running brokers take.
    pub config_change: Option<ConfigChange>,
    /// The one step of a rollout, or of the way to other brokers and voters.
    pub action: Option<Action>,
    /// The status once all this was done.
    pub status: KafkaClusterStatus,
    /// Whether something is expected to change soon.
    pub settled: bool,
}

/// A step with all that it takes.
#[derive(Clone, Debug)]
pub enum Action {
    RestoreLeaders,
    /// From this broker to another voter.
    TransferController(i32),
    Prepare {
        id: i32,
        incarnation: String,
    },
    Replace(Box<Replacement>),
    Scale(scale::Step),
    /// Deletes the StatefulSet of an empty broker.
    Stop(Judged),
}

/// One broker's turn of a rollout.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub broker_id: i32,
    /// The newest revision.
    pub stateful_set: Object,
    /// The pod to delete, if there is one that is not going anyway.
    pub pod: Option<Judged>,
    pub reason: &'static str,
}

/// An object as it was when it was decided about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judged {
    pub name: String,
    pub uid: String,
    /// Nothing where a newer version would be judged alike.
    pub resource_version: Option<String>,
}

impl Judged {
    /// The object, whatever happens to it meanwhile.
    fn any_version(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            resource_version: None,
        })
    }
}

/// What the brokers must be asked before a plan can be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    ValidateConfig(BTreeMap<String, String>),
    CheckRestart(i32),
    DrainStatus(i32),
    RebalanceStatus,
}

/// The next question, until everything is known that the brokers can tell. Each is asked once; an
/// answer that could not be had is an answer too.
#[must_use]
pub fn question(cluster: &KafkaCluster, observed: &Observed, now: Timestamp) -> Option<Question> {
    let facts = observed.admin.confirmed()?;
    let (valid, allocation) = understood(cluster, observed).ok()?;
    let wanted = resources::shared_properties(&valid, &allocation);
    if observed.answers.config.is_none() {
        let managed = managed_config(cluster);
        let properties = dynamic_config::to_validate(&valid, &wanted, managed, observed);
        if !properties.is_empty() {
            return Some(Question::ValidateConfig(properties));
        }
    }
    let view = View::new(cluster, observed, valid, &allocation);
    match view.scale(&allocation, observed, now) {
        Scale::Ask(id) => return Some(Question::DrainStatus(id)),
        Scale::AskRebalance => return Some(Question::RebalanceStatus),
        Scale::Settled | Scale::Step(_) | Scale::Waiting { .. } => {}
    }
    let situation = view.situation(observed, now);
    match rollout::decide(&situation) {
        Rollout::Ask(id) => Some(Question::CheckRestart(id)),
        // With every replica in sync only the quorum is left to ask about.
        Rollout::UpToDate if rollout::hindrance(&situation, None).is_none() => {
            let mut voters = facts.voters.iter();
            let unasked = voters.find(|id| !observed.answers.restarts.contains_key(id));
            unasked.copied().map(Question::CheckRestart)
        }
        Rollout::UpToDate | Rollout::Step(_) | Rollout::Waiting(_) => None,
    }
}

/// Plans one reconciliation.
#[must_use]
pub fn plan(cluster: &KafkaCluster, observed: &Observed, now: Timestamp) -> Plan {
    match understood(cluster, observed) {
        Ok((valid, allocation)) => planned(cluster, observed, valid, &allocation, now),
        Err(problem) => refused(cluster, observed, &problem, now),
    }
}

fn understood(
    cluster: &KafkaCluster,
    observed: &Observed,
) -> Result<(Validated, Allocation), Problem> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let recorded = Allocation::recorded(cluster.status.as_ref(), uid, &observed.volumes)?;
    let valid = validate(cluster, &observed.defaults)?;
    let allocation = recorded.extended(&valid, observed);
    Ok((valid, allocation))
}

fn managed_config(cluster: &KafkaCluster) -> &[String] {
    let status = cluster.status.as_ref();
    status.map_or(&[], |status| status.dynamic_config.as_slice())
}

/// The brokers as they are to be and as they are.
struct View {
    valid: Validated,
    /// Configuration of brokers that start anew.
    wanted: String,
    config: ConfigPlan,
    membership: Membership,
    /// Of every broker that shall run.
    newest: Vec<(i32, Option<StatefulSet>)>,
    brokers: Vec<BrokerPod>,
}

impl View {
    fn new(
        cluster: &KafkaCluster,
        observed: &Observed,
        valid: Validated,
        allocation: &Allocation,
    ) -> Self {
        let wanted = resources::shared_properties(&valid, allocation);
        let config = dynamic_config::plan(&valid, &wanted, managed_config(cluster), observed);
        let membership = Membership::new(&valid, allocation, observed);
        let run = allocation.brokers.iter();
        let run: Vec<_> = run.filter(|broker| membership.runs(broker.id)).collect();
        let newest = newest_stateful_sets(&valid, allocation, &run, (&config, &wanted));
        let brokers = newest
            .iter()
            .zip(run)
            .map(|((_, set), broker)| broker_pod(broker, set.as_ref(), &valid.name, observed))
            .collect();
        Self {
            valid,
            wanted,
            config,
            membership,
            newest,
            brokers,
        }
    }

    fn scale(&self, allocation: &Allocation, observed: &Observed, now: Timestamp) -> Scale {
        let membership = &self.membership;
        scale::decide(&membership.situation(&self.valid, allocation, observed, now))
    }

    fn situation<'a>(&'a self, observed: &'a Observed, now: Timestamp) -> Situation<'a> {
        Situation {
            brokers: &self.brokers,
            admin: &observed.admin,
            answers: &observed.answers,
            policy: &self.valid.rollout,
            now,
        }
    }
}

fn planned(
    cluster: &KafkaCluster,
    observed: &Observed,
    valid: Validated,
    allocation: &Allocation,
    now: Timestamp,
) -> Plan {
    let view = View::new(cluster, observed, valid, allocation);
    let situation = view.situation(observed, now);
    let rollout = rollout::decide(&situation);
    let disruptions = disruptions(&situation);
    let scale = view.scale(allocation, observed, now);
    let may_change = (view.membership).may_change(&rollout, &view.brokers, &observed.admin);
    let settled = rollout == Rollout::UpToDate
        && scale == Scale::Settled
        && disruptions == Disruptions::Allowed;
    let findings = Findings {
        allocation,
        brokers: &view.brokers,
        rollout: &rollout,
        scale: &scale,
        turn: if may_change {
            Turn::Scale
        } else {
            Turn::Rollout
        },
        admin: &observed.admin,
        rebalance: observed.answers.rebalance.as_ref(),
        problem: view.config.problem.as_ref(),
    };
    let mut status = status::of_cluster(cluster, Some(&view.valid), &findings, now);
    if cluster.spec.paused && !mutated(Mutation::IgnorePause) {
        return Plan {
            status,
            settled,
            ..Plan::nothing()
        };
    }
    status.dynamic_config.clone_from(&view.config.managed);
    let former = cluster.status.clone().unwrap_or_default();
    let identity = KafkaClusterStatus {
        dynamic_config: view.config.managed.clone(),
        ..status::with_identity(former, allocation)
    };
    let mut apply = shared_objects(&view, allocation, observed, disruptions);
    apply.extend(view.membership.volumes(&view.valid, allocation, observed));
    apply.extend(current_stateful_sets(&view.newest, observed));
    Plan {
        record_first: (cluster.status.as_ref() != Some(&identity)).then_some(identity),
        apply,
        delete_services: unwanted_services(&view.valid, allocation, observed),
        delete_network_policy: unwanted_network_policy(&view.valid, observed),
        delete_volumes: (view.membership).unwanted_volumes(&view.valid, allocation, observed),
        config_change: view.config.change,
        action: match rollout {
            // Restarts wait until every replica is in sync, and a rebalance may take long.
            _ if !may_change && is_rebalancing(&observed.admin) => {
                Some(Action::Scale(scale::Step::CancelRebalance))
            }
            Rollout::Step(step) => action(step, view.newest, &view.valid, allocation, observed),
            _ if may_change => membership::action(scale, &view.valid, allocation, observed),
            Rollout::UpToDate | Rollout::Waiting(_) | Rollout::Ask(_) => None,
        },
        validated: Some(view.valid),
        status,
        settled,
    }
}

fn is_rebalancing(admin: &Admin) -> bool {
    admin.confirmed().is_some_and(|facts| facts.rebalancing)
}

/// One broker may be stopped by others while everything has settled and each voter may stop. Not all
/// of them were asked about in the middle of a rollout.
fn disruptions(situation: &Situation<'_>) -> Disruptions {
    let verdicts = &situation.answers.restarts;
    let facts = situation.admin.confirmed().into_iter();
    let all_asked = facts
        .flat_map(|facts| &facts.voters)
        .all(|id| verdicts.contains_key(id));
    let all_safe = verdicts
        .values()
        .all(|verdict| *verdict == RestartVerdict::Safe);
    let settled = rollout::hindrance(situation, None).is_none();
    if mutated(Mutation::KeepBudgetOpen) || settled && mutated(Mutation::IgnoreVotersForBudget) {
        return Disruptions::Allowed;
    }
    if settled && !verdicts.is_empty() && all_asked && all_safe {
        Disruptions::Allowed
    } else {
        Disruptions::Forbidden
    }
}

impl Plan {
    fn nothing() -> Self {
        Self {
            record_first: None,
            validated: None,
            apply: Vec::new(),
            delete_services: Vec::new(),
            delete_network_policy: None,
            delete_volumes: Vec::new(),
            config_change: None,
            action: None,
            status: KafkaClusterStatus::default(),
            settled: true,
        }
    }
}

/// Nothing of the spec can be carried out: what exists stays as it is.
fn refused(cluster: &KafkaCluster, observed: &Observed, problem: &Problem, now: Timestamp) -> Plan {
    let allocation = Allocation::recorded(cluster.status.as_ref(), "", &[]).unwrap_or_default();
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let brokers: Vec<_> = allocation
        .brokers
        .iter()
        .map(|broker| broker_pod(broker, None, name, observed))
        .collect();
    let findings = Findings {
        allocation: &allocation,
        brokers: &brokers,
        rollout: &Rollout::UpToDate,
        scale: &Scale::Settled,
        turn: Turn::Rollout,
        admin: &observed.admin,
        rebalance: None,
        problem: Some(problem),
    };
    let status = status::of_cluster(cluster, None, &findings, now);
    Plan {
        status,
        ..Plan::nothing()
    }
}

fn action(
    step: Step,
    newest: Vec<(i32, Option<StatefulSet>)>,
    valid: &Validated,
    allocation: &Allocation,
    observed: &Observed,
) -> Option<Action> {
    let (id, reason) = match step {
        Step::RestoreLeaders { .. } => return Some(Action::RestoreLeaders),
        Step::TransferController { id } => return Some(Action::TransferController(id)),
        Step::Prepare { id, incarnation } => return Some(Action::Prepare { id, incarnation }),
        Step::Replace { id, reason } => (id, reason),
    };
    let set = newest
        .into_iter()
        .find_map(|(of, set)| set.filter(|_| of == id))?;
    let broker = allocation.brokers.iter().find(|broker| broker.id == id)?;
    let pod = live_pod(observed, &naming::pod(&valid.name, &broker.pool, id))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| revision(&pod.metadata) != set_revision(&set))
        .and_then(|pod| {
            Some(Judged {
                name: pod.metadata.name.clone()?,
                uid: pod.metadata.uid.clone()?,
                resource_version: pod.metadata.resource_version.clone(),
            })
        });
    Some(Action::Replace(Box::new(Replacement {
        broker_id: id,
        stateful_set: unless_applied(set, None, boxed)?,
        pod,
        reason,
    })))
}

fn broker_pod(
    broker: &allocation::Broker,
    newest: Option<&StatefulSet>,
    cluster: &str,
    observed: &Observed,
) -> BrokerPod {
    let name = newest.and_then(|set| set.metadata.name.as_deref());
    let pod = observed.pods.iter().find(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(naming::BROKER_LABEL)) == Some(&broker.id.to_string())
            && labels
                .and_then(|labels| labels.get(naming::CLUSTER_LABEL))
                .map(String::as_str)
                == Some(cluster)
    });
    let wanted = newest.and_then(set_revision);
    let set = observed
        .stateful_sets
        .iter()
        .find(|set| set.metadata.name.as_deref() == name);
    let of_pod = pod.is_some_and(|pod| {
        pod.metadata.deletion_timestamp.is_none() && revision(&pod.metadata) != wanted
    });
    let of_set = set.is_some_and(|set| set_revision(set) != wanted);
    BrokerPod {
        id: broker.id,
        zone: broker.zone.clone(),
        pod: pod.map_or(PodState::Absent, pod_state),
        taken_up: pod.and_then(taken_up),
        ready_since: pod.and_then(ready_since),
        outdated: newest.is_some() && (of_pod || of_set),
    }
}

fn live_pod<'a>(observed: &'a Observed, name: &str) -> Option<&'a Pod> {
    observed
        .pods
        .iter()
        .find(|pod| pod.metadata.name.as_deref() == Some(name))
}

#[cfg(test)]
mod tests;
