//! ElectLeaders (KIP-183, KIP-460): the preferred replicas, or at the price of acknowledged records
//! any live one where there is no leader.

use std::collections::BTreeSet;

use broker_core::PartitionIndex;
use broker_core::controller::{
    Command, ELECTIONS_PER_COMMAND_MAX, ElectLeaders, ElectionType, LeaderElected, PartitionRef,
    Response,
};
use broker_core::metadata::{Image, PartitionImage, TopicImage};
use broker_core::{TopicId, TopicPartition};
use broker_wire::message::elect_leaders::{
    PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use broker_wire::message::{ElectLeadersRequest, ElectLeadersResponse};
use broker_wire::{ErrorCode, Str};
use tokio::time::Instant;

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use super::lookup::partition_ref;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let deadline = deadline(request.timeout_ms);
    let election_type = match request.election_type {
        PREFERRED => ElectionType::Preferred,
        UNCLEAN => ElectionType::Unclean,
        _ => {
            return ElectLeadersResponse {
                error_code: ErrorCode::InvalidRequest,
                ..ElectLeadersResponse::default()
            };
        }
    };
    let elected = match request.topic_partitions {
        Some(topics) => Ok(elect_listed(ctx, election_type, topics, deadline).await),
        None => elect_all(ctx, election_type, deadline).await,
    };
    match elected {
        Ok(replica_election_results) => ElectLeadersResponse {
            replica_election_results,
            ..ElectLeadersResponse::default()
        },
        Err(refusal) => ElectLeadersResponse {
            error_code: refusal.error_code,
            ..ElectLeadersResponse::default()
        },
    }
}

async fn elect_listed(
    ctx: &Context,
    election_type: ElectionType,
    topics: Vec<TopicPartitions>,
    deadline: Instant,
) -> Vec<ReplicaElectionResult> {
    let image = ctx.image();
    let wanted: Vec<Result<PartitionRef, Refusal>> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.as_str(), *p)))
        .map(|(topic, partition)| partition_ref(&image, topic, partition))
        .collect();
    let partitions: Vec<PartitionRef> = wanted.iter().flatten().copied().collect();
    let mut outcomes = Vec::with_capacity(partitions.len());
    for chunk in partitions.chunks(ELECTIONS_PER_COMMAND_MAX) {
        match elect(ctx, election_type, chunk.to_vec(), deadline).await {
            Ok(elected) => {
                let failures = elected.into_iter().map(|one| one.failure);
                outcomes.extend(failures.map(|failure| failure.map(Refusal::from)));
            }
            Err(refusal) => outcomes.extend(chunk.iter().map(|_| Some(refusal.clone()))),
        }
    }
    let succeeded = partitions
        .iter()
        .zip(&outcomes)
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(partition, _)| *partition)
        .collect();
    until_led(ctx, election_type, succeeded, deadline).await;
    let mut outcomes = outcomes.into_iter();
    let mut refusals = wanted.into_iter().map(|wanted| match wanted {
        Ok(_) => outcomes.next().flatten(),
        Err(refusal) => Some(refusal),
    });
    let results = topics.into_iter().map(|topic| ReplicaElectionResult {
        topic: topic.topic,
        partition_result: topic
            .partitions
            .into_iter()
            .map(|partition_id| result(partition_id, refusals.next().flatten()))
            .collect(),
    });
    results.collect()
}

/// Elects wherever it is needed, and names the partitions for which it was: with an error where
/// nobody could be elected.
async fn elect_all(
    ctx: &Context,
    election_type: ElectionType,
    deadline: Instant,
) -> Result<Vec<ReplicaElectionResult>, Refusal> {
    let mut elected: Vec<PartitionRef> = Vec::new();
    loop {
        let batch = elect(ctx, election_type, Vec::new(), deadline).await?;
        let complete = batch.len() < ELECTIONS_PER_COMMAND_MAX;
        let succeeded = batch.into_iter().filter(|one| one.failure.is_none());
        elected.extend(succeeded.map(|one| PartitionRef {
            topic_id: one.topic_id,
            partition: one.partition,
        }));
        if complete {
            break;
        }
    }
    until_led(ctx, election_type, elected.clone(), deadline).await;
    let image = ctx.image();
    let elected = elected.into_iter().map(id).collect();
    let results = image
        .topics
        .values()
        .filter_map(|topic| topic_result(election_type, topic, &elected));
    Ok(results.collect())
}

async fn elect(
    ctx: &Context,
    election_type: ElectionType,
    partitions: Vec<PartitionRef>,
    deadline: Instant,
) -> Result<Vec<LeaderElected>, Refusal> {
    let command = Command::ElectLeaders(ElectLeaders {
        election_type: election_type.into(),
        partitions,
    });
    submit(ctx, command, deadline, |response| match response {
        Response::ElectLeaders(response) => Some(response.partitions),
        _ => None,
    })
    .await
}

async fn until_led(
    ctx: &Context,
    election_type: ElectionType,
    partitions: Vec<PartitionRef>,
    deadline: Instant,
) {
    let led = |image: &Image, partition: &PartitionRef| {
        let state = image.partition(id(*partition));
        state.is_none_or(|state| !is_needed(election_type, state))
    };
    until_shown(ctx, deadline, |image| {
        partitions.iter().all(|partition| led(image, partition))
    })
    .await;
}

fn is_needed(election_type: ElectionType, state: &PartitionImage) -> bool {
    match election_type {
        ElectionType::Preferred => state.leader != state.preferred_leader(),
        ElectionType::Unclean => state.leader.is_none(),
    }
}

/// The partitions that were elected for, and those that still need it.
fn topic_result(
    election_type: ElectionType,
    topic: &TopicImage,
    elected: &BTreeSet<TopicPartition>,
) -> Option<ReplicaElectionResult> {
    let results: Vec<_> = topic
        .iter()
        .filter_map(|(id, state)| {
            let refusal = match election_type {
                _ if elected.contains(&id) => None,
                _ if !is_needed(election_type, state) => return None,
                ElectionType::Preferred => Some(Refusal::new(
                    ErrorCode::PreferredLeaderNotAvailable,
                    "the preferred leader is not in sync or not alive",
                )),
                ElectionType::Unclean => Some(Refusal::new(
                    ErrorCode::EligibleLeadersNotAvailable,
                    "no replica is alive",
                )),
            };
            Some(result(id.partition.0, refusal))
        })
        .collect();
    (!results.is_empty()).then(|| ReplicaElectionResult {
        topic: Str::from((*topic.name).to_owned()),
        partition_result: results,
    })
}

fn id(partition: PartitionRef) -> TopicPartition {
    TopicPartition {
        topic: TopicId::from(partition.topic_id),
        partition: PartitionIndex(partition.partition),
    }
}

fn result(partition_id: i32, refusal: Option<Refusal>) -> PartitionResult {
    let (error_code, error_message) = outcome(refusal);
    PartitionResult {
        partition_id,
        error_code,
        error_message,
    }
}
