//! What the operator decides, without IO, clock or randomness: from a `KafkaCluster` or `Topic` and
//! what was observed to a plan that the shell carries out.
//!
//! Invariants, each with a test:
//! * planning again after a plan was carried out gives an empty plan;
//! * at most one running broker is stopped at a time, and none while another one is missing;
//! * what running brokers take restarts none of them;
//! * broker ids, zones and cluster id never change once recorded, and no id is used twice.

pub mod allocation;
pub mod broker_pod;
pub mod conditions;
pub mod dynamic_config;
pub mod kafka_cluster;
pub mod mutation;
pub mod naming;
pub mod observed;
pub mod resources;
pub mod rollout;
pub mod scale;
pub mod status;
#[cfg(test)]
mod testing;
pub mod topic;
mod topology;
pub mod validate;
mod voters;
