//! Both ends of replication for one partition. Mirrors `broker/src/partition/pull.rs`.

use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::{
    self, Divergence, EpochError, LeaderEnds, Producers, Puller, truncation_offset,
};
use broker_core::{LeaderEpoch, Offset, Time, Timestamp};
use broker_log::{AppendError, Log, MinOneBatch, StorageError};
use broker_wire::record::batches;
use bytes::Bytes;

use super::hosted::{Hosted, sequence};
use crate::event::{FollowerPosition, PulledContent, PulledPartition};

/// What the leader has for a follower.
pub(crate) enum Served {
    Refused,
    Unreadable,
    Nothing {
        may_enter_isr: bool,
    },
    Answer {
        content: PulledContent,
        may_enter_isr: bool,
    },
}

/// What a follower does after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowerStep {
    /// Pull on from the new position.
    Continue,
    Idle,
    /// Not now.
    Retry,
    /// The local log failed.
    Failed,
    /// Pull on; the log was cut.
    Truncated {
        from: Offset,
        to: Offset,
    },
}

impl Hosted {
    /// Leader: takes note of a follower's position, and reads on from it.
    pub(crate) fn serve_pull(
        &mut self,
        now: Time,
        puller: Puller,
        at: FollowerPosition,
        bytes_max: usize,
    ) -> Served {
        let checked = self.replica.check_leader_epoch(Some(at.leader_epoch));
        if checked.is_err() && !mutated(Mutation::IgnorePullEpoch) {
            return Served::Refused;
        }
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        let answer = |content| Served::Answer {
            content,
            may_enter_isr: false,
        };
        if at.fetch_offset < start {
            return answer(PulledContent::OutOfRange);
        }
        if let Some(divergence) = self.divergence(at) {
            return answer(PulledContent::Diverging(divergence));
        }
        if at.fetch_offset > end {
            return answer(PulledContent::OutOfRange);
        }
        let Ok(may_enter_isr) = self.note_pull(now, puller, at) else {
            return Served::Refused;
        };
        self.follower_starts.insert(puller.broker, at.log_start);
        if at.fetch_offset == end {
            return Served::Nothing { may_enter_isr };
        }
        let read = self
            .log
            .read(at.fetch_offset, end, bytes_max, MinOneBatch::Yes);
        match read.map(|slice| slice.map(|slice| slice.read_to_bytes())) {
            Ok(Some(Ok(records))) => Served::Answer {
                content: PulledContent::Records(records),
                may_enter_isr,
            },
            Ok(None) => Served::Nothing { may_enter_isr },
            Ok(Some(Err(_))) | Err(_) => Served::Unreadable,
        }
    }

    /// Whether the follower's last batch is in the leader's log, and if not, where they part.
    fn divergence(&self, at: FollowerPosition) -> Option<Divergence> {
        if at.last_epoch == LeaderEpoch::NONE || mutated(Mutation::SkipTruncation) {
            return None;
        }
        let (epoch, end_offset) = self
            .log
            .end_offset_for_epoch(at.last_epoch)
            .unwrap_or((LeaderEpoch::NONE, Offset(0)));
        let diverges = epoch < at.last_epoch || end_offset < at.fetch_offset;
        diverges.then_some(Divergence { epoch, end_offset })
    }

    fn note_pull(
        &mut self,
        now: Time,
        puller: Puller,
        at: FollowerPosition,
    ) -> Result<bool, EpochError> {
        let ends = LeaderEnds {
            written: self.log.end_offset(),
            own: self.own_end(),
        };
        let progress =
            self.replica
                .handle_pull(now, puller, at.leader_epoch, at.fetch_offset, ends)?;
        self.moved |= progress.advanced;
        Ok(progress.may_enter_isr)
    }

    /// Follower: where to pull from, `None` when this replica follows nobody, or its log failed. Makes
    /// durable first what has to be before it is acknowledged.
    pub(crate) fn position_to_pull(&mut self, now: Timestamp) -> Option<FollowerPosition> {
        self.replica.followed_leader()?;
        if !mutated(Mutation::AcknowledgeUnsynced) {
            self.flush_pulled(now);
            if self.log.is_failed() {
                return None;
            }
        }
        Some(FollowerPosition {
            leader_epoch: self.replica.leader_epoch(),
            fetch_offset: self.log.end_offset(),
            last_epoch: self.last_epoch(),
            log_start: self.checkpointed_start(),
        })
    }

    /// Follower: takes over an answer of the leader.
    pub(crate) fn handle_pulled(
        &mut self,
        now: Timestamp,
        pulled: &PulledPartition,
    ) -> FollowerStep {
        if self.replica.handle_pulled(pulled.leader_epoch) == partition::Pulled::Stale {
            return FollowerStep::Retry;
        }
        let outcome = match &pulled.content {
            PulledContent::Records(records) => self.take_over(now, pulled, records),
            PulledContent::Diverging(divergence) => self.truncate(*divergence).and_then(|step| {
                let nothing_compared = self.log.end_offset() <= pulled.log_start;
                match nothing_compared {
                    true => self.start_over(pulled.log_start),
                    false => Ok(step),
                }
            }),
            PulledContent::OutOfRange => self.start_over(pulled.log_start),
            PulledContent::Refused => return FollowerStep::Retry,
        };
        match outcome {
            Ok(step) => step,
            Err(LogFailed::NoSpace) => FollowerStep::Retry,
            Err(LogFailed::Lasting) => FollowerStep::Failed,
        }
    }

    fn take_over(
        &mut self,
        now: Timestamp,
        pulled: &PulledPartition,
        records: &Bytes,
    ) -> Result<FollowerStep, LogFailed> {
        // Two pulls may name a partition before the first is answered.
        let end = self.log.end_offset();
        if let Some(Ok((first, _))) = batches(records).next()
            && Offset(first.base_offset) < end
        {
            let nothing_below = self.log.start_offset() == end || pulled.log_start >= end;
            if !nothing_below || first.next_offset() <= end.0 {
                return Ok(FollowerStep::Continue);
            }
            // The leader's log starts within a batch, which comes as a whole.
            self.start_over(Offset(first.base_offset))?;
        }
        if !records.is_empty() {
            self.log
                .append_as_follower(records, now)
                .map_err(append_failure)?;
            record_sequences(records, |batch, base_offset, timestamp| {
                self.replica.record_sequence(batch, base_offset, timestamp);
            });
        }
        let starts_later = pulled.log_start > self.log.start_offset();
        if starts_later {
            self.delete_before(pulled.log_start)?;
        }
        let end = self.log.end_offset();
        self.told = self.told.max(pulled.high_watermark);
        self.moved |= self
            .replica
            .handle_follower_append(pulled.high_watermark, end);
        Ok(if records.is_empty() && !starts_later {
            FollowerStep::Idle
        } else {
            FollowerStep::Continue
        })
    }

    /// Has the log start at `offset` or where it ends, if it starts earlier.
    pub(super) fn delete_before(&mut self, offset: Offset) -> Result<(), LogFailed> {
        let deleted = self.log.delete_before(offset.min(self.log.end_offset()));
        // A file that can't be removed is found below the log's start, and removed, at the next start.
        let _ = deleted.map_err(storage_failure)?.remove();
        Ok(())
    }

    fn truncate(&mut self, divergence: Divergence) -> Result<FollowerStep, LogFailed> {
        let end = self.log.end_offset();
        let local = self.log.end_offset_for_epoch(divergence.epoch);
        let local_end = local.map_or(Offset(0), |(_, end)| end);
        let start = self.log.start_offset();
        let to = truncation_offset(divergence, local_end.max(start), end).max(start);
        let cut = self.log.truncate_to(to);
        self.note_cut(cut, to)?;
        // A batch goes as a whole.
        let to = self.log.end_offset();
        self.replica.handle_truncation(to);
        self.replica.set_producers(read_producers(&self.log)?);
        self.verified = self.verified.min(to);
        self.told = self.told.min(to);
        Ok(FollowerStep::Truncated { from: end, to })
    }

    fn note_cut(&mut self, cut: Result<(), StorageError>, to: Offset) -> Result<(), LogFailed> {
        cut.map_err(|error| {
            self.cut_short_at = Some(to);
            storage_failure(error)
        })
    }

    fn start_over(&mut self, at: Offset) -> Result<FollowerStep, LogFailed> {
        let from = self.log.end_offset();
        self.start_log_at(at)?;
        self.replica.handle_truncation(at);
        self.replica.set_producers(Producers::default());
        self.told = self.told.min(at);
        Ok(FollowerStep::Truncated { from, to: at })
    }

    fn start_log_at(&mut self, at: Offset) -> Result<(), LogFailed> {
        let cut = self.log.truncate_fully_and_start_at(at);
        self.note_cut(cut, Offset(0))?;
        self.verified = self.verified.min(at);
        Ok(())
    }

    fn flush_pulled(&mut self, now: Timestamp) {
        if self.log.flush_due(now)
            && let Ok(synced) = self.log.sync_handle().sync()
        {
            self.log.synced(synced);
        }
    }
}

/// The local log did not do what was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogFailed {
    /// It is as it was, and may be tried again.
    NoSpace,
    Lasting,
}

fn append_failure(error: AppendError) -> LogFailed {
    match error {
        AppendError::Storage(error) => storage_failure(error),
        _ => LogFailed::Lasting,
    }
}

fn storage_failure(error: StorageError) -> LogFailed {
    match error {
        StorageError::NoSpace => LogFailed::NoSpace,
        StorageError::Failed | StorageError::Io(_) => LogFailed::Lasting,
    }
}

/// The sequences of a log's producers.
pub(crate) fn read_producers(log: &Log) -> Result<Producers, LogFailed> {
    let mut producers = Producers::default();
    let mut next = log.start_offset();
    while next < log.end_offset() {
        let read = log.read(next, log.end_offset(), usize::MAX, MinOneBatch::Yes);
        let Some(slice) = read.map_err(|_| LogFailed::Lasting)? else {
            break;
        };
        let records = slice.read_to_bytes().map_err(|_| LogFailed::Lasting)?;
        record_sequences(&records, |batch, base_offset, timestamp| {
            producers.record(batch, base_offset, timestamp);
        });
        for (header, _) in batches(&records).flatten() {
            next = Offset(header.next_offset());
        }
    }
    Ok(producers)
}

fn record_sequences(
    records: &[u8],
    mut record: impl FnMut(&partition::SequencedBatch, Offset, Timestamp),
) {
    for (header, _) in batches(records).flatten() {
        if let Some(batch) = sequence(&header) {
            record(
                &batch,
                Offset(header.base_offset),
                Timestamp(header.max_timestamp),
            );
        }
    }
}
