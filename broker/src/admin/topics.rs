//! Topics, as the operator manages them: reads from this broker's metadata, changes by the active
//! controller.

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    AlterConfigs, AlterMode, Assignment, Command, ConfigOp, ConfigOpType, ConfigResource,
    CreatePartitions, CreateTopics, DeleteTopics, NewPartitions, NewTopic,
    Response as CommandResponse, TopicRef,
};
use broker_core::metadata::{Image, PartitionImage, ResourceType, TopicImage};
use broker_core::{BrokerId, TopicId};
use klamm_proto::v1::{
    AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, DeleteTopicResponse,
    DescribeTopicsRequest, DescribeTopicsResponse, PartitionDescription, ReplicaAssignment,
    TopicDescription,
};
use tokio::time::timeout;
use tonic::Status;

use super::caller::Caller;
use super::status::{check, mismatch};

/// How long this broker may be behind the controller that has committed a change.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn describe(image: &Image, request: &DescribeTopicsRequest) -> DescribeTopicsResponse {
    let names = &request.names;
    let topics = if names.is_empty() {
        image
            .topics
            .values()
            .map(|topic| describe_topic(topic))
            .collect()
    } else {
        let known = names.iter().filter_map(|name| image.topic_by_name(name));
        known.map(|topic| describe_topic(topic)).collect()
    };
    DescribeTopicsResponse { topics }
}

pub(super) async fn create(
    caller: &Caller,
    request: CreateTopicRequest,
) -> Result<TopicDescription, Status> {
    let topic = NewTopic {
        name: request.name,
        num_partitions: -1,
        replication_factor: -1,
        assignments: assignments(0, &request.assignments)?,
        configs: request.config.into_iter().collect(),
    };
    let command = CreateTopics {
        topics: vec![topic],
        validate_only: false,
    };
    let response = caller.submit(Command::CreateTopics(command)).await?;
    let CommandResponse::CreateTopics(response) = response else {
        return Err(mismatch());
    };
    let created = response.topics.first().ok_or_else(mismatch)?;
    check(Some(&created.failure))?;
    described(caller, created.topic_id.into(), |topic| {
        !topic.partitions.is_empty()
    })
    .await
}

/// Partitions and configuration change one after the other: after an error, ask again with
/// what is still to be done.
pub(super) async fn alter(
    caller: &Caller,
    request: &AlterTopicRequest,
) -> Result<TopicDescription, Status> {
    let id = parse_topic_id(&request.topic_id)?;
    check_expected(&caller.controller.image(), request, id)?;
    add_partitions(caller, request, id).await?;
    alter_config(caller, request).await?;
    let partitions = request.expected_partitions as usize + request.added_partitions.len();
    described(caller, id, |topic| {
        let is_set = |(key, value): (&String, &String)| topic.config.get(key) == Some(value);
        let is_reset = |key: &String| !topic.config.contains_key(key);
        topic.partitions.len() >= partitions
            && request.set_config.iter().all(is_set)
            && request.reset_config.iter().all(is_reset)
    })
    .await
}

pub(super) async fn delete(
    caller: &Caller,
    request: DeleteTopicRequest,
) -> Result<DeleteTopicResponse, Status> {
    let id = parse_topic_id(&request.topic_id)?;
    let topic = TopicRef {
        name: Some(request.name),
        topic_id: Some(id.into()),
    };
    let command = Command::DeleteTopics(DeleteTopics {
        topics: vec![topic],
    });
    let response = caller.submit(command).await?;
    let CommandResponse::DeleteTopics(response) = response else {
        return Err(mismatch());
    };
    check(response.topics.first().map(|topic| &topic.failure))?;
    Ok(DeleteTopicResponse {})
}

/// The topic once this broker knows of the change that `is_there` looks for.
async fn described(
    caller: &Caller,
    id: TopicId,
    is_there: impl Fn(&TopicImage) -> bool,
) -> Result<TopicDescription, Status> {
    let mut images = caller.controller.watch();
    let visible = images.wait_for(|image| image.topics.get(&id).is_some_and(|t| is_there(t)));
    let image = match timeout(VISIBLE_TIMEOUT, visible).await {
        Ok(Ok(image)) => Arc::clone(&image),
        _ => {
            return Err(Status::unavailable(
                "committed, but not visible here yet; retry",
            ));
        }
    };
    let topic = image
        .topics
        .get(&id)
        .ok_or_else(|| Status::not_found("the topic is gone"))?;
    Ok(describe_topic(topic))
}

async fn add_partitions(
    caller: &Caller,
    request: &AlterTopicRequest,
    id: TopicId,
) -> Result<(), Status> {
    if request.added_partitions.is_empty() {
        return Ok(());
    }
    let first = partition_number(request.expected_partitions as usize)?;
    let count = request.expected_partitions as usize + request.added_partitions.len();
    let response = caller
        .submit(Command::CreatePartitions(CreatePartitions {
            topics: vec![NewPartitions {
                name: request.name.clone(),
                count: partition_number(count)?,
                assignments: assignments(first, &request.added_partitions)?,
                expected_topic_id: Some(id.into()),
                expected_count: Some(first),
            }],
            validate_only: false,
        }))
        .await?;
    let CommandResponse::CreatePartitions(response) = response else {
        return Err(mismatch());
    };
    check(response.topics.first().map(|topic| &topic.failure))
}

async fn alter_config(caller: &Caller, request: &AlterTopicRequest) -> Result<(), Status> {
    let set = request.set_config.iter().map(|(key, value)| ConfigOp {
        key: key.clone(),
        op: ConfigOpType::Set.into(),
        value: Some(value.clone()),
    });
    let reset = request.reset_config.iter().map(|key| ConfigOp {
        key: key.clone(),
        op: ConfigOpType::Delete.into(),
        value: None,
    });
    let ops: Vec<_> = set.chain(reset).collect();
    if ops.is_empty() {
        return Ok(());
    }
    let response = caller
        .submit(Command::AlterConfigs(AlterConfigs {
            resources: vec![ConfigResource {
                resource_type: ResourceType::Topic.into(),
                name: request.name.clone(),
                mode: AlterMode::Incremental.into(),
                ops,
            }],
            validate_only: false,
        }))
        .await?;
    let CommandResponse::AlterConfigs(response) = response else {
        return Err(mismatch());
    };
    check(response.resources.first().map(|resource| &resource.failure))
}

/// What the controller does not check for every part of an alteration.
fn check_expected(image: &Image, request: &AlterTopicRequest, id: TopicId) -> Result<(), Status> {
    let Some(topic) = image.topic_by_name(&request.name) else {
        return Err(Status::not_found(format!(
            "there is no topic {:?}",
            request.name
        )));
    };
    if topic.id != id {
        let reason = format!("topic {:?} has id {}, not {id}", request.name, topic.id);
        return Err(Status::failed_precondition(reason));
    }
    if topic.partitions.len() != request.expected_partitions as usize {
        let (found, expected) = (topic.partitions.len(), request.expected_partitions);
        let reason = format!(
            "topic {:?} has {found} partitions, not {expected}",
            request.name
        );
        return Err(Status::failed_precondition(reason));
    }
    Ok(())
}

fn describe_topic(topic: &TopicImage) -> TopicDescription {
    TopicDescription {
        name: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        partitions: topic
            .iter()
            .map(|(id, state)| describe_partition(id.partition.0, state))
            .collect(),
        config: topic.config.clone().into_iter().collect(),
        internal: topic.internal,
    }
}

fn describe_partition(partition: i32, state: &PartitionImage) -> PartitionDescription {
    let raw = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
    PartitionDescription {
        partition,
        leader: state.leader.map_or(-1, |id| id.0),
        replicas: raw(&state.replicas),
        isr: raw(&state.isr),
    }
}

fn assignments(first: i32, given: &[ReplicaAssignment]) -> Result<Vec<Assignment>, Status> {
    let numbered = given.iter().enumerate().map(|(index, assignment)| {
        let partition = first
            .checked_add(partition_number(index)?)
            .ok_or_else(|| Status::invalid_argument("there are too many partitions"))?;
        Ok(Assignment {
            partition,
            replicas: assignment.replicas.clone(),
        })
    });
    numbered.collect()
}

fn partition_number(number: usize) -> Result<i32, Status> {
    i32::try_from(number).map_err(|_| Status::invalid_argument("there are too many partitions"))
}

fn parse_topic_id(text: &str) -> Result<TopicId, Status> {
    uuid::Uuid::parse_str(text)
        .map(|id| TopicId(id.into_bytes()))
        .map_err(|_| Status::invalid_argument(format!("topic id {text:?} is not a UUID")))
}
