//! From a `Topic` and what was observed to the calls that bring the topic to its spec.
//!
//! Identity is the topic id: once an object has one, a topic of the same name with another id is
//! neither changed nor deleted, and a topic that vanished is not silently made again, empty.

mod deletion;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use klamm_crds::{AdoptionPolicy, DeletionPolicy, KafkaCluster, Topic, TopicStatus};
use klamm_placement::{Broker, plan_added_partitions, plan_topic};

use crate::conditions::{Truth, Verdict, find};
use crate::naming;
use crate::observed::{Admin, ClusterFacts};

/// Annotation that allows a vanished topic to be made again; its value is the id of the vanished.
pub const RECREATE_ANNOTATION: &str = "klamm.dev/recreate";

/// Replication factor where neither topic nor cluster say one, as in Kafka.
const REPLICATION_FACTOR_DEFAULT: usize = 1;

/// Everything that concerns one topic.
#[derive(Clone, Debug)]
pub struct Observed {
    pub cluster: Option<KafkaCluster>,
    /// All Topics of the namespace.
    pub siblings: Vec<Topic>,
    pub admin: Admin,
    /// The topic in the cluster, if the brokers could be asked.
    pub live: Option<LiveTopic>,
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LiveTopic {
    pub topic_id: String,
    /// Replicas by partition.
    pub partitions: Vec<Vec<i32>>,
    /// Partitions without a leader.
    pub offline_partitions: usize,
    /// Overrides only.
    pub config: BTreeMap<String, String>,
}

/// A change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    AddFinalizer,
    RemoveFinalizer,
    Create {
        assignments: Vec<Vec<i32>>,
        config: BTreeMap<String, String>,
    },
    Alter {
        topic_id: String,
        partitions_expected: usize,
        added_partitions: Vec<Vec<i32>>,
        set_config: BTreeMap<String, String>,
        reset_config: Vec<String>,
    },
    Delete {
        topic_id: String,
    },
}

/// What is to be done, and what can be said now.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order. After they were carried out, observe and plan again: the status is of before.
    pub actions: Vec<Action>,
    pub status: TopicStatus,
    /// Whether nothing is expected to change soon.
    pub settled: bool,
}

/// Plans one reconciliation.
#[must_use]
pub fn plan(topic: &Topic, observed: &Observed, now: Timestamp) -> Plan {
    if topic.metadata.deletion_timestamp.is_some() {
        return deletion::plan(topic, observed, now);
    }
    let has_finalizer = has_finalizer(topic);
    let finalizer = match topic.spec.deletion_policy {
        DeletionPolicy::Delete if !has_finalizer => Some(Action::AddFinalizer),
        DeletionPolicy::Retain if has_finalizer => Some(Action::RemoveFinalizer),
        DeletionPolicy::Delete | DeletionPolicy::Retain => None,
    };
    let (change, mut status, verdict) = match live(topic, observed) {
        Ok(Some(live)) => existing(topic, live, observed),
        Ok(None) => missing(topic, observed),
        Err(verdict) => (None, former(topic), verdict),
    };
    let settled = verdict.truth == Truth::True && change.is_none();
    status.conditions = conditions(topic, verdict, now);
    Plan {
        actions: finalizer.into_iter().chain(change).collect(),
        status,
        settled,
    }
}

/// The status when the brokers refused a call.
#[must_use]
pub fn refused(topic: &Topic, message: &str, now: Timestamp) -> TopicStatus {
    let verdict = no("RefusedByBrokers", message.to_owned());
    TopicStatus {
        conditions: conditions(topic, verdict, now),
        ..former(topic)
    }
}

/// In which status a condition is a warning.
#[must_use]
pub fn bad(type_: &str) -> Truth {
    match type_ {
        "DeletionBlocked" => Truth::True,
        _ => Truth::False,
    }
}

fn has_finalizer(topic: &Topic) -> bool {
    let finalizers = topic.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers
        .iter()
        .any(|finalizer| finalizer == naming::TOPIC_FINALIZER)
}

type Outcome = (Option<Action>, TopicStatus, Verdict);

/// The topic in the cluster, or why nothing can be done about it.
fn live<'a>(topic: &Topic, observed: &'a Observed) -> Result<Option<&'a LiveTopic>, Verdict> {
    if let Some(older) = observed
        .siblings
        .iter()
        .find(|other| claims_before(other, topic))
    {
        let name = older.metadata.name.as_deref().unwrap_or_default();
        return Err(no(
            "Conflict",
            format!(
                "the older Topic {name} describes topic {}: delete one of the two",
                topic.topic_name()
            ),
        ));
    }
    let cluster_name = &topic.spec.cluster_ref.name;
    let Some(cluster) = &observed.cluster else {
        let message = format!("there is no KafkaCluster {cluster_name} in this namespace");
        return Err(no("ClusterMissing", message));
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Err(no(
            "ClusterDeleting",
            format!("KafkaCluster {cluster_name} is being deleted"),
        ));
    }
    let conditions = cluster
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let ready = find(conditions.unwrap_or_default(), "Ready");
    if ready.is_none_or(|ready| ready.reason == "BrokersStarting") {
        let message = format!("KafkaCluster {cluster_name} has not been ready yet");
        return Err(no("ClusterStarting", message));
    }
    match &observed.admin {
        Admin::Answered(_) => Ok(observed.live.as_ref()),
        Admin::Unreachable(why) => Err(Verdict::new(
            Truth::Unknown,
            "ClusterUnreachable",
            format!("the brokers of {cluster_name} cannot be asked: {why}"),
        )),
    }
}

/// Whether the other object describes the same topic and is older.
fn claims_before(other: &Topic, topic: &Topic) -> bool {
    let age = |topic: &Topic| {
        let created = topic
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        (created, topic.metadata.uid.clone())
    };
    other.metadata.uid != topic.metadata.uid
        && other.metadata.deletion_timestamp.is_none()
        && other.spec.cluster_ref.name == topic.spec.cluster_ref.name
        && other.topic_name() == topic.topic_name()
        && age(other) < age(topic)
}

fn missing(topic: &Topic, observed: &Observed) -> Outcome {
    let status = former(topic);
    if let Some(id) = &status.topic_id {
        let annotations = topic.metadata.annotations.as_ref();
        let allowed = annotations.and_then(|annotations| annotations.get(RECREATE_ANNOTATION));
        if allowed != Some(id) {
            let message = format!(
                "topic {id} is gone, deleted by somebody else; to have an empty one made, annotate \
                 this object with {RECREATE_ANNOTATION}={id}"
            );
            return (None, status, no("TopicMissing", message));
        }
    }
    let partitions = usize::try_from(topic.spec.partitions).unwrap_or(1);
    let placed = plan_topic(
        &brokers(observed),
        partitions,
        replication_factor(topic, observed),
    );
    match placed {
        Ok(assignments) => {
            let status = TopicStatus {
                topic_id: None,
                managed_config: Vec::new(),
                ..status
            };
            let create = Action::Create {
                assignments,
                config: config(topic),
            };
            (
                Some(create),
                status,
                no("Creating", "the topic is being created".to_owned()),
            )
        }
        Err(error) => (None, status, no("PlacementImpossible", error.to_string())),
    }
}

fn existing(topic: &Topic, live: &LiveTopic, observed: &Observed) -> Outcome {
    let former = former(topic);
    match &former.topic_id {
        Some(id) if *id != live.topic_id => {
            let message = format!(
                "the topic of this name is {}, not {id}, made by somebody else and not touched: \
                 delete this object and create it anew to adopt it",
                live.topic_id
            );
            return (None, former, no("TopicReplaced", message));
        }
        Some(_) => {}
        None => {
            if let Err(verdict) = may_adopt(topic, live, observed) {
                return (None, former, verdict);
            }
        }
    }
    let wanted_config = config(topic);
    let status = TopicStatus {
        topic_id: Some(live.topic_id.clone()),
        partitions: i32::try_from(live.partitions.len()).ok(),
        replication_factor: i32::try_from(replicas(live)).ok(),
        managed_config: wanted_config.keys().cloned().collect(),
        unmanaged_config: live
            .config
            .keys()
            .filter(|key| !wanted_config.contains_key(*key))
            .cloned()
            .collect(),
        ..former
    };
    match change(topic, live, observed, wanted_config) {
        Ok(Some(alter)) => (
            Some(alter),
            status,
            no("Altering", "the topic is being altered".to_owned()),
        ),
        Ok(None) if live.offline_partitions > 0 => {
            let message = format!("{} partitions have no leader", live.offline_partitions);
            (None, status, no("PartitionsOffline", message))
        }
        Ok(None) => {
            let verdict = Verdict::new(Truth::True, "Synced", "the topic is as specified");
            (None, status, verdict)
        }
        Err(verdict) => (None, status, verdict),
    }
}

fn may_adopt(topic: &Topic, live: &LiveTopic, observed: &Observed) -> Result<(), Verdict> {
    let (partitions, replicas) = (live.partitions.len(), replicas(live));
    let matches = i32::try_from(partitions) == Ok(topic.spec.partitions)
        && replicas == replication_factor(topic, observed);
    match topic.spec.adoption_policy {
        AdoptionPolicy::Always => Ok(()),
        AdoptionPolicy::IfMatches if matches => Ok(()),
        AdoptionPolicy::IfMatches => Err(no(
            "TopicExists",
            format!(
                "the topic exists with {partitions} partitions and replication factor {replicas}: \
                 put these into the spec, or set adoptionPolicy to Always"
            ),
        )),
        AdoptionPolicy::Never => Err(no(
            "TopicExists",
            "the topic exists already and adoptionPolicy is Never".to_owned(),
        )),
    }
}

fn change(
    topic: &Topic,
    live: &LiveTopic,
    observed: &Observed,
    wanted_config: BTreeMap<String, String>,
) -> Result<Option<Action>, Verdict> {
    let wanted = usize::try_from(topic.spec.partitions).unwrap_or(0);
    let present = live.partitions.len();
    let replicas = replicas(live);
    if present > wanted {
        let message = format!(
            "the topic has {present} partitions and cannot shrink: set spec.partitions to {present}"
        );
        return Err(no("TooManyPartitions", message));
    }
    let specified = topic
        .spec
        .replication_factor
        .and_then(|factor| usize::try_from(factor).ok());
    if specified.is_some_and(|specified| specified != replicas) {
        let message = format!(
            "the topic has replication factor {replicas}, which this version cannot change"
        );
        return Err(no("ReplicationFactorDiffers", message));
    }
    let added = wanted - present;
    let added_partitions = match added {
        0 => Vec::new(),
        _ => plan_added_partitions(&brokers(observed), &live.partitions, added, replicas)
            .map_err(|error| no("PlacementImpossible", error.to_string()))?,
    };
    let managed = topic
        .status
        .iter()
        .flat_map(|status| &status.managed_config);
    let reset_config: BTreeSet<String> = managed
        .filter(|key| live.config.contains_key(*key) && !wanted_config.contains_key(*key))
        .cloned()
        .collect();
    let set_config: BTreeMap<_, _> = wanted_config
        .into_iter()
        .filter(|(key, value)| live.config.get(key) != Some(value))
        .collect();
    if added_partitions.is_empty() && reset_config.is_empty() && set_config.is_empty() {
        return Ok(None);
    }
    Ok(Some(Action::Alter {
        topic_id: live.topic_id.clone(),
        partitions_expected: present,
        added_partitions,
        set_config,
        reset_config: reset_config.into_iter().collect(),
    }))
}

fn brokers(observed: &Observed) -> Vec<Broker> {
    let facts = match &observed.admin {
        Admin::Unreachable(_) => return Vec::new(),
        Admin::Answered(ClusterFacts { brokers, .. }) => brokers,
    };
    facts
        .iter()
        .map(|(id, broker)| Broker {
            id: *id,
            rack: broker.rack.clone(),
            replicas: broker.replicas,
            leaders: broker.leaders,
            available: observed.admin.serves(*id) && !broker.cordoned && !broker.drain,
        })
        .collect()
}

fn replication_factor(topic: &Topic, observed: &Observed) -> usize {
    let of_topic = topic
        .spec
        .replication_factor
        .and_then(|factor| usize::try_from(factor).ok());
    let of_cluster = || {
        let config = &observed.cluster.as_ref()?.spec.config;
        config
            .get("default.replication.factor")?
            .to_string()
            .parse()
            .ok()
    };
    of_topic
        .or_else(of_cluster)
        .unwrap_or(REPLICATION_FACTOR_DEFAULT)
}

fn replicas(live: &LiveTopic) -> usize {
    live.partitions.first().map_or(0, Vec::len)
}

fn config(topic: &Topic) -> BTreeMap<String, String> {
    let config = topic.spec.config.iter();
    config
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect()
}

fn former(topic: &Topic) -> TopicStatus {
    TopicStatus {
        observed_generation: topic.metadata.generation,
        topic_name: Some(topic.topic_name().to_owned()),
        ..topic.status.clone().unwrap_or_default()
    }
}

fn conditions(
    topic: &Topic,
    verdict: Verdict,
    now: Timestamp,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let former = topic
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let generation = topic.metadata.generation;
    vec![verdict.into_condition("Ready", former.unwrap_or_default(), generation, now)]
}

fn no(reason: &'static str, message: String) -> Verdict {
    Verdict::new(Truth::False, reason, message)
}
