//! Both ends of replication: the leader answers pulls, the follower takes the answers over.
//!
//! What a follower asks is its acknowledgement: `fetch_offset` is the end of its log.

use std::sync::Arc;

use broker_core::partition::{self, Divergence, EpochError, LeaderEnds, Puller, truncation_offset};
use broker_core::{LeaderEpoch, Offset};
use broker_log::{LogSlice, MinOneBatch};
use broker_wire::record::batches;
use klamm_proto::v1::{PullError, PulledPartition};

use super::append::sequence;
use super::housekeeping::remove;
use super::transactions::marker_in;
use super::{Partition, PullWaker, ReadError, State, producers};
use crate::clock;

/// A follower's position in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerState {
    pub leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// Epoch of the last batch, [`LeaderEpoch::NONE`] in an empty log.
    pub last_epoch: LeaderEpoch,
    /// Where the log starts, as it is written down.
    pub log_start: Offset,
}

/// The leader's answer for one partition.
pub struct Pulled {
    pub epoch: LeaderEpoch,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub content: PulledContent,
    /// The follower may be ready for the ISR.
    pub may_enter_isr: bool,
    /// For [`Partition::read_for_follower`].
    pub damaged: bool,
    /// Records count for the throttle of reassignments.
    pub throttled: bool,
}

/// What the follower is to do.
pub enum PulledContent {
    Records(LogSlice),
    /// It has everything.
    Nothing,
    /// Cut its log first.
    Diverging(Divergence),
    /// Start over at the leader's log start.
    OutOfRange,
}

/// What a follower does after an answer.
pub enum FollowerStep {
    /// Pull on.
    Continue,
    /// Nothing changed.
    Idle,
    /// Not now: metadata will tell, or a later pull succeeds.
    Retry,
    /// Not before a longer pause: the disk is full, or the log was not readable.
    BackOff,
    /// What came is damaged: the leader is told, and asked again after a longer pause.
    Refused,
    /// The local log failed.
    Failed,
}

impl Partition {
    /// Leader: takes note of a follower's position, and reads on from it.
    ///
    /// # Errors
    /// [`ReadError`] when this replica does not lead in the follower's epoch, or can't read.
    pub fn serve_pull(
        &self,
        puller: Puller,
        at: FollowerState,
        bytes_max: usize,
    ) -> Result<Pulled, ReadError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        state.replica.check_leader_epoch(Some(at.leader_epoch))?;
        let (start, end) = (state.log.start_offset(), state.log.end_offset());
        let content = if at.fetch_offset < start {
            PulledContent::OutOfRange
        } else if let Some(divergence) = state.divergence(at) {
            PulledContent::Diverging(divergence)
        } else if at.fetch_offset > end {
            PulledContent::OutOfRange
        } else {
            PulledContent::Nothing
        };
        // A position in a log that differs from ours acknowledges nothing.
        let may_enter_isr = match content {
            PulledContent::Nothing => {
                let may_enter_isr = state.note_pull(puller, at)?;
                if state.follower_starts.note(puller.broker, at.log_start) {
                    self.low_watermark_moved.notify_waiters();
                }
                may_enter_isr
            }
            PulledContent::Records(_) | PulledContent::Diverging(_) | PulledContent::OutOfRange => {
                false
            }
        };
        let content = match content {
            PulledContent::Nothing if at.fetch_offset < end => {
                let read = state
                    .log
                    .read(at.fetch_offset, end, bytes_max, MinOneBatch::Yes);
                match state.checked(self, read)? {
                    Some(slice) => PulledContent::Records(slice),
                    None => PulledContent::Nothing,
                }
            }
            other => other,
        };
        Ok(Pulled {
            epoch: state.replica.leader_epoch(),
            high_watermark: state.replica.high_watermark(),
            log_start: start,
            content,
            may_enter_isr,
            damaged: state.damaged,
            throttled: state.throttles_follower(self.id.partition, puller.broker),
        })
    }

    /// Leader: has a follower's stream told of every append.
    pub fn wake_at_append(&self, waker: &Arc<PullWaker>) {
        self.state.lock().wakers.add_pull(waker);
    }

    /// Follower: where to pull from, `None` when this replica follows nobody, or when its log failed:
    /// nobody knows what of it is durable.
    #[must_use]
    pub fn follower_state(&self) -> Option<FollowerState> {
        let state = self.state.lock();
        state.replica.followed_leader()?;
        if state.log.is_failed() {
            return None;
        }
        Some(state.follower_state())
    }

    /// Follower: takes over an answer of the leader.
    pub fn handle_pulled(&self, pulled: &PulledPartition) -> FollowerStep {
        let mut state = self.state.lock();
        let epoch = LeaderEpoch(pulled.leader_epoch);
        if state.closed || state.replica.handle_pulled(epoch) == partition::Pulled::Stale {
            return FollowerStep::Retry;
        }
        let outcome = match pulled.error() {
            PullError::None => state.take_over(self, pulled),
            PullError::OffsetOutOfRange => state.start_over(self, Offset(pulled.log_start_offset)),
            PullError::FencedLeaderEpoch
            | PullError::UnknownLeaderEpoch
            | PullError::NotLeader
            | PullError::UnknownPartition
            | PullError::Storage => return FollowerStep::Retry,
        };
        match outcome {
            Ok(true) => FollowerStep::Continue,
            Ok(false) => FollowerStep::Idle,
            Err(error) if error.is_full_disk() => FollowerStep::BackOff,
            Err(error) if state.log.is_failed() => {
                tracing::error!(partition = %self, %error, "replication can't write its log");
                FollowerStep::Failed
            }
            Err(FollowError::Read(error)) => {
                tracing::error!(partition = %self, %error, "the log can't be read");
                if error.is_damage() {
                    state.note_damage(self, &error);
                }
                FollowerStep::BackOff
            }
            Err(error) => {
                tracing::error!(partition = %self, %error, "what the leader sent is not taken over; asking again");
                FollowerStep::Refused
            }
        }
    }

    /// Follower: whether what the log has must be made durable before it is pulled for.
    #[must_use]
    pub fn flush_is_due(&self) -> bool {
        self.state.lock().log.flush_due(clock::timestamp())
    }

    /// Follower: makes what the log has durable. Blocks.
    ///
    /// # Errors
    /// When fsync fails; the log takes no more writes.
    pub fn flush_pulled(&self) -> Result<(), broker_log::StorageError> {
        loop {
            let handle = self.state.lock().log.sync_handle();
            let synced = handle.sync();
            let mut state = self.state.lock();
            match synced {
                Ok(synced) => {
                    state.log.synced(synced);
                    return Ok(());
                }
                Err(error) if state.log.is_failed() => return Err(error),
                // Its files went away with a move.
                Err(_) => {}
            }
        }
    }
}

impl State {
    /// Whether the follower's last batch is in the leader's log, and if not, where they part.
    fn divergence(&self, at: FollowerState) -> Option<Divergence> {
        if at.last_epoch == LeaderEpoch::NONE {
            return None;
        }
        let (epoch, end_offset) = self
            .log
            .end_offset_for_epoch(at.last_epoch)
            .unwrap_or((LeaderEpoch::NONE, Offset(0)));
        let diverges = epoch < at.last_epoch || end_offset < at.fetch_offset;
        diverges.then_some(Divergence { epoch, end_offset })
    }

    fn note_pull(&mut self, puller: Puller, at: FollowerState) -> Result<bool, EpochError> {
        let ends = LeaderEnds {
            written: self.log.end_offset(),
            own: self.own_end(),
        };
        let progress = self.replica.handle_pull(
            clock::now(),
            puller,
            at.leader_epoch,
            at.fetch_offset,
            ends,
        )?;
        if progress.advanced {
            self.high_watermark_moved();
        }
        self.release_counted();
        Ok(progress.may_enter_isr)
    }

    fn follower_state(&self) -> FollowerState {
        let end = self.log.end_offset();
        FollowerState {
            leader_epoch: self.replica.leader_epoch(),
            fetch_offset: end,
            last_epoch: self
                .log
                .epochs()
                .latest_before(end)
                .unwrap_or(LeaderEpoch::NONE),
            log_start: self.log.checkpointed_start(),
        }
    }

    fn take_over(
        &mut self,
        partition: &Partition,
        pulled: &PulledPartition,
    ) -> Result<bool, FollowError> {
        if let Some(diverging) = &pulled.diverging {
            let divergence = Divergence {
                epoch: LeaderEpoch(diverging.epoch),
                end_offset: Offset(diverging.end_offset),
            };
            self.truncate(partition, divergence)?;
            let leader_start = Offset(pulled.log_start_offset);
            if self.log.end_offset() <= leader_start {
                // The leader can't tell whether what is left is what it has deleted: neither records
                // nor producers' sequences of it count.
                self.start_over(partition, leader_start)?;
            }
            return Ok(true);
        }
        if let Some(Ok((first, _))) = batches(&pulled.records).next()
            && Offset(first.base_offset) < self.log.end_offset()
        {
            let end = self.log.end_offset();
            let leader_start = Offset(pulled.log_start_offset);
            let nothing_below = self.log.start_offset() == end || leader_start >= end;
            if !nothing_below || first.next_offset() <= end.0 {
                // Two pulls may name a partition before the first is answered: the second answer
                // repeats what the first brought, and is answered with where the log ends by now.
                return Ok(true);
            }
            // The leader's log starts within a batch, which comes as a whole. What was below is deleted
            // there, not given up.
            let base = Offset(first.base_offset);
            self.start_log_at(base)?;
            let _ = self.replica.handle_truncation(base);
            self.replica.set_producers(partition::Producers::default());
        }
        if !pulled.records.is_empty() {
            let appended = self
                .log
                .append_as_follower(&pulled.records, clock::timestamp());
            self.note_append(partition, &appended);
            appended?;
            for batch in batches(&pulled.records) {
                let (header, bytes) = batch.map_err(broker_log::AppendError::from)?;
                let timestamp = broker_core::Timestamp(header.max_timestamp);
                let base_offset = Offset(header.base_offset);
                if let Some(sequence) = sequence(&header) {
                    self.replica
                        .record_sequence(&sequence, base_offset, timestamp);
                } else if header.is_control()
                    && let Some(marker) = marker_in(bytes)?
                {
                    self.note_marker(&marker, base_offset, timestamp)?;
                }
            }
        }
        let leader_start = Offset(pulled.log_start_offset);
        let starts_later = leader_start > self.log.start_offset();
        if starts_later {
            let deleted = self
                .log
                .delete_before(leader_start.min(self.log.end_offset()))?;
            remove(deleted);
        }
        let end = self.log.end_offset();
        if self
            .replica
            .handle_follower_append(Offset(pulled.high_watermark), end)
        {
            self.high_watermark_moved();
        }
        // The leader waits to hear where this log starts now.
        Ok(!pulled.records.is_empty() || starts_later)
    }

    fn truncate(
        &mut self,
        partition: &Partition,
        divergence: Divergence,
    ) -> Result<(), FollowError> {
        let end = self.log.end_offset();
        let local = self.log.end_offset_for_epoch(divergence.epoch);
        let local_end = local
            .map_or(Offset(0), |(_, end)| end)
            .max(self.log.start_offset());
        let to = truncation_offset(divergence, local_end, end).max(self.log.start_offset());
        tracing::info!(
            %partition, from = %end, %to, high_watermark = %self.replica.high_watermark(),
            "cutting a log that parts from the leader's"
        );
        let fs = Arc::clone(self.directory.fs());
        producers::discard_above(&*fs, &self.log, to)?;
        self.log.truncate_to(to)?;
        // A batch goes as a whole.
        let to = self.log.end_offset();
        self.note_cut(to);
        partition.note_given_up(self.replica.handle_truncation(to), to);
        // Should the log not be readable: a batch that was cut is no duplicate of one that comes again.
        self.replica.set_producers(partition::Producers::default());
        let producers = producers::load(&*fs, &mut self.log)?;
        self.replica.set_producers(producers);
        Ok(())
    }

    fn start_over(&mut self, partition: &Partition, at: Offset) -> Result<bool, FollowError> {
        tracing::info!(%partition, %at, "the leader no longer has what follows this log; starting over");
        self.start_log_at(at)?;
        partition.note_given_up(self.replica.handle_truncation(at), at);
        self.replica.set_producers(partition::Producers::default());
        Ok(true)
    }

    fn start_log_at(&mut self, at: Offset) -> Result<(), FollowError> {
        producers::discard_all(&**self.directory.fs(), &self.log)?;
        self.log.truncate_fully_and_start_at(at)?;
        self.note_cut(Offset(0));
        Ok(())
    }
}

impl FollowError {
    /// The log is as it was: replication goes on when there is room.
    const fn is_full_disk(&self) -> bool {
        use broker_log::{AppendError, StorageError};
        matches!(
            self,
            Self::Append(AppendError::Storage(StorageError::NoSpace))
                | Self::Storage(StorageError::NoSpace)
        )
    }
}

/// A follower's log did not take an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Append(#[from] broker_log::AppendError),
    #[error(transparent)]
    Storage(#[from] broker_log::StorageError),
    #[error("a transaction's marker can't be read: {0}")]
    Marker(#[from] broker_wire::record::RecordError),
    #[error(transparent)]
    Read(#[from] producers::RebuildError),
    #[error("can't remove the snapshots of producers: {0}")]
    Snapshots(#[from] std::io::Error),
}
