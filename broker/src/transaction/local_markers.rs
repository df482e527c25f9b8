//! Markers in partitions that this broker leads.

use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::partition::{EndMarker, MarkerEpoch, MarkerError, TransactionOutcome};
use broker_core::transaction::TransactionTopicPartition;
use broker_core::{CoordinatorEpoch, ProducerEpoch, ProducerId, TopicPartition, partition};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use klamm_proto::v1::{WriteMarkersRequest, WriteMarkersResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::peers::{Peers, from_named, to_named};
use crate::coordinator::{MarkerRefused, OFFSETS_TOPIC};
use crate::partition::AppendError;

/// How long an answer waits for markers to be replicated.
const WAIT_MAX: Duration = Duration::from_secs(5);

impl Peers {
    /// Ends a transaction in a partition that this broker leads. To be awaited to its end, on a task
    /// that nobody cancels.
    ///
    /// # Errors
    /// [`MarkerRefused`].
    pub async fn write_marker(
        &self,
        image: &Image,
        (topic, index): &TransactionTopicPartition,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<(), MarkerRefused> {
        if **topic == *OFFSETS_TOPIC {
            return self.groups.end_transaction(*index, marker, epoch).await;
        }
        let id = image.topic_ids.get(topic).map(|topic| TopicPartition {
            topic: *topic,
            partition: *index,
        });
        let found = id.and_then(|id| self.partitions.get(id));
        let partition = found.ok_or(MarkerRefused::Unavailable)?;
        let appended = partition.append_marker(marker, epoch, None)?;
        if let Some(acknowledged) = appended.acknowledged {
            acknowledged.await.map_err(|_| MarkerRefused::Unavailable)?;
        }
        Ok(())
    }
}

/// As [`Peers::write_marker`], for all partitions of a coordinator's request. Those that take long are
/// left out of the answer, so that they don't hold up the others; their markers are written all the same.
pub(super) async fn write_all(
    peers: Arc<Peers>,
    request: WriteMarkersRequest,
) -> WriteMarkersResponse {
    let mut response = WriteMarkersResponse::default();
    let Some((marker, marker_epoch)) = decode(&request) else {
        return response;
    };
    let image = peers.image();
    let (results, mut written) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (peers, image) = (&peers, &image);
        let write = |named| async move {
            let partition = from_named(named);
            let written = peers
                .write_marker(image, &partition, &marker, marker_epoch)
                .await;
            (partition, written)
        };
        let mut writes: FuturesUnordered<_> = request.partitions.into_iter().map(write).collect();
        while let Some(result) = writes.next().await {
            // Whoever asked may have stopped waiting.
            let _ = results.send(result);
        }
    });
    let deadline = Instant::now() + WAIT_MAX;
    while let Ok(Some((partition, written))) = timeout_at(deadline, written.recv()).await {
        match written {
            Ok(()) => response.ended.push(to_named(&partition)),
            Err(MarkerRefused::Append(AppendError::Refused(partition::AppendError::Marker(
                error,
            )))) => match error {
                // A newer epoch has records here: the transaction of this one has ended.
                MarkerError::FencedEpoch { .. } => response.ended.push(to_named(&partition)),
                MarkerError::FencedCoordinator { .. } => response.deposed = true,
            },
            Err(MarkerRefused::Append(_) | MarkerRefused::Unavailable) => {}
        }
    }
    response
}

/// `None` for a producer epoch that is none.
fn decode(request: &WriteMarkersRequest) -> Option<(EndMarker, MarkerEpoch)> {
    let marker = EndMarker {
        producer_id: ProducerId(request.producer_id),
        producer_epoch: ProducerEpoch(i16::try_from(request.producer_epoch).ok()?),
        coordinator_epoch: CoordinatorEpoch(request.coordinator_epoch),
        outcome: match request.committed {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        },
    };
    let epoch = match request.epoch_raised {
        true => MarkerEpoch::Raised,
        false => MarkerEpoch::Any,
    };
    Some((marker, epoch))
}
