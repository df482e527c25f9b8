//! Which changes of `spec.config` brokers take while they run, and which cost them a restart.
//!
//! A broker starts with the version of the configuration that its StatefulSet names. As long as the
//! wanted version differs from it only in what running brokers take, it keeps that version, and the
//! difference is set by ApplyConfig, which outlives restarts and goes before the file. Everything else
//! needs the wanted version and with it a restart. What the brokers refuse changes nothing, for none of
//! them would start with it. Brokers that run know the voters better than any file, and one that lost its
//! disk finds them as long as its file names one of them.
//!
//! Keys that were set this way are recorded before they are set, so that removing one from the spec
//! takes it back; a key that a file sets is only taken back by a restart.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::{ClusterFacts, ConfigVerdicts, KeyVerdict, Observed};
use crate::resources::{VOTERS_KEY, named_version, versions};
use crate::validate::{Problem, Validated};

/// Refused keys that a message names.
const NAMED_MAX: usize = 5;

/// What becomes of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigPlan {
    /// Versions of brokers that keep the one of their StatefulSet, by its name.
    kept: BTreeMap<String, String>,
    /// For brokers without a StatefulSet, where the wanted version is refused.
    fallback: Option<String>,
    /// What running brokers shall be told.
    pub change: Option<ConfigChange>,
    /// Keys that are set while brokers run, to be recorded first.
    pub managed: Vec<String>,
    /// Why the wanted configuration is refused.
    pub problem: Option<Problem>,
}

/// To be set for all brokers, and to be put back to what their files say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigChange {
    pub set: BTreeMap<String, String>,
    pub reset: Vec<String>,
}

impl ConfigPlan {
    /// The version with which the broker of that StatefulSet is to start next.
    #[must_use]
    pub fn version<'a>(&'a self, stateful_set: &str, wanted: &'a str) -> &'a str {
        let kept = self.kept.get(stateful_set).or(self.fallback.as_ref());
        kept.map_or(wanted, String::as_str)
    }
}

/// Plans. `managed` are the keys that were recorded.
pub(crate) fn plan(
    valid: &Validated,
    wanted: &str,
    managed: &[String],
    observed: &Observed,
) -> ConfigPlan {
    let live = live_versions(observed);
    let verdicts = match &observed.answers.config {
        Some(ConfigVerdicts::Known(verdicts)) => Some(verdicts),
        Some(ConfigVerdicts::Unknown(_)) | None => None,
    };
    if let Some(problem) = verdicts.and_then(refusal) {
        return ConfigPlan {
            fallback: live.values().next().cloned(),
            kept: live,
            problem: Some(problem),
            managed: managed.to_vec(),
            change: None,
        };
    }
    let is_dynamic =
        |key: &str| verdicts.and_then(|verdicts| verdicts.get(key)) == Some(&KeyVerdict::Dynamic);
    let stays = |version: &String| {
        let mut changed = changed_keys(version, wanted).into_iter();
        changed.all(|key| match key.as_str() {
            VOTERS_KEY => names_a_voter(version, wanted),
            key => valid.config.contains_key(key) && is_dynamic(key),
        })
    };
    let told = told_keys(valid, wanted, &live, managed, observed);
    let told: BTreeMap<_, _> = told.filter(|(key, _)| is_dynamic(key)).collect();
    let (managed, change) = change(valid, told, managed, observed.admin.confirmed());
    ConfigPlan {
        kept: live.into_iter().filter(|(_, v)| stays(v)).collect(),
        fallback: None,
        change,
        managed,
        problem: None,
    }
}

/// The properties that the brokers must judge before anything is decided; empty when nothing changes.
pub(crate) fn to_validate(
    valid: &Validated,
    wanted: &str,
    managed: &[String],
    observed: &Observed,
) -> BTreeMap<String, String> {
    let live = live_versions(observed);
    told_keys(valid, wanted, &live, managed, observed).collect()
}

/// Keys of the spec whose value a running broker may not have from its file, or has from elsewhere.
fn told_keys<'a>(
    valid: &'a Validated,
    wanted: &str,
    live: &BTreeMap<String, String>,
    managed: &'a [String],
    observed: &'a Observed,
) -> impl Iterator<Item = (String, String)> + 'a {
    let mut changed: BTreeSet<String> = live
        .values()
        .flat_map(|version| changed_keys(version, wanted))
        .collect();
    changed.extend(managed.iter().cloned());
    if let Some(facts) = observed.admin.confirmed() {
        changed.extend(facts.dynamic_config.keys().cloned());
    }
    let of_spec = valid.config.iter();
    let of_spec = of_spec.filter(move |(key, _)| changed.contains(*key));
    of_spec.map(|(key, value)| (key.clone(), value.clone()))
}

fn change(
    valid: &Validated,
    told: BTreeMap<String, String>,
    managed: &[String],
    facts: Option<&ClusterFacts>,
) -> (Vec<String>, Option<ConfigChange>) {
    let Some(facts) = facts else {
        return (managed.to_vec(), None);
    };
    let is_set = |key: &String| facts.dynamic_config.contains_key(key);
    let removed = managed
        .iter()
        .filter(|key| !valid.config.contains_key(*key));
    let reset: Vec<_> = removed.filter(|key| is_set(key)).cloned().collect();
    let kept = managed.iter().filter(|key| valid.config.contains_key(*key));
    let managed: BTreeSet<_> = kept.chain(told.keys()).chain(&reset).cloned().collect();
    let set: BTreeMap<_, _> = told
        .into_iter()
        .filter(|(key, value)| facts.dynamic_config.get(key) != Some(value))
        .collect();
    let change = ConfigChange { set, reset };
    (
        managed.into_iter().collect(),
        Some(change).filter(|change| *change != ConfigChange::default()),
    )
}

/// By StatefulSet: the configuration that it names, where that is still there.
fn live_versions(observed: &Observed) -> BTreeMap<String, String> {
    let versions = versions(observed.config_map.as_ref());
    let of_set = |set| {
        let (name, key) = named_version(set)?;
        Some((name.clone(), versions?.get(key)?.clone()))
    };
    observed.stateful_sets.iter().filter_map(of_set).collect()
}

fn changed_keys(from: &str, to: &str) -> BTreeSet<String> {
    let (from, to) = (parsed(from), parsed(to));
    let keys = from.keys().chain(to.keys());
    keys.filter(|key| from.get(*key) != to.get(*key))
        .map(|key| (*key).to_owned())
        .collect()
}

/// Whether a broker that starts from that file with an empty disk asks one of the voters.
fn names_a_voter(version: &str, wanted: &str) -> bool {
    voters(version).any(|voter| voters(wanted).any(|other| other == voter))
}

fn voters(properties: &str) -> impl Iterator<Item = &str> {
    let listed = parsed(properties).get(VOTERS_KEY).copied();
    listed.into_iter().flat_map(|voters| voters.split(','))
}

/// The operator writes one `key=value` for each line.
fn parsed(properties: &str) -> BTreeMap<&str, &str> {
    let lines = properties.lines();
    lines.filter_map(|line| line.split_once('=')).collect()
}

fn refusal(verdicts: &BTreeMap<String, KeyVerdict>) -> Option<Problem> {
    let refused = verdicts.values().filter_map(|verdict| match verdict {
        KeyVerdict::Refused(why) => Some(why.as_str()),
        KeyVerdict::Dynamic | KeyVerdict::NeedsRestart => None,
    });
    let named: Vec<_> = refused.take(NAMED_MAX).collect();
    (!named.is_empty()).then(|| Problem {
        reason: "InvalidConfig",
        message: format!(
            "the brokers refuse spec.config: {}; they keep their former configuration until it is \
             corrected",
            named.join("; ")
        ),
    })
}

#[cfg(test)]
mod tests;
