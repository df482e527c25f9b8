//! Settings of topics, of brokers and of the whole cluster (KIP-339).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::command::{AlterConfigs, AlterMode, ConfigOp, ConfigOpType, ConfigResource};
use super::context::Context;
use super::draft::{Draft, UNCLEAN_LEADER_ELECTION};
use super::election::Settlement;
use super::error::{CommandError, Failure};
use super::response::{AlterConfigsResponse, ConfigAltered, Response};
use crate::metadata::{Config, MIN_INSYNC_REPLICAS, Record, ResourceType};
use crate::{BrokerId, TopicPartition};

/// Length of the longest value.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32_767;

type Settings = BTreeMap<String, String>;

pub(super) fn alter(draft: &mut Draft, context: &Context<'_>, command: &AlterConfigs) -> Response {
    let mut seen = BTreeSet::new();
    let resources = command.resources.iter().map(|resource| {
        let outcome = if seen.insert((resource.resource_type, resource.name.as_str())) {
            alter_one(draft, context, resource)
        } else {
            Err(Failure::new(
                CommandError::InvalidRequest,
                "the request names the resource twice",
            ))
        };
        ConfigAltered {
            resource_type: resource.resource_type,
            name: resource.name.clone(),
            failure: outcome.err(),
        }
    });
    let response = AlterConfigsResponse {
        resources: resources.collect(),
    };
    if command.validate_only {
        draft.discard_records();
    }
    Response::AlterConfigs(response)
}

/// Whether a resource may have this setting.
pub(super) fn check_value(
    context: &Context<'_>,
    resource_type: ResourceType,
    key: &str,
    value: &str,
) -> Result<(), Failure> {
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(invalid(format!(
            "{key} is longer than {CONFIG_VALUE_BYTES_MAX} bytes"
        )));
    }
    context
        .config_table
        .validate(resource_type, key, value)
        .map_err(invalid)
}

fn alter_one(
    draft: &mut Draft,
    context: &Context<'_>,
    resource: &ConfigResource,
) -> Result<(), Failure> {
    let current = current(draft, resource)?.cloned().unwrap_or_default();
    let next = next(context, resource, &current)?;
    let removed = current
        .keys()
        .filter(|key| !next.contains_key(*key))
        .map(|key| (key, None));
    let set = next
        .iter()
        .filter(|(key, value)| current.get(*key) != Some(*value))
        .map(|(key, value)| (key, Some(value.clone())));
    let mut elections_change = false;
    for (key, value) in removed.chain(set) {
        elections_change |= matches!(key.as_str(), MIN_INSYNC_REPLICAS | UNCLEAN_LEADER_ELECTION);
        draft.push(Record::Config(Config {
            resource_type: resource.resource_type,
            resource_name: resource.name.clone(),
            key: key.clone(),
            value,
        }));
    }
    if elections_change {
        settle(draft, resource);
    }
    Ok(())
}

/// The settings that the resource has now, `None` for none.
fn current<'a>(
    draft: &'a Draft,
    resource: &ConfigResource,
) -> Result<Option<&'a Settings>, Failure> {
    let image = draft.image();
    let unknown = |error| Failure::new(error, format!("{:?} does not exist", resource.name));
    match resource.resource_type() {
        ResourceType::Topic => image
            .topic_by_name(&resource.name)
            .map(|topic| Some(&topic.config))
            .ok_or_else(|| unknown(CommandError::UnknownTopic)),
        ResourceType::Broker => resource
            .name
            .parse()
            .map(BrokerId)
            .ok()
            .filter(|id| image.brokers.contains_key(id) && id.to_string() == resource.name)
            .map(|id| image.broker_configs.get(&id))
            .ok_or_else(|| unknown(CommandError::UnknownResource)),
        ResourceType::ClusterDefault if resource.name.is_empty() => Ok(Some(&image.cluster_config)),
        ResourceType::ClusterDefault | ResourceType::Unknown => {
            Err(unknown(CommandError::UnknownResource))
        }
    }
}

/// The settings that the resource shall have.
fn next(
    context: &Context<'_>,
    resource: &ConfigResource,
    current: &Settings,
) -> Result<Settings, Failure> {
    let mut next = match resource.mode() {
        AlterMode::Incremental => current.clone(),
        AlterMode::Replace => Settings::new(),
    };
    let mut keys = BTreeSet::new();
    for op in &resource.ops {
        if !keys.insert(op.key.as_str()) {
            return Err(Failure::new(
                CommandError::InvalidRequest,
                format!("the request names {} twice", op.key),
            ));
        }
        if op.op() == ConfigOpType::Delete {
            next.remove(&op.key);
            continue;
        }
        let value = value(context, resource.resource_type(), op, current)?;
        check_value(context, resource.resource_type(), &op.key, &value)?;
        next.insert(op.key.clone(), value);
    }
    Ok(next)
}

fn value(
    context: &Context<'_>,
    resource_type: ResourceType,
    op: &ConfigOp,
    current: &Settings,
) -> Result<String, Failure> {
    let given = op
        .value
        .as_ref()
        .ok_or_else(|| invalid(format!("{} has no value", op.key)))?;
    if op.op() == ConfigOpType::Set {
        return Ok(given.clone());
    }
    let default = context
        .config_table
        .list_default(resource_type, &op.key)
        .ok_or_else(|| {
            invalid(format!(
                "{} is no list to append to or subtract from",
                op.key
            ))
        })?;
    let before = current.get(&op.key).unwrap_or(&default);
    let mut elements: Vec<&str> = elements(before).collect();
    if op.op() == ConfigOpType::Subtract {
        elements.retain(|element| !self::elements(given).any(|removed| removed == *element));
    } else {
        for element in self::elements(given) {
            if !elements.contains(&element) {
                elements.push(element);
            }
        }
    }
    Ok(elements.join(","))
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

fn invalid(reason: String) -> Failure {
    Failure::new(CommandError::InvalidConfig, reason)
}

/// A lower `min.insync.replicas` lets the high watermark pass the members of the ELR, and unclean
/// elections may become possible.
fn settle(draft: &mut Draft, resource: &ConfigResource) {
    let topic = draft.image().topic_ids.get(resource.name.as_str()).copied();
    let concerned = |id: &TopicPartition| match resource.resource_type() {
        ResourceType::Topic => topic == Some(id.topic),
        ResourceType::ClusterDefault => true,
        ResourceType::Broker | ResourceType::Unknown => false,
    };
    let partitions: Vec<(TopicPartition, Settlement)> = draft
        .image()
        .partitions()
        .filter(|(id, state)| concerned(id) && (state.leader.is_none() || !state.elr.is_empty()))
        .map(|(id, state)| {
            (
                id,
                Settlement {
                    isr: state.isr.clone(),
                    lost: None,
                },
            )
        })
        .collect();
    for (id, settlement) in partitions {
        draft.settle(id, settlement);
    }
}
