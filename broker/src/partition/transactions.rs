//! Transactions in a partition: their markers, and what of them the log and its readers need.

use std::sync::Arc;

use broker_core::partition::{
    Acks, EndMarker, EndedTransaction, MarkerEpoch, MarkerVerdict, NotLeader, ProducerState,
    TransactionOutcome, VerificationGuard,
};
use broker_core::transaction::Producer;
use broker_core::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use broker_log::{AbortedTransaction, Log, StorageError};
use broker_wire::record::{ControlRecordType, EndTransactionMarker, RecordError};
use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{AppendError, Appended, Partition, ReadError, State};
use crate::clock;

/// A marker that is in the log.
pub struct AppendedMarker {
    /// `None` when it was there before, or there was nothing to end.
    pub offset: Option<Offset>,
    /// As of [`Appended`].
    pub acknowledged: Option<oneshot::Receiver<()>>,
}

impl Partition {
    /// Leader, in no other epoch than `leader_epoch` if one is given: ends a producer's transaction, to
    /// be acknowledged when the marker is replicated.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append_marker(
        self: &Arc<Self>,
        marker: &EndMarker,
        marker_epoch: MarkerEpoch,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<AppendedMarker, AppendError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(AppendError::Closed);
        }
        self.check_lease()?;
        let epoch = state.replica.leader_epoch();
        if leader_epoch.is_some_and(|expected| expected != epoch) {
            return Err(NotLeader.into());
        }
        if state.replica.admit_marker(marker, marker_epoch)? == MarkerVerdict::Ended {
            // Whether it is replicated, the end of the log tells.
            let end = state.log.end_offset();
            let Appended { acknowledged, .. } = state.acknowledge(Acks::All, None, end, None);
            return Ok(AppendedMarker {
                offset: None,
                acknowledged,
            });
        }
        let now = clock::timestamp();
        let mut bytes = BytesMut::from(&encoded(marker, now)[..]);
        let appended = state.log.append_as_leader(&mut bytes, epoch, now);
        state.note_append(self, &appended);
        let info = appended?;
        let noted = state.note_marker(marker, info.first_offset, now);
        noted.map_err(broker_log::AppendError::from)?;
        let own_end = state.own_end();
        let advanced = state
            .replica
            .handle_append(clock::now(), None, info.first_offset, own_end);
        state.wakers.appended();
        if advanced {
            state.high_watermark_moved();
        }
        let Appended { acknowledged, .. } =
            state.acknowledge(Acks::All, None, info.end_offset, None);
        let flush = state.log.flush_due(now);
        drop(state);
        if flush {
            self.start_flush();
        }
        Ok(AppendedMarker {
            offset: Some(info.first_offset),
            acknowledged,
        })
    }

    /// Leader: to be called before the coordinator is asked whether a transaction includes the
    /// partition; `None` when there is nothing to ask.
    ///
    /// # Errors
    /// [`NotLeader`].
    pub fn begin_verification(
        &self,
        producer: Producer,
    ) -> Result<Option<VerificationGuard>, NotLeader> {
        let mut state = self.state.lock();
        state
            .replica
            .begin_verification(producer.id, producer.epoch)
    }

    /// The producers that are remembered, at most `count_max` of them, on any replica.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn producer_states(&self, count_max: usize) -> Result<Vec<ProducerState>, ReadError> {
        let state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        Ok(state.replica.producers().states().take(count_max).collect())
    }
}

impl State {
    /// Takes a marker into account that is in the log.
    pub(super) fn note_marker(
        &mut self,
        marker: &EndMarker,
        offset: Offset,
        timestamp: Timestamp,
    ) -> Result<(), StorageError> {
        let ended = self.replica.record_marker(marker, offset, timestamp);
        ended.map_or(Ok(()), |ended| note_if_aborted(&mut self.log, &ended))
    }

    pub(super) fn last_stable_offset(&self) -> Offset {
        self.replica.last_stable_offset(self.log.start_offset())
    }
}

/// Enters a transaction in the log's index if it was aborted.
pub(super) fn note_if_aborted(log: &mut Log, ended: &EndedTransaction) -> Result<(), StorageError> {
    match ended.outcome {
        TransactionOutcome::Commit => Ok(()),
        TransactionOutcome::Abort => log.note_aborted(&AbortedTransaction {
            producer_id: ended.producer_id,
            first_offset: ended.first_offset,
            last_offset: ended.marker_offset,
            last_stable_offset: ended.last_stable_offset,
        }),
    }
}

/// The marker in a control batch, if it is one.
pub(super) fn marker_in(batch: &[u8]) -> Result<Option<EndMarker>, RecordError> {
    let found = EndTransactionMarker::read(batch)?;
    Ok(found.map(|marker| EndMarker {
        producer_id: ProducerId(marker.producer_id),
        producer_epoch: ProducerEpoch(marker.producer_epoch),
        coordinator_epoch: CoordinatorEpoch(marker.coordinator_epoch),
        outcome: match marker.kind {
            ControlRecordType::Abort => TransactionOutcome::Abort,
            ControlRecordType::Commit => TransactionOutcome::Commit,
        },
    }))
}

fn encoded(marker: &EndMarker, timestamp: Timestamp) -> bytes::Bytes {
    let marker = EndTransactionMarker {
        kind: match marker.outcome {
            TransactionOutcome::Abort => ControlRecordType::Abort,
            TransactionOutcome::Commit => ControlRecordType::Commit,
        },
        producer_id: marker.producer_id.0,
        producer_epoch: marker.producer_epoch.0,
        coordinator_epoch: marker.coordinator_epoch.0,
        timestamp: timestamp.0,
    };
    marker.build(0).expect("one small record makes a batch")
}
