//! AlterPartitionReassignments (KIP-455, KIP-860): replicas move, or a move is given up. The answer
//! comes when the controller has taken the reassignments over, not when they are complete.

use broker_core::TopicPartition;
use broker_core::controller::{
    AlterReassignments, Command, Reassignment, ReassignmentAltered, Response, TargetReplicas,
};
use broker_core::metadata::Image;
use broker_core::{BrokerId, PartitionIndex};
use broker_wire::message::alter_partition_reassignments::{
    ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use broker_wire::message::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use tokio::time::Instant;

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use super::lookup::partition_ref;

/// Partitions that the controller gets in one command, so that others have their turn.
const PARTITIONS_PER_COMMAND: usize = 1_000;

/// What is wanted of a partition, or why it makes no sense.
type Wanted = Result<Reassignment, Refusal>;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let deadline = deadline(request.timeout_ms);
    let image = ctx.image();
    let wanted: Vec<Wanted> = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p)))
        .map(|(topic, partition)| reassignment(&image, topic, partition))
        .collect();
    let keep_replication_factor = !request.allow_replication_factor_change;
    let mut refusals = alter(ctx, &wanted, keep_replication_factor, deadline)
        .await
        .into_iter();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut refusals);
        ReassignableTopicResponse {
            name: topic.name,
            partitions: partitions
                .map(|(partition, refusal)| result(partition.partition_index, refusal))
                .collect(),
        }
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

fn reassignment(image: &Image, topic: &str, partition: &ReassignablePartition) -> Wanted {
    Ok(Reassignment {
        partition: partition_ref(image, topic, partition.partition_index)?,
        target: partition
            .replicas
            .clone()
            .map(|replicas| TargetReplicas { replicas }),
    })
}

/// Has the controller do what is wanted and returns, in the same order, why each was refused.
async fn alter(
    ctx: &Context,
    wanted: &[Wanted],
    keep_replication_factor: bool,
    deadline: Instant,
) -> Vec<Option<Refusal>> {
    let reassignments: Vec<_> = wanted.iter().flatten().cloned().collect();
    let mut outcomes = Vec::with_capacity(reassignments.len());
    for chunk in reassignments.chunks(PARTITIONS_PER_COMMAND) {
        let command = Command::AlterReassignments(AlterReassignments {
            partitions: chunk.to_vec(),
            keep_replication_factor,
            replaces_dead: false,
            rebalances: false,
        });
        match submit(ctx, command, deadline, reassignments_altered).await {
            Ok(altered) => {
                let failures = altered.into_iter().map(|one| one.failure);
                outcomes.extend(failures.map(|failure| failure.map(Refusal::from)));
            }
            Err(refusal) => outcomes.extend(chunk.iter().map(|_| Some(refusal.clone()))),
        }
    }
    let accepted: Vec<_> = reassignments
        .iter()
        .zip(&outcomes)
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(wanted, _)| wanted)
        .collect();
    until_shown(ctx, deadline, |image| {
        accepted.iter().all(|wanted| shows(image, wanted))
    })
    .await;
    let mut outcomes = outcomes.into_iter();
    let outcome = |wanted: &Wanted| match wanted {
        Ok(_) => outcomes.next().flatten(),
        Err(refusal) => Some(refusal.clone()),
    };
    wanted.iter().map(outcome).collect()
}

fn reassignments_altered(response: Response) -> Option<Vec<ReassignmentAltered>> {
    match response {
        Response::AlterReassignments(response) => Some(response.partitions),
        _ => None,
    }
}

fn shows(image: &Image, wanted: &Reassignment) -> bool {
    let id = TopicPartition {
        topic: wanted.partition.topic_id.into(),
        partition: PartitionIndex(wanted.partition.partition),
    };
    let Some(state) = image.partition(id) else {
        return true;
    };
    match &wanted.target {
        Some(target) => state
            .target()
            .eq(target.replicas.iter().copied().map(BrokerId)),
        None => !state.is_reassigning(),
    }
}

fn result(partition_index: i32, refusal: Option<Refusal>) -> ReassignablePartitionResponse {
    let (error_code, error_message) = outcome(refusal);
    ReassignablePartitionResponse {
        partition_index,
        error_code,
        error_message,
    }
}
