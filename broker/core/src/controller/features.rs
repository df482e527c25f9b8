//! Feature levels (KIP-584): what the cluster may rely on every broker to know.
//!
//! A feature is finalized at a level that every registered broker supports. A broker that does not
//! support the finalized levels cannot register.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::{FeatureUpdate, UpdateFeatures, UpgradeType};
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::response::{Accepted, Response};
use crate::metadata::{self, Feature, FeatureRange, Image, Record};

/// Features that this version has, with their lowest and highest level. Those of Kafka have Kafka's
/// levels: `metadata.version` 27 is that of Kafka 4.1, from which clients conclude on APIs.
const SUPPORTED: [(&str, u32, u32); 3] = [
    ("eligible.leader.replicas.version", 1, 1),
    ("metadata.version", 27, 27),
    ("transaction.version", 0, 2),
];

/// What this version supports.
#[must_use]
pub fn supported_features() -> Vec<FeatureRange> {
    let supported = SUPPORTED.iter();
    let ranges = supported.map(|(name, min, max)| FeatureRange {
        name: String::from(*name),
        min_level: *min,
        max_level: *max,
    });
    ranges.collect()
}

/// What a new cluster starts with.
#[must_use]
pub fn initial_features() -> BTreeMap<String, u32> {
    let supported = SUPPORTED.iter();
    supported
        .map(|(name, _, max)| (String::from(*name), *max))
        .collect()
}

/// The levels at which a feature can be finalized: those that every registered broker supports.
#[must_use]
pub fn common_levels(image: &Image, feature: &str) -> Option<FeatureRange> {
    let ranges = image
        .brokers
        .values()
        .map(|broker| range(&broker.features, feature));
    let common = ranges.reduce(|(min, max), other| (min.max(other.0), max.min(other.1)));
    let (min_level, max_level) = common?;
    (max_level > 0 && min_level <= max_level).then(|| FeatureRange {
        name: String::from(feature),
        min_level,
        max_level,
    })
}

/// A feature that a broker does not know is at level 0 there.
fn range(features: &[FeatureRange], name: &str) -> (u32, u32) {
    let known = features.iter().find(|known| known.name == name);
    known.map_or((0, 0), |known| (known.min_level, known.max_level))
}

pub(super) fn update(draft: &mut Draft, command: &UpdateFeatures) -> Result<Response, Failure> {
    let mut named = BTreeSet::new();
    for update in &command.updates {
        if !named.insert(&update.name) {
            let reason = format!("feature {} is named twice", update.name);
            return Err(Failure::new(CommandError::InvalidRequest, reason));
        }
        check(draft.image(), update)?;
    }
    if named.is_empty() {
        let reason = "name at least one feature";
        return Err(Failure::new(CommandError::InvalidRequest, reason));
    }
    for update in &command.updates {
        let level = draft.image().features.get(&update.name).copied();
        if !command.validate_only && level.unwrap_or(0) != update.level {
            draft.push(Record::Feature(Feature {
                name: update.name.clone(),
                level: update.level,
            }));
        }
    }
    Ok(Response::Accepted(Accepted {}))
}

fn check(image: &Image, update: &FeatureUpdate) -> Result<(), Failure> {
    let FeatureUpdate { name, level, .. } = update;
    let refuse = |reason: String| Err(Failure::new(CommandError::FeatureUpdateFailed, reason));
    let current = image.features.get(name).copied().unwrap_or(0);
    match (level.cmp(&current), update.upgrade_type()) {
        (core::cmp::Ordering::Less, UpgradeType::Upgrade) => {
            return refuse(format!(
                "feature {name} is at level {current}; ask for a downgrade to lower it to {level}"
            ));
        }
        (
            core::cmp::Ordering::Greater,
            UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade,
        ) => {
            return refuse(format!(
                "feature {name} is at level {current}; ask for an upgrade to raise it to {level}"
            ));
        }
        _ => {}
    }
    let knows = |features: &[FeatureRange]| features.iter().any(|known| known.name == *name);
    if current == 0 && !image.brokers.values().any(|broker| knows(&broker.features)) {
        return refuse(format!("no broker knows the feature {name}"));
    }
    for broker in image.brokers.values() {
        let (min, max) = range(&broker.features, name);
        if !(min..=max).contains(level) {
            return refuse(format!(
                "broker {} supports levels {min} to {max} of {name}, not {level}: upgrade it, or \
                 unregister it if it is gone",
                broker.id
            ));
        }
    }
    Ok(())
}

pub(super) fn check_registration(
    image: &Image,
    registration: &metadata::RegisterBroker,
) -> Result<(), Failure> {
    for (name, level) in &image.features {
        let (min, max) = range(&registration.features, name);
        if !(min..=max).contains(level) {
            let reason = format!(
                "the cluster runs at level {level} of {name}, and broker {} supports {min} to {max}: \
                 install a version that supports it",
                registration.broker_id
            );
            return Err(Failure::new(CommandError::UnsupportedFeatureLevel, reason));
        }
    }
    Ok(())
}
