//! Serves `klamm.v1.Admin`, what the operator asks of the brokers: reads from this broker's
//! metadata, changes by the active controller.

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    AlterConfigs, AlterMode, Assignment, Command, CommandError, ConfigOp, ConfigOpType,
    ConfigResource, CreatePartitions, CreateTopics, DeleteTopics, Failure, NewPartitions, NewTopic,
    Response as CommandResponse, TopicRef,
};
use broker_core::metadata::{BrokerImage, Image, PartitionImage, ResourceType, TopicImage};
use broker_core::{BrokerId, TopicId};
use klamm_proto::v1::admin_server::Admin;
use klamm_proto::v1::{
    AlterTopicRequest, BrokerDescription, BrokerState, ClusterDescription, CreateTopicRequest,
    DeleteTopicRequest, DeleteTopicResponse, DescribeClusterRequest, DescribeTopicsRequest,
    DescribeTopicsResponse, PartitionDescription, ReplicaAssignment, TopicDescription,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use crate::controller::{Controller, SubmitError};

/// How long this broker may be behind the controller that has committed a change.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The gRPC service `klamm.v1.Admin`.
pub struct AdminService {
    controller: Arc<Controller>,
}

impl AdminService {
    #[must_use]
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    async fn submit(&self, command: Command) -> Result<CommandResponse, Status> {
        match self.controller.submit(command).await {
            Ok(CommandResponse::Failed(failure)) => Err(refused(&failure)),
            Ok(response) => Ok(response),
            Err(error @ SubmitError::Malformed(_)) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    /// The topic once this broker knows of the change that `is_there` looks for.
    async fn described(
        &self,
        id: TopicId,
        is_there: impl Fn(&TopicImage) -> bool,
    ) -> Result<Response<TopicDescription>, Status> {
        let mut images = self.controller.watch();
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
        Ok(Response::new(describe_topic(topic)))
    }

    async fn add_partitions(&self, request: &AlterTopicRequest, id: TopicId) -> Result<(), Status> {
        if request.added_partitions.is_empty() {
            return Ok(());
        }
        let first = partition_number(request.expected_partitions as usize)?;
        let count = request.expected_partitions as usize + request.added_partitions.len();
        let response = self
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

    async fn alter_config(&self, request: &AlterTopicRequest) -> Result<(), Status> {
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
        let response = self
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
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn describe_cluster(
        &self,
        _: Request<DescribeClusterRequest>,
    ) -> Result<Response<ClusterDescription>, Status> {
        let controller = &self.controller;
        // Before the image, which may be newer than the offset then, but not older.
        let metadata_offset = controller.metadata_offset().unwrap_or_default();
        let (image, counts) = controller.counts();
        let broker = |broker: &BrokerImage| {
            let carried = counts.brokers.get(&broker.id).copied().unwrap_or_default();
            BrokerDescription {
                id: broker.id.0,
                incarnation: broker.incarnation.clone(),
                version: broker.version.clone(),
                rack: broker.rack.clone().unwrap_or_default(),
                state: state(broker).into(),
                replicas: carried.replicas,
                leaders: carried.leaders,
            }
        };
        Ok(Response::new(ClusterDescription {
            cluster_id: image.cluster_id.clone(),
            metadata_offset,
            controller_id: controller.active_controller().map_or(-1, |id| id.0),
            controller_epoch: controller.controller_epoch(),
            brokers: image.brokers.values().map(broker).collect(),
            voters: controller.voters().into_iter().map(|id| id.0).collect(),
            offline_partitions: count(counts.offline_partitions),
            under_replicated_partitions: count(counts.under_replicated_partitions),
            under_min_isr_partitions: count(counts.under_min_isr_partitions),
            topics: count(counts.topics),
            partitions: count(counts.partitions),
        }))
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        let image = self.controller.image();
        let names = request.into_inner().names;
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
        Ok(Response::new(DescribeTopicsResponse { topics }))
    }

    async fn create_topic(
        &self,
        request: Request<CreateTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let request = request.into_inner();
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
        let response = self.submit(Command::CreateTopics(command)).await?;
        let CommandResponse::CreateTopics(response) = response else {
            return Err(mismatch());
        };
        let created = response.topics.first().ok_or_else(mismatch)?;
        check(Some(&created.failure))?;
        self.described(created.topic_id.into(), |topic| {
            !topic.partitions.is_empty()
        })
        .await
    }

    /// Partitions and configuration change one after the other: after an error, ask again with
    /// what is still to be done.
    async fn alter_topic(
        &self,
        request: Request<AlterTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let request = request.into_inner();
        let id = parse_topic_id(&request.topic_id)?;
        check_expected(&self.controller.image(), &request, id)?;
        self.add_partitions(&request, id).await?;
        self.alter_config(&request).await?;
        let partitions = request.expected_partitions as usize + request.added_partitions.len();
        self.described(id, |topic| {
            let is_set = |(key, value): (&String, &String)| topic.config.get(key) == Some(value);
            let is_reset = |key: &String| !topic.config.contains_key(key);
            topic.partitions.len() >= partitions
                && request.set_config.iter().all(is_set)
                && request.reset_config.iter().all(is_reset)
        })
        .await
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let request = request.into_inner();
        let id = parse_topic_id(&request.topic_id)?;
        let topic = TopicRef {
            name: Some(request.name),
            topic_id: Some(id.into()),
        };
        let command = Command::DeleteTopics(DeleteTopics {
            topics: vec![topic],
        });
        let response = self.submit(command).await?;
        let CommandResponse::DeleteTopics(response) = response else {
            return Err(mismatch());
        };
        check(response.topics.first().map(|topic| &topic.failure))?;
        Ok(Response::new(DeleteTopicResponse {}))
    }
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

fn state(broker: &BrokerImage) -> BrokerState {
    match (broker.fenced, broker.draining) {
        (true, _) => BrokerState::Fenced,
        (false, true) => BrokerState::Draining,
        (false, false) => BrokerState::Serving,
    }
}

fn describe_topic(topic: &TopicImage) -> TopicDescription {
    TopicDescription {
        name: topic.name.to_string(),
        topic_id: topic.id.to_string(),
        partitions: topic
            .iter()
            .map(|(id, state)| describe(id.partition.0, state))
            .collect(),
        config: topic.config.clone().into_iter().collect(),
        internal: topic.internal,
    }
}

fn describe(partition: i32, state: &PartitionImage) -> PartitionDescription {
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

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The outcome of the only item of a command.
fn check(failure: Option<&Option<Failure>>) -> Result<(), Status> {
    match failure {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(refused(failure)),
        None => Err(mismatch()),
    }
}

fn mismatch() -> Status {
    Status::internal("the controller's answer does not fit the command")
}

fn refused(failure: &Failure) -> Status {
    let reason = failure.message.clone();
    match failure.error() {
        CommandError::TopicAlreadyExists => Status::already_exists(reason),
        CommandError::UnknownTopic
        | CommandError::UnknownTopicId
        | CommandError::UnknownPartition
        | CommandError::UnknownResource
        | CommandError::UnknownBroker => Status::not_found(reason),
        CommandError::InconsistentTopicId
        | CommandError::PreconditionFailed
        | CommandError::InconsistentClusterId
        | CommandError::BrokerInUse => Status::failed_precondition(reason),
        CommandError::LimitExceeded => Status::resource_exhausted(reason),
        CommandError::NotController | CommandError::TimedOut => Status::unavailable(reason),
        _ => Status::invalid_argument(reason),
    }
}
