//! CreatePartitions: adds partitions to topics. Every topic has an answer of its own.

use broker_core::controller::{
    Assignment, Command, CreatePartitions, NewPartitions, PartitionsCreated, Response,
};
use broker_core::metadata::Image;
use broker_wire::Str;
use broker_wire::message::create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use broker_wire::message::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use super::mutation_quota::{Enforced, MutationQuota};

/// From this version on, clients expect to be refused what exceeds their quota (KIP-599).
const QUOTA_REFUSAL_VERSION_MIN: i16 = 3;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let deadline = deadline(request.timeout_ms);
    let image = ctx.image();
    let validate_only = request.validate_only;
    let enforced = Enforced::of(info, QUOTA_REFUSAL_VERSION_MIN);
    let mut quota = MutationQuota::new(ctx, info, enforced);
    let (mut admitted, mut results) = (Vec::new(), Vec::new());
    for topic in request.topics {
        let taken = if validate_only {
            Ok(())
        } else {
            quota.take(added(&image, &topic))
        };
        match taken {
            Ok(()) => admitted.push(topic),
            Err(refusal) => results.push(result(topic.name, Some(refusal))),
        }
    }
    let topics = admitted.iter().map(|topic| wanted(&image, topic)).collect();
    let command = Command::CreatePartitions(CreatePartitions {
        topics,
        validate_only,
    });
    match submit(ctx, command, deadline, partitions_created).await {
        Ok(created) => {
            if !validate_only {
                until_shown(ctx, deadline, |image| shows(image, &admitted, &created)).await;
            }
            let created = created.into_iter();
            results.extend(
                created.map(|topic| result(topic.name.into(), topic.failure.map(Refusal::from))),
            );
        }
        Err(refusal) => {
            let names = admitted.into_iter().map(|topic| topic.name);
            results.extend(names.map(|name| result(name, Some(refusal.clone()))));
        }
    }
    CreatePartitionsResponse {
        throttle_time_ms: quota.throttle_ms(),
        results,
    }
}

/// How many partitions the topic is to have more.
fn added(image: &Image, topic: &CreatePartitionsTopic) -> usize {
    let known = image.topic_by_name(&topic.name);
    let known = known.map_or(0, |topic| topic.partitions.len());
    usize::try_from(topic.count).map_or(0, |count| count.saturating_sub(known))
}

/// A manual assignment has no partition numbers on the wire: it goes on where the topic ends, as
/// this broker sees it, and is refused when the controller sees it end elsewhere.
fn wanted(image: &Image, topic: &CreatePartitionsTopic) -> NewPartitions {
    let assignments = topic.assignments.as_deref().unwrap_or_default();
    let known = image
        .topic_by_name(&topic.name)
        .map_or(0, |topic| topic.partitions.len());
    let first = i32::try_from(known).unwrap_or(i32::MAX);
    let assignments: Vec<_> = (first..)
        .zip(assignments)
        .map(|(partition, assignment)| Assignment {
            partition,
            replicas: assignment.broker_ids.clone(),
        })
        .collect();
    NewPartitions {
        name: topic.name.as_str().to_owned(),
        count: topic.count,
        expected_topic_id: None,
        expected_count: (!assignments.is_empty()).then_some(first),
        assignments,
    }
}

fn partitions_created(response: Response) -> Option<Vec<PartitionsCreated>> {
    match response {
        Response::CreatePartitions(response) => Some(response.topics),
        _ => None,
    }
}

fn shows(image: &Image, wanted: &[CreatePartitionsTopic], created: &[PartitionsCreated]) -> bool {
    wanted
        .iter()
        .zip(created)
        .filter(|(_, topic)| topic.failure.is_none())
        .all(|(wanted, _)| {
            let count = usize::try_from(wanted.count).unwrap_or(0);
            image
                .topic_by_name(&wanted.name)
                .is_some_and(|topic| topic.partitions.len() >= count)
        })
}

fn result(name: Str, refusal: Option<Refusal>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = outcome(refusal);
    CreatePartitionsTopicResult {
        name,
        error_code,
        error_message,
    }
}
