//! ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848).

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::group::{
    ConsumerGroupDescription, ConsumerHeartbeat, ConsumerHeartbeatRequest,
    ConsumerMemberDescription, GroupEpoch, GroupError, Partitions, Response,
};
use broker_core::metadata::Image;
use broker_core::{PartitionIndex, TopicId, TopicPartition};
use broker_wire::message::consumer_group_describe::{
    ConsumerGroupDescribedAssignment, ConsumerGroupDescribedGroup, ConsumerGroupDescribedMember,
    ConsumerGroupDescribedTopicPartitions,
};
use broker_wire::message::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatAssignment, ConsumerGroupTopicPartitions,
};
use broker_wire::message::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};
use broker_wire::{ErrorCode, Str};
use uuid::Uuid;

use super::error::code;
use super::membership::{Client, millis, owned};
use super::topics::{ImageTopics, compile};
use super::{GroupCoordinator, PartitionLog};

impl<L: PartitionLog> GroupCoordinator<L> {
    /// Takes a member's heartbeat; answers when what it changes is durable.
    pub async fn consumer_heartbeat(
        &self,
        request: ConsumerGroupHeartbeatRequest,
        client: Client,
        image: Arc<Image>,
    ) -> ConsumerGroupHeartbeatResponse {
        let regex = request.subscribed_topic_regex.as_ref();
        let invalid = regex.filter(|regex| !regex.is_empty());
        if let Some(Err(error)) = invalid.map(|regex| compile(regex)) {
            return refused(ErrorCode::InvalidRegularExpression, &error);
        }
        let shard = match self.shard(&request.group_id) {
            Ok(shard) => shard,
            Err(unavailable) => return refused(unavailable.code(), &unavailable),
        };
        let topics = self.images.topics(image);
        let request = heartbeat_request(request, client);
        let submitted = shard.submit(|groups, now, token, out| {
            groups.handle_consumer_heartbeat(now, &request, &topics, token, out);
        });
        match submitted.await {
            Ok(Response::ConsumerHeartbeat(Ok(heartbeat))) => self.heartbeat_response(heartbeat),
            Ok(Response::ConsumerHeartbeat(Err(error))) => refused(code(&error), &error),
            Ok(_) => unreachable!("a heartbeat is answered as one"),
            Err(unavailable) => refused(unavailable.code(), &unavailable),
        }
    }

    fn heartbeat_response(&self, heartbeat: ConsumerHeartbeat) -> ConsumerGroupHeartbeatResponse {
        let interval_ms = self.config.consumer_heartbeat_interval.as_millis();
        ConsumerGroupHeartbeatResponse {
            member_id: Some(heartbeat.member_id.into()),
            member_epoch: heartbeat.epoch.0,
            heartbeat_interval_ms: i32::try_from(interval_ms).unwrap_or(i32::MAX),
            assignment: heartbeat
                .assignment
                .map(|partitions| ConsumerGroupHeartbeatAssignment {
                    topic_partitions: by_topic(&partitions)
                        .into_iter()
                        .map(|(topic, partitions)| ConsumerGroupTopicPartitions {
                            topic_id: broker_wire::Uuid::from_bytes(topic.0),
                            partitions,
                        })
                        .collect(),
                }),
            ..ConsumerGroupHeartbeatResponse::default()
        }
    }

    /// Groups of the consumer protocol with their members.
    #[must_use]
    pub fn describe_consumer_groups(
        &self,
        request: &ConsumerGroupDescribeRequest,
        image: Arc<Image>,
    ) -> ConsumerGroupDescribeResponse {
        let topics = self.images.topics(image);
        let groups = request.group_ids.iter();
        ConsumerGroupDescribeResponse {
            groups: groups
                .map(|group| self.describe_consumer_group(group, &topics))
                .collect(),
            ..ConsumerGroupDescribeResponse::default()
        }
    }

    fn describe_consumer_group(
        &self,
        group: &Str,
        topics: &ImageTopics,
    ) -> ConsumerGroupDescribedGroup {
        let found = self.shard(group).and_then(|shard| {
            shard.with_groups(|groups, _, _| groups.describe_consumer_group(group))
        });
        let (error_code, error_message) = match found {
            Ok(Some(description)) => {
                return described(group.clone(), description, topics);
            }
            // Clients ask for a classic group then.
            Ok(None) => {
                let error = GroupError::GroupIdNotFound;
                (code(&error), error.to_string())
            }
            Err(unavailable) => (unavailable.code(), unavailable.to_string()),
        };
        ConsumerGroupDescribedGroup {
            error_code,
            error_message: Some(error_message.into()),
            group_id: group.clone(),
            ..ConsumerGroupDescribedGroup::default()
        }
    }
}

fn refused(error_code: ErrorCode, error: &dyn std::error::Error) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code,
        error_message: Some(error.to_string().into()),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn heartbeat_request(
    request: ConsumerGroupHeartbeatRequest,
    client: Client,
) -> ConsumerHeartbeatRequest {
    let member_id = match owned(&request.member_id) {
        // In v0 it is for the coordinator to choose.
        none if none.is_empty() && request.member_epoch == GroupEpoch::JOIN.0 => {
            Uuid::new_v4().to_string()
        }
        member_id => member_id,
    };
    let text = |text: &Option<Str>| text.as_ref().map(owned);
    ConsumerHeartbeatRequest {
        group: request.group_id.as_str().into(),
        member_id,
        epoch: GroupEpoch(request.member_epoch),
        instance_id: text(&request.instance_id),
        rack_id: text(&request.rack_id),
        rebalance_timeout: (request.rebalance_timeout_ms >= 0)
            .then(|| millis(request.rebalance_timeout_ms)),
        topic_names: request
            .subscribed_topic_names
            .map(|names| names.iter().map(owned).collect()),
        topic_regex: text(&request.subscribed_topic_regex),
        server_assignor: text(&request.server_assignor),
        owned: request.topic_partitions.map(|topics| partitions(&topics)),
        client_id: client.id,
        client_host: client.host,
    }
}

fn partitions(topics: &[ConsumerGroupTopicPartitions]) -> Partitions {
    let of_topic = |topic: &ConsumerGroupTopicPartitions| {
        let id = TopicId(topic.topic_id.into_bytes());
        let partition = move |index: &i32| TopicPartition {
            topic: id,
            partition: PartitionIndex(*index),
        };
        topic.partitions.iter().map(partition).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn by_topic(partitions: &Partitions) -> BTreeMap<TopicId, Vec<i32>> {
    let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let indexes = by_topic.entry(partition.topic).or_default();
        indexes.push(partition.partition.0);
    }
    by_topic
}

fn described(
    group_id: Str,
    description: ConsumerGroupDescription,
    topics: &ImageTopics,
) -> ConsumerGroupDescribedGroup {
    let members = description.members.into_iter();
    ConsumerGroupDescribedGroup {
        group_id,
        group_state: description.state.to_string().into(),
        group_epoch: description.epoch.0,
        assignment_epoch: description.target_epoch.0,
        assignor_name: description.assignor.into(),
        members: members
            .map(|member| described_member(member, topics))
            .collect(),
        ..ConsumerGroupDescribedGroup::default()
    }
}

fn described_member(
    member: ConsumerMemberDescription,
    topics: &ImageTopics,
) -> ConsumerGroupDescribedMember {
    let metadata = member.metadata;
    ConsumerGroupDescribedMember {
        member_id: member.member_id.into(),
        instance_id: metadata.instance_id.map(Into::into),
        rack_id: metadata.rack_id.map(Into::into),
        member_epoch: member.epoch.0,
        client_id: metadata.client_id.into(),
        client_host: metadata.client_host.into(),
        subscribed_topic_names: metadata.topic_names.into_iter().map(Into::into).collect(),
        subscribed_topic_regex: metadata.topic_regex.map(Into::into),
        assignment: described_assignment(&member.assigned, topics),
        target_assignment: described_assignment(&member.target, topics),
        member_type: i8::from(metadata.classic.is_none()),
    }
}

/// Without topics that were deleted since.
fn described_assignment(
    partitions: &Partitions,
    topics: &ImageTopics,
) -> ConsumerGroupDescribedAssignment {
    let named = by_topic(partitions)
        .into_iter()
        .filter_map(|(id, partitions)| {
            Some(ConsumerGroupDescribedTopicPartitions {
                topic_id: broker_wire::Uuid::from_bytes(id.0),
                topic_name: topics.name(id)?.to_owned().into(),
                partitions,
            })
        });
    ConsumerGroupDescribedAssignment {
        topic_partitions: named.collect(),
    }
}
