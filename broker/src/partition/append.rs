//! Producers' path through a partition.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_core::partition::{
    Acks, NO_SEQUENCE, NotLeader, SequenceVerdict, SequencedBatch, VerificationGuard,
};
use broker_core::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use broker_log::{AppendError as LogError, StorageError};
use broker_wire::record::{BatchHeader, RecordBatch, patch_max_timestamp_log_append};
use bytes::BytesMut;
use parking_lot::MutexGuard;
use tokio::sync::oneshot;

use super::{AppendError, Partition, State};
use crate::clock;

/// Largest batch of a compacted topic after decompression.
const COMPACTED_BATCH_BYTES_MAX: usize = 64 << 20;

/// One batch whose checksum was verified.
pub struct ProducedBatch {
    pub header: BatchHeader,
    pub bytes: BytesMut,
    /// Refuse in any other epoch than this one: set by a writer whose state belongs to it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Of the verification that allows the first batch of a transaction.
    pub guard: Option<VerificationGuard>,
}

impl ProducedBatch {
    /// Place in an idempotent producer's sequence, `None` for other producers.
    fn sequence(&self) -> Option<SequencedBatch> {
        sequence(&self.header)
    }
}

/// Place of a batch in an idempotent producer's sequence, `None` for other producers and markers.
pub(super) fn sequence(header: &BatchHeader) -> Option<SequencedBatch> {
    if header.producer_id < 0 || header.is_control() {
        return None;
    }
    // What compaction leaves of a batch is of a transaction that ended, perhaps without its marker.
    let transactional = header.is_transactional() && header.record_count > 0;
    if header.base_sequence < 0 {
        return Some(SequencedBatch {
            producer_id: ProducerId(header.producer_id),
            producer_epoch: ProducerEpoch(header.producer_epoch),
            first_sequence: NO_SEQUENCE,
            last_sequence: NO_SEQUENCE,
            transactional,
        });
    }
    let last = i64::from(header.base_sequence) + i64::from(header.last_offset_delta);
    let wrapped = last % (i64::from(i32::MAX) + 1);
    Some(SequencedBatch {
        producer_id: ProducerId(header.producer_id),
        producer_epoch: ProducerEpoch(header.producer_epoch),
        first_sequence: header.base_sequence,
        last_sequence: i32::try_from(wrapped).unwrap_or(i32::MAX),
        transactional,
    })
}

/// Where a batch went, and what its acknowledgement still waits for.
pub struct Appended {
    /// `None` for a batch that was appended before, too long ago to know where.
    pub base_offset: Option<Offset>,
    pub log_start: Offset,
    /// Set when the topic stamps messages with the broker's time.
    pub log_append_time: Option<Timestamp>,
    /// Completes when the batch may be acknowledged; fails when leadership is lost before.
    pub acknowledged: Option<oneshot::Receiver<()>>,
}

impl Partition {
    /// Appends a batch as the leader.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append(
        self: &Arc<Self>,
        mut batch: ProducedBatch,
        acks: Acks,
    ) -> Result<Appended, AppendError> {
        let sequence = batch.sequence();
        let mut state = self.state.lock();
        if state.config.log.compaction.is_some() {
            MutexGuard::unlocked(&mut state, || check_keys(&batch.bytes))?;
        }
        if state.closed {
            return Err(AppendError::Closed);
        }
        let at = clock::now();
        if let Err(no_lease) = self.check_lease_at(at) {
            if let Some(sequence) = &sequence {
                state.replica.note_refused(at, sequence);
            }
            return Err(no_lease.into());
        }
        let epoch = state.replica.leader_epoch();
        if batch.leader_epoch.is_some_and(|expected| expected != epoch) {
            return Err(NotLeader.into());
        }
        let max = state.config.max_message_bytes;
        if batch.bytes.len() > max {
            return Err(AppendError::TooLarge {
                bytes: batch.bytes.len(),
                max,
            });
        }
        match state.replica.admit(at, acks, sequence.as_ref())? {
            SequenceVerdict::Append => {}
            SequenceVerdict::Duplicate {
                base_offset,
                end_offset,
                timestamp,
            } => {
                let stamped = state.config.log_append_time.then_some(timestamp);
                return Ok(state.acknowledge(acks, Some(base_offset), end_offset, stamped));
            }
            SequenceVerdict::AppendedBefore { end_offset } => {
                return Ok(state.acknowledge(acks, None, end_offset, None));
            }
        }
        if let Some(sequence) = &sequence {
            state.replica.check_verified(at, sequence, batch.guard)?;
        }
        let now = clock::timestamp();
        let stamped = state.config.log_append_time.then_some(now);
        if let Some(timestamp) = stamped {
            patch_max_timestamp_log_append(&mut batch.bytes, timestamp.0);
        }
        let appended = state.log.append_as_leader(&mut batch.bytes, epoch, now);
        state.note_append(self, &appended);
        if let (Err(LogError::Storage(StorageError::NoSpace)), Some(sequence)) =
            (&appended, &sequence)
        {
            state.replica.note_refused(at, sequence);
        }
        let info = appended?;
        let own_end = state.own_end();
        let advanced = state.replica.handle_append(
            at,
            sequence
                .as_ref()
                .map(|sequence| (sequence, info.max_timestamp)),
            info.first_offset,
            own_end,
        );
        state.wakers.appended();
        if advanced {
            state.high_watermark_moved();
        }
        let appended = state.acknowledge(acks, Some(info.first_offset), info.end_offset, stamped);
        let flush = state.log.flush_due(now);
        drop(state);
        if flush {
            self.start_flush();
        }
        Ok(appended)
    }

    /// Starts a group commit unless one is running: whoever appends meanwhile shares the next one.
    pub(super) fn start_flush(self: &Arc<Self>) {
        if self.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let partition = Arc::clone(self);
        tokio::task::spawn_blocking(move || partition.flush());
    }

    fn flush(&self) {
        loop {
            let handle = self.state.lock().log.sync_handle();
            let synced = handle.sync();
            let mut state = self.state.lock();
            match synced {
                Ok(synced) => state.log.synced(synced),
                // Its files went away with a move, before which everything was made durable.
                Err(_) if !state.log.is_failed() => {}
                Err(error) => {
                    tracing::error!(partition = %self, %error, "fsync failed; the log takes no more writes");
                    state.role_changed();
                    self.flushing.store(false, Ordering::Release);
                    return;
                }
            }
            state.became_durable();
            if !state.log.flush_due(clock::timestamp()) {
                self.flushing.store(false, Ordering::Release);
                return;
            }
        }
    }
}

/// Compaction knows records by their keys, and must be able to read them.
fn check_keys(bytes: &[u8]) -> Result<(), AppendError> {
    let batch = RecordBatch::open(bytes, COMPACTED_BATCH_BYTES_MAX)?;
    for record in batch.records() {
        let record = record?;
        if record.key.is_none() && !batch.header().is_control() {
            return Err(AppendError::NoKey {
                index: record.offset - batch.header().base_offset,
            });
        }
    }
    Ok(())
}

impl State {
    pub(super) fn acknowledge(
        &mut self,
        acks: Acks,
        base_offset: Option<Offset>,
        end_offset: Offset,
        log_append_time: Option<Timestamp>,
    ) -> Appended {
        let acknowledged = match acks {
            Acks::All if self.replica.high_watermark() < end_offset => {
                let (sender, receiver) = oneshot::channel();
                self.replicated.push(end_offset, sender);
                Some(receiver)
            }
            Acks::Leader if self.own_end() < end_offset => {
                let (sender, receiver) = oneshot::channel();
                self.durable.push(end_offset, sender);
                Some(receiver)
            }
            Acks::Counted(count)
                if self.replica.replicated_on(count, self.own_end()) < Some(end_offset) =>
            {
                let (sender, receiver) = oneshot::channel();
                self.counted
                    .entry(count)
                    .or_default()
                    .push(end_offset, sender);
                Some(receiver)
            }
            Acks::None | Acks::Leader | Acks::All | Acks::Counted(_) => None,
        };
        Appended {
            base_offset,
            log_start: self.log.start_offset(),
            log_append_time,
            acknowledged,
        }
    }

    pub(super) fn became_durable(&mut self) {
        for waiting in self.durable.release(self.log.durable_end()) {
            // A requester that gave up no longer listens.
            let _ = waiting.send(());
        }
        let own_end = self.own_end();
        if self.replica.handle_durable(own_end) {
            self.high_watermark_moved();
        }
        self.release_counted();
    }
}
