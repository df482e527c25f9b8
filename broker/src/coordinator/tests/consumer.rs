//! Groups of the consumer protocol.

use broker_core::TopicId;
use broker_core::metadata::{Image, Partition, Record, Topic};
use broker_wire::message::consumer_group_heartbeat::ConsumerGroupTopicPartitions;
use broker_wire::message::offset_fetch::OffsetFetchRequestGroup;
use broker_wire::message::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};

use super::*;

const PAYMENTS: TopicId = TopicId([7; 16]);

/// One topic, `payments`, of three partitions.
fn image() -> Arc<Image> {
    let (mut image, topic_id) = (Image::default(), PAYMENTS.into());
    let name = "payments".to_owned();
    image
        .apply(&Record::Topic(Topic { topic_id, name }))
        .unwrap();
    for partition in 0..3 {
        let state = Partition {
            topic_id,
            partition,
            ..Partition::default()
        };
        image.apply(&Record::Partition(state)).unwrap();
    }
    Arc::new(image)
}

fn join_request(member_id: &'static str, regex: &'static str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_regex: Some(regex.into()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn heartbeat_request(joined: &ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: joined.member_id.clone().unwrap(),
        member_epoch: joined.member_epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

async fn beat(
    coordinator: &Coordinator,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    coordinator
        .consumer_heartbeat(request, client(), image())
        .await
}

fn fetch_as(coordinator: &Coordinator, member_id: &Str, member_epoch: i32) -> ErrorCode {
    let group = OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        member_id: Some(member_id.clone()),
        member_epoch,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group],
        ..OffsetFetchRequest::default()
    };
    coordinator.fetch_offsets(request, 9, true).groups[0].error_code
}

#[tokio::test]
async fn a_consumer_group_moves_to_another_coordinator() {
    let (log, first) = (MemoryLog::default(), coordinator());
    lead(&first, &log).await;
    let joined = beat(&first, join_request("a", "pay.*")).await;
    assert_eq!(joined.error_code, ErrorCode::None, "{joined:?}");
    let assigned = joined.assignment.as_ref().unwrap();
    let all = ConsumerGroupTopicPartitions {
        topic_id: broker_wire::Uuid::from_bytes(PAYMENTS.0),
        partitions: vec![0, 1, 2],
    };
    assert_eq!(assigned.topic_partitions, [all]);
    first.on_resign(first.find(GROUP));

    let second = coordinator();
    lead(&second, &log).await;
    let beaten = beat(&second, heartbeat_request(&joined)).await;
    assert_eq!(beaten.member_epoch, joined.member_epoch);
    assert_eq!(beaten.assignment, None, "it is as it was");
    let member_id = joined.member_id.unwrap();
    let epoch = joined.member_epoch;
    assert_eq!(fetch_as(&second, &member_id, epoch), ErrorCode::None);
    let stale = fetch_as(&second, &member_id, epoch - 1);
    assert_eq!(stale, ErrorCode::StaleMemberEpoch);
}

#[tokio::test]
async fn a_consumer_group_is_listed_and_described() {
    let (log, coordinator) = (MemoryLog::default(), coordinator());
    lead(&coordinator, &log).await;
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec![GROUP.into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let describe = || {
        let described = coordinator.describe_consumer_groups(&describe, image());
        described.groups.into_iter().next().unwrap()
    };
    assert_eq!(describe().error_code, ErrorCode::GroupIdNotFound);
    beat(&coordinator, join_request("a", "payments")).await;
    let list = ListGroupsRequest {
        types_filter: vec!["consumer".into()],
        ..ListGroupsRequest::default()
    };
    let listed = coordinator.list(&list).groups.remove(0);
    assert_eq!(
        (&*listed.group_type, &*listed.group_state),
        ("Consumer", "Stable")
    );
    let group = describe();
    assert_eq!(group.assignment_epoch, group.group_epoch);
    let member = &group.members[0];
    assert_eq!(member.assignment, member.target_assignment);
    let topic = &member.assignment.topic_partitions[0];
    assert_eq!(
        (&*topic.topic_name, topic.partitions.len()),
        ("payments", 3)
    );
}

#[tokio::test]
async fn a_regular_expression_that_is_none_is_refused() {
    let (log, coordinator) = (MemoryLog::default(), coordinator());
    lead(&coordinator, &log).await;
    let refused = beat(&coordinator, join_request("a", "a)(b")).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRegularExpression);
    assert!(refused.error_message.is_some());
}
