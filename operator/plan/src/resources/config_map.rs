//! The ConfigMap with the brokers' shared configuration, one key per version of it.
//!
//! A broker keeps the version of its pod template until its restart is due, even if its container
//! crashes before. So the versions that StatefulSets still name stay.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{hash, owned};
use crate::naming;
use crate::validate::Validated;

/// The ConfigMap: the wanted version, and those of `live` that are still in use.
#[must_use]
pub fn config_map(
    valid: &Validated,
    wanted: String,
    live: Option<&ConfigMap>,
    stateful_sets: &[StatefulSet],
) -> ConfigMap {
    let mut data: BTreeMap<_, _> = live
        .and_then(|live| live.data.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| {
            let mut named = stateful_sets.iter().filter_map(named_version);
            named.any(|(_, named)| named == key)
        })
        .collect();
    data.insert(key(&wanted), wanted);
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

/// All versions, by key.
#[must_use]
pub fn versions(live: Option<&ConfigMap>) -> Option<&BTreeMap<String, String>> {
    live?.data.as_ref()
}

/// Name of the StatefulSet and key of the version with which its pod starts.
#[must_use]
pub fn named_version(set: &StatefulSet) -> Option<(&String, &String)> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    let sources = pod
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref());
    let key = sources
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.config_map.as_ref())
        .flat_map(|source| source.items.iter().flatten())
        .map(|item| &item.key)
        .next()?;
    Some((set.metadata.name.as_ref()?, key))
}
