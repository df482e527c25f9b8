//! The ConfigMap with the brokers' shared configuration, one key per version of it.
//!
//! A broker keeps the version of its pod template until its restart is due, even if its container
//! crashes before. So the versions that StatefulSets still name stay.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{broker_config, hash, owned};
use crate::allocation::Allocation;
use crate::naming;
use crate::validate::Validated;

/// The ConfigMap, with the versions of `live` that are still in use.
#[must_use]
pub fn config_map(
    valid: &Validated,
    allocation: &Allocation,
    live: Option<&ConfigMap>,
    stateful_sets: &[StatefulSet],
) -> ConfigMap {
    let properties = broker_config::shared_properties(valid, allocation);
    let mut data: BTreeMap<_, _> = live
        .and_then(|live| live.data.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| stateful_sets.iter().any(|set| used_key(set) == Some(key)))
        .collect();
    data.insert(key(&properties), properties);
    ConfigMap {
        metadata: owned(valid, naming::config_map(&valid.name)),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Key of a version.
pub(super) fn key(properties: &str) -> String {
    format!("server-{}.properties", hash(&properties))
}

fn used_key(set: &StatefulSet) -> Option<&String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let sources = pod
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref());
    sources
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.config_map.as_ref())
        .flat_map(|source| source.items.iter().flatten())
        .map(|item| &item.key)
        .next()
}
