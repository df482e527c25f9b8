//! What the active controller decides by, besides the metadata: this broker's configuration and the
//! placement of replicas.

use std::sync::Arc;

use broker_core::BrokerId;
use broker_core::controller::{
    ConfigTable, Defaults, MoveRequest, PlacementBroker, PlacementRequest,
};
use broker_core::metadata::ResourceType;
use klamm_placement::{Broker, plan_added_partitions, plan_moved_replica};

use crate::config::{BrokerConfig, keys};
use crate::controller::DecisionPolicy;
use crate::rebalance;

/// The policy of a broker with this configuration.
#[must_use]
pub fn policy(config: &Arc<BrokerConfig>) -> DecisionPolicy {
    let positive = |name| u32::try_from(config.number(name)).unwrap_or(1);
    DecisionPolicy {
        defaults: Defaults {
            num_partitions: positive("num.partitions"),
            replication_factor: positive("default.replication.factor"),
            min_insync_replicas: config.size("min.insync.replicas"),
            unclean_leader_election: config.flag("unclean.leader.election.enable"),
        },
        place: Box::new(place),
        choose_broker: Box::new(choose_broker),
        plan_rebalance: Box::new(rebalance::plan),
        replacement_delay: Some(config.millis("klamm.replica.replacement.delay.ms"))
            .filter(|delay| !delay.is_zero()),
        config_table: Box::new(KnownKeys),
    }
}

fn place(request: &PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> {
    let brokers = brokers(request.brokers);
    let existing = raw(request.existing);
    let planned = plan_added_partitions(
        &brokers,
        &existing,
        request.partitions,
        request.replication_factor,
    )
    .map_err(|error| error.to_string())?;
    Ok(planned
        .into_iter()
        .map(|replicas| replicas.into_iter().map(BrokerId).collect())
        .collect())
}

fn choose_broker(request: &MoveRequest<'_>) -> Result<BrokerId, String> {
    let kept: Vec<i32> = request.kept.iter().map(|id| id.0).collect();
    plan_moved_replica(&brokers(request.brokers), &raw(request.existing), &kept)
        .map(BrokerId)
        .map_err(|error| error.to_string())
}

pub(crate) fn brokers(brokers: &[PlacementBroker]) -> Vec<Broker> {
    let known = brokers.iter().map(|broker| Broker {
        id: broker.id.0,
        rack: broker.rack.clone(),
        replicas: broker.replicas,
        leaders: broker.leaders,
        available: broker.available,
    });
    known.collect()
}

fn raw(partitions: &[Vec<BrokerId>]) -> Vec<Vec<i32>> {
    partitions
        .iter()
        .map(|replicas| replicas.iter().map(|id| id.0).collect())
        .collect()
}

/// The tables of [`keys`]: what topics take, and what brokers take while they run.
struct KnownKeys;

impl ConfigTable for KnownKeys {
    fn validate(&self, resource_type: ResourceType, key: &str, value: &str) -> Result<(), String> {
        match resource_type {
            ResourceType::Topic => keys::check_topic_setting(key, value),
            ResourceType::Broker => {
                keys::check_dynamic_broker_setting(keys::Scope::OneBroker, key, value)
            }
            ResourceType::ClusterDefault => {
                keys::check_dynamic_broker_setting(keys::Scope::AllBrokers, key, value)
            }
            ResourceType::Unknown => Err("this kind of resource has no configuration".to_owned()),
        }
    }

    fn list_default(&self, resource_type: ResourceType, key: &str) -> Option<String> {
        if resource_type != ResourceType::Topic {
            return None;
        }
        let key = keys::topic_key(key)?;
        if key.kind == keys::Kind::ThrottledReplicas {
            return key.default.map(str::to_owned);
        }
        if key.name != "cleanup.policy" {
            return None;
        }
        let default = keys::broker_key("log.cleanup.policy")?.default?;
        Some(default.to_owned())
    }
}
