//! DescribeQuorum (KIP-595): the voters and observers of the metadata quorum, as the active controller
//! sees them.

use broker_wire::message::describe_quorum::{
    DescribeQuorumListener, DescribeQuorumNode, DescribeQuorumPartition, DescribeQuorumTopic,
    QuorumReplicaState,
};
use broker_wire::message::{DescribeQuorumRequest, DescribeQuorumResponse};
use broker_wire::{ErrorCode, Str, Uuid};
use klamm_proto::v1::{QuorumDescription, QuorumMember};

use super::context::{Context, RequestInfo};
use super::error::KafkaError as _;

const METADATA_TOPIC: &str = "__cluster_metadata";
/// Name of the listener at which members find each other, which is no client's.
const RPC_LISTENER: &str = "CONTROLLER";

pub(super) async fn handle(
    ctx: &Context,
    _: &RequestInfo,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let quorum = match ctx.controller.describe_quorum().await {
        Ok(quorum) => quorum,
        Err(error) => {
            return DescribeQuorumResponse {
                error_code: error.error_code(),
                error_message: Some(error.to_string().into()),
                ..DescribeQuorumResponse::default()
            };
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions =
            partitions.map(|asked| partition(&topic.topic_name, asked.partition_index, &quorum));
        DescribeQuorumTopic {
            partitions: partitions.collect(),
            topic_name: topic.topic_name.clone(),
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: members(&quorum).map(node).collect(),
        ..DescribeQuorumResponse::default()
    }
}

fn members(quorum: &QuorumDescription) -> impl Iterator<Item = &QuorumMember> {
    let others = quorum.learners.iter().chain(&quorum.observers);
    quorum.voters.iter().chain(others)
}

fn partition(topic: &Str, index: i32, quorum: &QuorumDescription) -> DescribeQuorumPartition {
    if **topic != *METADATA_TOPIC || index != 0 {
        return DescribeQuorumPartition {
            partition_index: index,
            error_code: ErrorCode::UnknownTopicOrPartition,
            leader_id: -1,
            ..DescribeQuorumPartition::default()
        };
    }
    let observers = quorum.learners.iter().chain(&quorum.observers);
    DescribeQuorumPartition {
        partition_index: index,
        leader_id: quorum.leader_id,
        leader_epoch: i32::try_from(quorum.leader_epoch).unwrap_or(i32::MAX),
        high_watermark: quorum.high_watermark.cast_signed(),
        current_voters: quorum.voters.iter().map(replica).collect(),
        observers: observers.map(replica).collect(),
        ..DescribeQuorumPartition::default()
    }
}

fn replica(member: &QuorumMember) -> QuorumReplicaState {
    let directory = uuid::Uuid::parse_str(&member.directory_id).unwrap_or_default();
    QuorumReplicaState {
        replica_id: member.broker_id,
        replica_directory_id: Uuid::from_u128(directory.as_u128()),
        log_end_offset: member.log_end_offset,
        last_fetch_timestamp: member.last_fetch_timestamp_ms,
        last_caught_up_timestamp: member.last_caught_up_timestamp_ms,
    }
}

fn node(member: &QuorumMember) -> DescribeQuorumNode {
    let (host, port) = member.address.rsplit_once(':').unwrap_or_default();
    DescribeQuorumNode {
        node_id: member.broker_id,
        listeners: vec![DescribeQuorumListener {
            name: RPC_LISTENER.into(),
            host: host.to_owned().into(),
            port: port.parse::<u16>().unwrap_or_default().cast_signed(),
        }],
    }
}
