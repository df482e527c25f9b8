//! Metadata: live brokers, and who leads which partition. Creates topics that clients ask for when
//! `auto.create.topics.enable` says so.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_core::controller::{Command, CreateTopics, NewTopic, Response, is_topic_name};
use broker_core::metadata::{
    BrokerImage, Image, PartitionImage, ReplicaHealth, TopicImage, is_internal_topic,
};
use broker_core::{BrokerId, PartitionIndex};
use broker_wire::message::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use broker_wire::message::{MetadataRequest, MetadataResponse};
use broker_wire::{ErrorCode, Str};

use super::authorized_operations;
use super::context::{Context, RequestInfo, topic_id, wire_id};
use super::error::KafkaError;

/// First version whose requests may name topics by id (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 12;
/// First version whose clients know [`ErrorCode::ListenerNotFound`].
const LISTENER_NOT_FOUND_VERSION_MIN: i16 = 6;
/// How long to wait for the controller to create topics; clients ask again.
const AUTO_CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Topics that one request may create; clients ask again for the others.
const AUTO_CREATE_TOPICS_MAX: usize = 100;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: MetadataRequest,
) -> MetadataResponse {
    let MetadataRequest {
        topics,
        allow_auto_topic_creation,
        include_cluster_authorized_operations,
        include_topic_authorized_operations,
    } = request;
    let wanted = topics.filter(|topics| info.version > 0 || !topics.is_empty());
    if allow_auto_topic_creation
        && ctx.config.flag("auto.create.topics.enable")
        && let Some(wanted) = &wanted
    {
        create_missing(ctx, wanted).await;
    }
    let image = ctx.image();
    let view = View {
        image: &image,
        listener: &info.listener,
        version: info.version,
    };
    let mut topics: Vec<_> = match wanted {
        None => image
            .topics
            .values()
            .map(|topic| view.topic(topic))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .map(|topic| view.wanted_topic(topic))
            .collect(),
    };
    if include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|t| !t.error_code.is_error()) {
            topic.topic_authorized_operations = authorized_operations::TOPIC;
        }
    }
    let controller = ctx.controller.active_controller();
    let mut response = MetadataResponse {
        brokers: view.brokers(),
        cluster_id: Some(image.cluster_id.clone().into()),
        controller_id: controller
            .filter(|id| view.is_live(*id))
            .unwrap_or(ctx.config.id)
            .0,
        topics,
        ..MetadataResponse::default()
    };
    if include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    response
}

/// Asks the controller for the topics that do not exist. What it refuses shows in the answer as
/// topics that still do not exist.
async fn create_missing(ctx: &Context, wanted: &[MetadataRequestTopic]) {
    let image = ctx.image();
    let missing: BTreeSet<&str> = wanted
        .iter()
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| is_topic_name(name) && !is_internal_topic(name))
        .filter(|name| image.topic_by_name(name).is_none())
        .take(AUTO_CREATE_TOPICS_MAX)
        .collect();
    if missing.is_empty() {
        return;
    }
    let new = |name: &&str| NewTopic {
        name: (*name).to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    };
    let topics = missing.iter().map(new).collect();
    let command = Command::CreateTopics(CreateTopics {
        topics,
        validate_only: false,
    });
    let mut images = ctx.controller.watch();
    let created = match ctx
        .controller
        .submit_within(command, AUTO_CREATE_TIMEOUT)
        .await
    {
        Ok(Response::CreateTopics(response)) => response.topics,
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(%error, "topics were not created automatically");
            return;
        }
    };
    let mut expected = Vec::new();
    for topic in created {
        match topic.failure {
            None => expected.push(topic.name),
            Some(failure) if failure.error_code() == ErrorCode::TopicAlreadyExists => {}
            Some(failure) => tracing::info!(
                topic = topic.name,
                reason = failure.message,
                "topic was not created automatically"
            ),
        }
    }
    // The controller knows them; this broker will in a moment.
    let all_here = |image: &std::sync::Arc<Image>| {
        expected
            .iter()
            .all(|name| image.topic_ids.contains_key(name.as_str()))
    };
    let _ = tokio::time::timeout(AUTO_CREATE_TIMEOUT, images.wait_for(all_here)).await;
}

/// Metadata as a client of one listener sees it.
struct View<'a> {
    image: &'a Image,
    listener: &'a str,
    version: i16,
}

impl View<'_> {
    fn live(&self) -> impl Iterator<Item = &BrokerImage> {
        let brokers = self.image.brokers.values();
        brokers.filter(|broker| !broker.fenced && broker.endpoint(self.listener).is_some())
    }

    fn is_live(&self, id: BrokerId) -> bool {
        let broker = self.image.brokers.get(&id);
        broker.is_some_and(|broker| !broker.fenced && broker.endpoint(self.listener).is_some())
    }

    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let brokers = self.live().filter_map(|broker| {
            let endpoint = broker.endpoint(self.listener)?;
            Some(MetadataResponseBroker {
                node_id: broker.id.0,
                host: endpoint.host.clone().into(),
                port: endpoint.port.cast_signed(),
                rack: broker.rack.clone().map(Str::from),
            })
        });
        brokers.collect()
    }

    fn wanted_topic(&self, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
        let refused = |error_code| MetadataResponseTopic {
            error_code,
            name: wanted.name.clone(),
            topic_id: wanted.topic_id,
            ..MetadataResponseTopic::default()
        };
        let by_id_allowed = self.version >= TOPIC_ID_VERSION_MIN;
        match &wanted.name {
            None if by_id_allowed => match self.image.topics.get(&topic_id(wanted.topic_id)) {
                Some(topic) => self.topic(topic),
                None => refused(ErrorCode::UnknownTopicId),
            },
            None => refused(ErrorCode::InvalidRequest),
            Some(name) => match self.image.topic_by_name(name) {
                Some(topic) => self.topic(topic),
                None if is_topic_name(name) => refused(ErrorCode::UnknownTopicOrPartition),
                None => refused(ErrorCode::InvalidTopicException),
            },
        }
    }

    fn topic(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = topic
            .iter()
            .map(|(id, state)| self.partition(id.partition, state));
        MetadataResponseTopic {
            name: Some(Str::from(topic.name.to_string())),
            topic_id: wire_id(topic.id),
            is_internal: topic.internal,
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }
    }

    fn partition(
        &self,
        index: PartitionIndex,
        state: &PartitionImage,
    ) -> MetadataResponsePartition {
        // Clients of version 0 expect replicas to be among the listed brokers.
        let listed = |ids: &[BrokerId]| -> Vec<i32> {
            let ids = ids
                .iter()
                .filter(|id| self.version > 0 || self.is_live(**id));
            ids.map(|id| id.0).collect()
        };
        let offline = state
            .replicas
            .iter()
            .filter(|id| !self.is_live(**id) || state.health(**id) == ReplicaHealth::Offline);
        let offline: Vec<i32> = offline.map(|id| id.0).collect();
        let leader = self.leader(state);
        let error_code = match leader {
            Err(code) => code,
            Ok(_) if self.version == 0 && !offline.is_empty() => ErrorCode::ReplicaNotAvailable,
            Ok(_) => ErrorCode::None,
        };
        MetadataResponsePartition {
            error_code,
            partition_index: index.0,
            leader_id: leader.map_or(-1, |id| id.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: listed(&state.replicas),
            isr_nodes: listed(&state.isr),
            offline_replicas: offline,
        }
    }

    fn leader(&self, state: &PartitionImage) -> Result<BrokerId, ErrorCode> {
        let leader = state.leader.and_then(|id| self.image.brokers.get(&id));
        let leader = leader
            .filter(|broker| !broker.fenced)
            .ok_or(ErrorCode::LeaderNotAvailable)?;
        match leader.endpoint(self.listener) {
            Some(_) => Ok(leader.id),
            None if self.version >= LISTENER_NOT_FOUND_VERSION_MIN => {
                Err(ErrorCode::ListenerNotFound)
            }
            None => Err(ErrorCode::LeaderNotAvailable),
        }
    }
}
