//! The Kubernetes objects of a cluster, each made by a function of the validated spec and the
//! allocation. Two depend on what runs as well, to be of use to brokers that wait for their turn: the
//! ConfigMap and the NetworkPolicy.

mod broker_config;
mod config_map;
mod network_policy;
mod pod_disruption_budget;
mod secret;
mod service_account;
mod services;
mod stateful_set;
mod volume;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use broker_config::shared_properties;
pub(crate) use broker_config::{VOTERS_KEY, bracketed};
pub use config_map::{config_map, named_version, versions};
pub use network_policy::network_policy;
pub use pod_disruption_budget::{Disruptions, pod_disruption_budget};
pub use secret::token_secret;
pub use service_account::service_account;
pub use services::services;
pub use stateful_set::{revision, stateful_set};
pub use volume::{retired, volume};

use crate::naming;
use crate::validate::Validated;

/// Hexadecimal digits of hashes in names and annotations.
const HASH_DIGITS: usize = 10;

/// An object to be brought to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    ServiceAccount(ServiceAccount),
    Service(Service),
    ConfigMap(ConfigMap),
    NetworkPolicy(NetworkPolicy),
    PodDisruptionBudget(PodDisruptionBudget),
    PersistentVolumeClaim(PersistentVolumeClaim),
    StatefulSet(Box<StatefulSet>),
}

/// The object if the live one is missing or differs in anything that we say about it.
///
/// What others add (defaults, status, allocated addresses) is no difference. What an earlier version
/// of us said and this one does not is found by the hash of what was applied.
pub fn unless_applied<T>(
    mut desired: T,
    live: Option<&T>,
    into_object: fn(T) -> Object,
) -> Option<Object>
where
    T: Serialize + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    let applied = hash(&desired);
    desired
        .metadata_mut()
        .annotations
        .get_or_insert_default()
        .insert(naming::APPLIED_ANNOTATION.to_owned(), applied);
    let current = live.is_some_and(|live| contains(&to_value(live), &to_value(&desired)));
    (!current).then(|| into_object(desired))
}

/// Whether all of `part` is in `whole`.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole
                    .iter()
                    .zip(part)
                    .all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

fn to_value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("Kubernetes objects are plain data")
}

fn hash<T: Serialize>(object: &T) -> String {
    let digest = Sha256::digest(to_value(object).to_string());
    let mut text = format!("{digest:x}");
    text.truncate(HASH_DIGITS);
    text
}

/// Metadata of an object that goes with the cluster.
fn owned(valid: &Validated, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(naming::cluster_labels(&valid.name)),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}
