//! WriteTxnMarkers: an administrator ends transactions that no coordinator knows of any more
//! (KIP-664). Coordinators have a contract of their own.

use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::partition::{EndMarker, MarkerEpoch, TransactionOutcome};
use broker_core::transaction::TransactionTopicPartition;
use broker_core::{CoordinatorEpoch, PartitionIndex, ProducerEpoch, ProducerId};
use broker_wire::ErrorCode;
use broker_wire::message::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
};
use broker_wire::message::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::context::{Context, RequestInfo};
use super::error::KafkaError;
use crate::coordinator::MarkerRefused;
use crate::transaction::Peers;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let (peers, image) = (Arc::clone(&ctx.transaction_peers), ctx.image());
    // On a task of its own, so that a client that goes away leaves nothing half done.
    let written = tokio::spawn(async move {
        let mut markers = Vec::with_capacity(request.markers.len());
        for marker in request.markers {
            markers.push(write(&peers, &image, marker).await);
        }
        markers
    });
    WriteTxnMarkersResponse {
        markers: written.await.unwrap_or_default(),
    }
}

async fn write(
    peers: &Peers,
    image: &Image,
    request: WritableTxnMarker,
) -> WritableTxnMarkerResult {
    let marker = EndMarker {
        producer_id: ProducerId(request.producer_id),
        producer_epoch: ProducerEpoch(request.producer_epoch),
        coordinator_epoch: CoordinatorEpoch(request.coordinator_epoch),
        outcome: match request.transaction_result {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        },
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let partition = (topic.name.as_str().into(), PartitionIndex(index));
            partitions.push(WritableTxnMarkerPartitionResult {
                partition_index: index,
                error_code: write_one(peers, image, &partition, &marker).await,
            });
        }
        topics.push(WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions,
        });
    }
    WritableTxnMarkerResult {
        producer_id: request.producer_id,
        topics,
    }
}

async fn write_one(
    peers: &Peers,
    image: &Image,
    partition: &TransactionTopicPartition,
    marker: &EndMarker,
) -> ErrorCode {
    let topic = image.topic_by_name(&partition.0);
    if topic.is_none_or(|topic| topic.partition(partition.1).is_none()) {
        return ErrorCode::UnknownTopicOrPartition;
    }
    let written = peers.write_marker(image, partition, marker, MarkerEpoch::Any);
    match written.await {
        Ok(()) => ErrorCode::None,
        Err(MarkerRefused::Unavailable) => ErrorCode::NotLeaderOrFollower,
        Err(MarkerRefused::Append(error)) => error.error_code(),
    }
}
