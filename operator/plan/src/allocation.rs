//! Identity: cluster id, voters, and each broker's id, zone and address. Allocated once and recorded in
//! the status before anything is made from it. A broker that was removed leaves it last, and its id is
//! never given again.
//!
//! A cluster whose status is empty but whose volumes exist was deleted with its volumes retained:
//! its identity is read back from their annotations.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use klamm_crds::{BrokerStatus, DeletionPolicy, KafkaClusterStatus, Pool};

use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::observed::Observed;
use crate::scale;
use crate::topology;
use crate::validate::{Problem, Validated};
use crate::voters::{self, Candidate};

/// Who the cluster is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allocation {
    pub cluster_id: String,
    /// The founding voters, and once there is a quorum its voters. Ascending.
    pub voters: Vec<i32>,
    /// Whether these have formed their quorum.
    pub quorum_formed: bool,
    /// By id.
    pub brokers: Vec<Broker>,
    /// Higher than any id that was given.
    pub next_broker_id: i32,
    /// Port of the bootstrap address for clients of the NodePort listener, once there is one.
    pub bootstrap_node_port: Option<i32>,
}

/// Who and where a broker is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Broker {
    pub id: i32,
    pub pool: String,
    pub zone: Option<String>,
    /// Host for clients of the NodePort listener.
    pub advertised_host: Option<String>,
    /// Port for clients of the NodePort listener, once Kubernetes has given one.
    pub node_port: Option<i32>,
    /// Whether it is being removed, or that has not been undone yet.
    pub leaving: bool,
    /// Whether it was added and has not got its share of the replicas yet.
    pub joining: bool,
}

impl Allocation {
    /// The cluster's identity as far as it has one: from its status, or else from its volumes.
    ///
    /// # Errors
    /// When the volumes are of different clusters.
    pub fn recorded(
        status: Option<&KafkaClusterStatus>,
        uid: &str,
        volumes: &[PersistentVolumeClaim],
    ) -> Result<Self, Problem> {
        match status {
            Some(KafkaClusterStatus {
                cluster_id: Some(cluster_id),
                voters,
                quorum_formed,
                brokers,
                next_broker_id,
                listeners,
                ..
            }) => Ok(Self {
                cluster_id: cluster_id.clone(),
                voters: voters.clone(),
                quorum_formed: *quorum_formed,
                brokers: brokers.iter().map(Broker::from).collect(),
                next_broker_id: *next_broker_id,
                bootstrap_node_port: listeners.iter().find_map(|listener| listener.node_port),
            }),
            _ => from_volumes(uid, volumes),
        }
    }

    /// Adds what the spec wants and nobody has yet; drops brokers of which nothing is left.
    #[must_use]
    pub fn extended(mut self, valid: &Validated, observed: &Observed) -> Self {
        if self.cluster_id.is_empty() {
            self.cluster_id.clone_from(&observed.fresh_cluster_id);
        }
        let forgets = mutated(Mutation::ReuseIds);
        let recorded = if forgets { 0 } else { self.next_broker_id };
        self.next_broker_id = (self.brokers.iter())
            .map(|broker| broker.id + 1)
            .fold(recorded, i32::max);
        self.part_with_leaving(valid, observed);
        self.settle_joining(observed);
        for pool in &valid.pools {
            self.add_brokers(pool, valid, observed);
        }
        if let Some(facts) = observed.admin.confirmed().filter(|f| !f.voters.is_empty()) {
            self.voters.clone_from(&facts.voters);
            self.voters.sort_unstable();
        }
        if self.voters.is_empty() {
            let founding: Vec<_> = self.brokers.iter().map(founding).collect();
            self.voters = voters::choose(&founding, valid.voters);
        }
        self.quorum_formed |= observed.admin.confirmed().is_some();
        let bootstrap = naming::external_bootstrap_service(&valid.name);
        self.bootstrap_node_port = valid.node_port.as_ref().and_then(|listener| {
            let given = node_port(&observed.services, &bootstrap).or(self.bootstrap_node_port);
            listener.bootstrap_node_port.or(given)
        });
        for broker in &mut self.brokers {
            advertise(broker, valid, observed);
        }
        self
    }

    fn part_with_leaving(&mut self, valid: &Validated, observed: &Observed) {
        let leaving = scale::leaving(&valid.pools, &self.brokers);
        let processes = scale::processes(&valid.name, &self.brokers, observed);
        let departed = scale::departed(&leaving, &processes, &observed.admin);
        self.brokers.retain(|broker| {
            let name = naming::volume(&valid.name, &broker.pool, broker.id);
            let is_kept = |volume: &PersistentVolumeClaim| {
                volume.metadata.name.as_deref() == Some(&name) && !is_released(valid, volume)
            };
            !departed.contains(&broker.id) || observed.volumes.iter().any(is_kept)
        });
        let is_undone = |id| {
            let facts = observed.admin.confirmed();
            facts.is_some_and(|facts| scale::taken_back(facts, id))
        };
        for broker in &mut self.brokers {
            let recorded = broker.leaving && !is_undone(broker.id);
            let stays = broker.leaving && !leaving.contains(&broker.id) && !recorded;
            broker.leaving = leaving.contains(&broker.id) || recorded;
            // It has lost some of its replicas already.
            broker.joining |= stays;
        }
    }

    fn settle_joining(&mut self, observed: &Observed) {
        let progress = observed.answers.rebalance.as_ref();
        for broker in &mut self.brokers {
            broker.joining &= !scale::has_share(broker, &observed.admin, progress);
        }
    }

    fn add_brokers(&mut self, pool: &Pool, valid: &Validated, observed: &Observed) {
        let present = self
            .brokers
            .iter()
            .filter(|broker| broker.pool == pool.name)
            .count();
        let wanted = usize::try_from(pool.replicas).unwrap_or(0);
        let zones = topology::zones(&observed.nodes, &valid.topology_key, pool);
        for _ in present..wanted {
            let in_zone = |zone: &String, of_pool: bool| {
                self.brokers
                    .iter()
                    .filter(|broker| broker.zone.as_ref() == Some(zone))
                    .filter(|broker| !of_pool || broker.pool == pool.name)
                    .count()
            };
            let zone = zones
                .iter()
                .min_by_key(|zone| (in_zone(zone, true), in_zone(zone, false)))
                .cloned();
            let id = self.next_broker_id;
            self.next_broker_id += 1;
            self.brokers.push(Broker {
                id,
                pool: pool.name.clone(),
                zone,
                joining: self.quorum_formed,
                ..Broker::default()
            });
        }
    }

    /// Zone of each broker by id.
    #[must_use]
    pub fn zones(&self) -> BTreeMap<i32, Option<&str>> {
        self.brokers
            .iter()
            .map(|broker| (broker.id, broker.zone.as_deref()))
            .collect()
    }
}

impl From<&BrokerStatus> for Broker {
    fn from(status: &BrokerStatus) -> Self {
        Self {
            id: status.id,
            pool: status.pool.clone(),
            zone: status.zone.clone(),
            advertised_host: status.advertised_host.clone(),
            node_port: status.node_port,
            leaving: status.leaving,
            joining: status.joining,
        }
    }
}

/// Nobody votes yet, and who will serve is not known.
fn founding(broker: &Broker) -> Candidate<'_> {
    Candidate {
        id: broker.id,
        zone: broker.zone.as_deref(),
        votes: false,
        serves: false,
    }
}

/// Whether the volume of a removed broker is as the policy wants it.
fn is_released(valid: &Validated, volume: &PersistentVolumeClaim) -> bool {
    match valid.volume_policy {
        DeletionPolicy::Delete => false,
        DeletionPolicy::Retain => is_retired(volume),
    }
}

fn is_retired(volume: &PersistentVolumeClaim) -> bool {
    let annotations = volume.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(naming::RETIRED_ANNOTATION))
}

/// Chooses the broker's address for clients outside. What was chosen before stays as long as it
/// works: a new address costs the broker a restart.
fn advertise(broker: &mut Broker, valid: &Validated, observed: &Observed) {
    let Some(listener) = &valid.node_port else {
        broker.advertised_host = None;
        broker.node_port = None;
        return;
    };
    let service = naming::external_broker_service(&valid.name, broker.id);
    if let Some(port) = node_port(&observed.services, &service) {
        broker.node_port = Some(port);
    }
    if let Some(template) = &listener.advertised_host {
        broker.advertised_host = Some(template.replace("{brokerId}", &broker.id.to_string()));
        return;
    }
    let current = broker.advertised_host.as_deref();
    if current.is_some_and(|address| topology::has_address(&observed.nodes, address)) {
        return;
    }
    let Some(pool) = valid.pools.iter().find(|pool| pool.name == broker.pool) else {
        return;
    };
    let zone = broker.zone.as_deref();
    let addresses = topology::addresses(&observed.nodes, &valid.topology_key, pool, zone);
    let index = usize::try_from(broker.id).unwrap_or(0);
    if let Some(address) = addresses.get(index % addresses.len().max(1)) {
        broker.advertised_host = Some((*address).to_owned());
    }
}

/// The node port of a Service of that name.
fn node_port(services: &[Service], name: &str) -> Option<i32> {
    let service = services
        .iter()
        .find(|service| service.metadata.name.as_deref() == Some(name))?;
    service.spec.as_ref()?.ports.as_ref()?.first()?.node_port
}

fn from_volumes(uid: &str, volumes: &[PersistentVolumeClaim]) -> Result<Allocation, Problem> {
    let mut found = Allocation::default();
    for volume in volumes
        .iter()
        .filter(|volume| outlives_its_cluster(volume, uid))
    {
        let Some((cluster_id, voters, broker)) = identity(volume) else {
            continue;
        };
        found.next_broker_id = found.next_broker_id.max(broker.id + 1);
        // What it says of the cluster is as old as the removal of its broker.
        if is_retired(volume) {
            continue;
        }
        if found.cluster_id.is_empty() {
            found.cluster_id = cluster_id;
            found.voters = voters;
        } else if found.cluster_id != cluster_id {
            return Err(Problem {
                reason: "VolumesOfDifferentClusters",
                message: format!(
                    "the retained volumes belong to the clusters {} and {cluster_id}: delete those \
                     that are not wanted, or choose another name for this KafkaCluster",
                    found.cluster_id
                ),
            });
        }
        found.brokers.push(broker);
    }
    found.brokers.sort_by_key(|broker| broker.id);
    Ok(found)
}

/// Not about to be deleted, by hand or with a former KafkaCluster of the same name.
fn outlives_its_cluster(volume: &PersistentVolumeClaim, uid: &str) -> bool {
    let owners = volume
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    volume.metadata.deletion_timestamp.is_none() && owners.iter().all(|owner| owner.uid == uid)
}

fn identity(volume: &PersistentVolumeClaim) -> Option<(String, Vec<i32>, Broker)> {
    let labels = volume.metadata.labels.as_ref()?;
    let annotations = volume.metadata.annotations.as_ref()?;
    let voters = annotations.get(naming::VOTERS_ANNOTATION)?;
    let broker = Broker {
        id: labels.get(naming::BROKER_LABEL)?.parse().ok()?,
        pool: labels.get(naming::POOL_LABEL)?.clone(),
        zone: annotations.get(naming::ZONE_ANNOTATION).cloned(),
        ..Broker::default()
    };
    Some((
        annotations.get(naming::CLUSTER_ID_ANNOTATION)?.clone(),
        voters.split(',').filter_map(|id| id.parse().ok()).collect(),
        broker,
    ))
}
