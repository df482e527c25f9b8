//! The controller's decisions: a [`Command`] and the [`Image`] give records for the metadata log
//! and a [`Response`].
//!
//! [`decide`] changes nothing. Its caller proposes the records as one log entry, applies them once
//! committed, and answers then. It decides against an image that holds every entry proposed
//! before: two decisions from the same image would not see each other.
//!
//! * Every record of a decision applies to the image it was decided on.
//! * An image without [`crate::metadata::lint`] violations has none after a decision is applied.
//! * Every change of a partition raises its partition epoch; every change of its leader, to none
//!   included, and every removal of a replica raises its leader epoch.

mod alter_partition;
mod alter_reassignments;
mod brokers;
mod client_quotas;
mod codec;
mod command;
mod configs;
mod context;
mod draft;
mod elect_leaders;
mod election;
mod error;
mod evacuation;
mod features;
mod operator_epoch;
mod partitions;
mod producer_ids;
mod reassignment;
mod rebalance;
mod replacement;
mod replica_health;
mod response;
mod restart;
mod restart_check;
#[cfg(test)]
mod tests;
mod topic_name;
mod topics;

use alloc::vec::Vec;

pub use alter_reassignments::REASSIGNMENTS_PER_COMMAND_MAX;
pub use brokers::{BROKERS_MAX, ENDPOINTS_PER_BROKER_MAX};
pub use client_quotas::{CLIENT_QUOTAS_MAX, QUOTA_ENTITY_NAME_BYTES_MAX};
pub use codec::DecodeMessageError;
pub use command::{
    AlterClientQuota, AlterClientQuotas, AlterConfigs, AlterMode, AlterPartition, AlterPartitions,
    AlterReassignments, AlterReplicaHealth, Assignment, BrokerRef, Command, ConfigOp, ConfigOpType,
    ConfigResource, CordonBroker, CreatePartitions, CreateTopics, DeleteTopics, ElectLeaders,
    ElectionType, FeatureUpdate, FromOperator, InitializeCluster, NewPartitions, NewTopic,
    PartitionRef, PrepareRestart, QuotaOp, Reassignment, RegisterBroker, ReplicaHealthChange,
    TargetReplicas, TopicRef, UnregisterBroker, UpdateFeatures, UpgradeType,
};
pub use configs::CONFIG_VALUE_BYTES_MAX;
pub use context::{ConfigTable, Context, Defaults, Place, PlacementBroker, PlacementRequest};
pub use elect_leaders::{
    ELECTIONS_PER_COMMAND_MAX, plan_missing_elections, plan_preferred_elections,
};
pub use error::{CommandError, Failure};
pub use evacuation::{
    BlockedMove, EVACUATION_BLOCKED_MAX, EVACUATION_MOVES_MAX, EvacuationPlan, EvacuationProgress,
    MoveRequest, plan_evacuations,
};
pub use features::{common_levels, initial_features, supported_features};
pub use partitions::{PARTITIONS_MAX, PARTITIONS_PER_COMMAND_MAX};
pub use producer_ids::PRODUCER_ID_BLOCK_SIZE;
pub use rebalance::{
    PlacedPartition, REBALANCE_MOVES_MAX, RebalanceMove, RebalanceProgress, RebalanceRequest,
    RebalanceStep, balanced_brokers, placed_partitions, plan_rebalance, rebalance_hindrance,
};
pub use replacement::{Absences, REPLACEMENTS_MAX, plan_replacements};
pub use replica_health::REPLICAS_PER_COMMAND_MAX;
pub use response::{
    Accepted, AlterClientQuotasResponse, AlterConfigsResponse, AlterPartitionsResponse,
    AlterReassignmentsResponse, BrokerDrained, BrokerRegistered, ClientQuotaAltered, ConfigAltered,
    CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse, ElectLeadersResponse,
    LeaderElected, PartitionAltered, PartitionsCreated, ProducerIdBlock, ReassignmentAltered,
    Response, RestartPrepared, TopicCreated, TopicDeleted,
};
pub use restart::RESTART_LEASE_TTL_MS_MAX;
pub use restart_check::{
    AcceptedRisk, FINDINGS_MAX, Finding, Findings, RestartBlocker, RestartCheck, RestartVerdict,
    check_restart,
};
pub use topic_name::{TOPIC_NAME_BYTES_MAX, is_topic_name};

use crate::metadata::{Image, Record};
use crate::{BrokerId, TopicPartition};
use draft::Draft;

/// What a command comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To be committed together, in this order. May be empty.
    pub records: Vec<Record>,
    /// To be sent once the records are applied, unless the decision is `unfinished`.
    pub response: Response,
    /// The command changes more than one log entry holds: decide it again once the records are
    /// applied. They leave a correct image, also when nobody goes on.
    pub unfinished: bool,
    /// Leaders that the records elect and that may lack acknowledged records: for the log and the
    /// metrics.
    pub unclean_elections: Vec<(TopicPartition, BrokerId)>,
}

/// Decides `command` on `image`.
pub fn decide(image: &Image, context: &mut Context<'_>, command: &Command) -> Decision {
    let mut draft = Draft::new(image, context.defaults);
    let draft = &mut draft;
    let response = respond(draft, context, command);
    Decision {
        records: draft.take_records(),
        unfinished: draft.is_unfinished(),
        unclean_elections: draft.take_unclean_elections(),
        response: response.unwrap_or_else(Response::Failed),
    }
}

fn respond(
    draft: &mut Draft,
    context: &mut Context<'_>,
    command: &Command,
) -> Result<Response, Failure> {
    match command {
        Command::InitializeCluster(command) => brokers::initialize_cluster(draft, command),
        Command::RegisterBroker(command) => brokers::register(draft, command),
        Command::FenceBroker(broker) => brokers::fence(draft, *broker),
        Command::UnfenceBroker(broker) => brokers::unfence(draft, *broker),
        Command::DrainBroker(broker) => brokers::drain(draft, *broker),
        Command::CordonBroker(command) => brokers::cordon(draft, *command),
        Command::UnregisterBroker(command) => brokers::unregister(draft, command),
        Command::CreateTopics(command) => Ok(topics::create(draft, context, command)),
        Command::DeleteTopics(command) => Ok(topics::delete(draft, command)),
        Command::CreatePartitions(command) => Ok(partitions::create(draft, context, command)),
        Command::AlterConfigs(command) => Ok(configs::alter(draft, context, command)),
        Command::AlterClientQuotas(command) => Ok(client_quotas::alter(draft, command)),
        Command::AlterPartitions(command) => alter_partition::alter(draft, command),
        Command::AllocateProducerIds(broker) => producer_ids::allocate(draft, *broker),
        Command::ElectLeaders(command) => Ok(elect_leaders::elect(draft, command)),
        Command::AlterReplicaHealth(command) => replica_health::alter(draft, command),
        Command::AlterReassignments(command) => alter_reassignments::alter(draft, command),
        Command::PrepareRestart(command) => restart::prepare(draft, command),
        Command::UpdateFeatures(command) => features::update(draft, command),
        Command::ExpireRestartLease(lease) => Ok(restart::expire(draft, *lease)),
        Command::EvacuateBroker(command) => evacuation::alter(draft, *command),
        Command::Rebalance(command) => rebalance::alter(draft, *command),
        Command::FromOperator(command) => operator_epoch::decide(draft, context, command),
    }
}
