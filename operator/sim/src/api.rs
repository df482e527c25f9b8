//! A model of the API server: objects with uids and resource versions, applied by force as the one
//! owner of all their fields, deleted under preconditions.

use std::collections::BTreeMap;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use klamm_crds::{KafkaCluster, KafkaClusterStatus};
use operator_plan::kafka_cluster::Judged;
use operator_plan::resources::Object;

use crate::clock;
use crate::trace::Seconds;

/// By name: there is one namespace.
pub(crate) type Objects<K> = BTreeMap<String, K>;

/// Another version than the one that was read.
#[derive(Debug)]
pub(crate) struct Conflict;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) cluster: KafkaCluster,
    pub(crate) has_token: bool,
    pub(crate) nodes: Objects<Node>,
    pub(crate) pods: Objects<Pod>,
    pub(crate) stateful_sets: Objects<StatefulSet>,
    pub(crate) services: Objects<Service>,
    pub(crate) volumes: Objects<PersistentVolumeClaim>,
    pub(crate) config_maps: Objects<ConfigMap>,
    pub(crate) network_policies: Objects<NetworkPolicy>,
    pub(crate) budgets: Objects<PodDisruptionBudget>,
    pub(crate) accounts: Objects<ServiceAccount>,
    stamps: Stamps,
}

#[derive(Debug, Default)]
struct Stamps {
    version: u64,
    uid: u64,
}

impl Stamps {
    fn version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn uid(&mut self) -> Option<String> {
        self.uid += 1;
        Some(format!("uid-{}", self.uid))
    }
}

impl Api {
    pub(crate) fn new(cluster: KafkaCluster) -> Self {
        Self {
            cluster,
            has_token: false,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            stateful_sets: BTreeMap::new(),
            services: BTreeMap::new(),
            volumes: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            network_policies: BTreeMap::new(),
            budgets: BTreeMap::new(),
            accounts: BTreeMap::new(),
            stamps: Stamps::default(),
        }
    }

    /// Rises with every change.
    pub(crate) const fn version(&self) -> u64 {
        self.stamps.version
    }

    /// What users do to the spec.
    pub(crate) fn change_spec(&mut self, change: impl FnOnce(&mut KafkaCluster)) {
        let former = self.cluster.spec.clone();
        change(&mut self.cluster);
        if self.cluster.spec != former {
            let generation = self.cluster.metadata.generation.get_or_insert(0);
            *generation += 1;
            self.cluster.metadata.resource_version = self.stamps.version();
        }
    }

    pub(crate) fn replace_status(
        &mut self,
        read: &KafkaCluster,
        status: &KafkaClusterStatus,
    ) -> Result<KafkaCluster, Conflict> {
        if self.cluster.metadata.resource_version != read.metadata.resource_version {
            return Err(Conflict);
        }
        if self.cluster.status.as_ref() != Some(status) {
            self.cluster.status = Some(status.clone());
            self.cluster.metadata.resource_version = self.stamps.version();
        }
        Ok(self.cluster.clone())
    }

    pub(crate) fn apply(&mut self, object: &Object) {
        let stamps = &mut self.stamps;
        match object {
            Object::ServiceAccount(object) => put(&mut self.accounts, object, stamps),
            Object::Service(object) => put(&mut self.services, object, stamps),
            Object::ConfigMap(object) => put(&mut self.config_maps, object, stamps),
            Object::NetworkPolicy(object) => put(&mut self.network_policies, object, stamps),
            Object::PodDisruptionBudget(object) => put(&mut self.budgets, object, stamps),
            Object::PersistentVolumeClaim(object) => put(&mut self.volumes, object, stamps),
            Object::StatefulSet(object) => put(&mut self.stateful_sets, object.as_ref(), stamps),
        }
    }

    pub(crate) fn create_pod(&mut self, pod: &Pod) {
        put(&mut self.pods, pod, &mut self.stamps);
    }

    /// Changes the pod's status.
    pub(crate) fn update_pod(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        let former = pod.clone();
        change(pod);
        if *pod != former {
            pod.metadata.resource_version = self.stamps.version();
        }
    }

    pub(crate) fn update_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(name) {
            change(node);
            node.metadata.resource_version = self.stamps.version();
        }
    }

    /// Marks the pod, which its node ends. One that is gone or has changed is fine.
    pub(crate) fn delete_pod(&mut self, judged: &Judged, now: Seconds) -> bool {
        mark(&mut self.pods, judged, now, &mut self.stamps)
    }

    /// Whether a deletion of the pod would have an effect.
    pub(crate) fn is_as_judged(&self, pod: &Judged) -> bool {
        let live = self.pods.get(&pod.name);
        live.is_some_and(|live| is_as_judged(&live.metadata, pod))
    }

    /// Marks the volume, which goes once no pod uses it.
    pub(crate) fn delete_volume(&mut self, judged: &Judged, now: Seconds) -> bool {
        mark(&mut self.volumes, judged, now, &mut self.stamps)
    }

    /// Its pod is an orphan from now on.
    pub(crate) fn delete_stateful_set(&mut self, judged: &Judged) -> bool {
        let set = self.stateful_sets.get(&judged.name);
        let fits = set.is_some_and(|set| is_as_judged(&set.metadata, judged));
        if fits {
            self.stateful_sets.remove(&judged.name);
            self.stamps.version();
        }
        fits
    }

    pub(crate) fn remove_pod(&mut self, name: &str) {
        if self.pods.remove(name).is_some() {
            self.stamps.version();
        }
    }

    pub(crate) fn remove_volume(&mut self, name: &str) {
        if self.volumes.remove(name).is_some() {
            self.stamps.version();
        }
    }
}

fn put<K>(objects: &mut Objects<K>, desired: &K, stamps: &mut Stamps)
where
    K: Metadata<Ty = ObjectMeta> + Clone + PartialEq,
{
    let name = desired.metadata().name.clone().unwrap_or_default();
    let mut next = desired.clone();
    let metadata = next.metadata_mut();
    if let Some(live) = objects.get(&name) {
        let live_metadata = live.metadata();
        metadata.uid.clone_from(&live_metadata.uid);
        let (version, deleted) = (
            &live_metadata.resource_version,
            &live_metadata.deletion_timestamp,
        );
        metadata.resource_version.clone_from(version);
        metadata.deletion_timestamp.clone_from(deleted);
        if next == *live {
            return;
        }
    } else {
        metadata.uid = stamps.uid();
    }
    next.metadata_mut().resource_version = stamps.version();
    objects.insert(name, next);
}

fn mark<K>(objects: &mut Objects<K>, judged: &Judged, now: Seconds, stamps: &mut Stamps) -> bool
where
    K: Metadata<Ty = ObjectMeta>,
{
    let Some(object) = objects.get_mut(&judged.name) else {
        return false;
    };
    let metadata = object.metadata_mut();
    if !is_as_judged(metadata, judged) || metadata.deletion_timestamp.is_some() {
        return false;
    }
    metadata.deletion_timestamp = Some(Time(clock::timestamp(now)));
    metadata.resource_version = stamps.version();
    true
}

fn is_as_judged(metadata: &ObjectMeta, judged: &Judged) -> bool {
    let version = judged.resource_version.as_ref();
    metadata.uid.as_ref() == Some(&judged.uid)
        && version.is_none_or(|version| metadata.resource_version.as_ref() == Some(version))
}

/// The object as it is, for whoever deletes it without a look.
pub(crate) fn any_version<K>(object: &K) -> Judged
where
    K: Metadata<Ty = ObjectMeta>,
{
    let metadata = object.metadata();
    Judged {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: None,
    }
}
