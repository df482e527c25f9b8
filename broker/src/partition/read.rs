//! Consumers' path through a partition.

use std::sync::Arc;

use broker_core::{LeaderEpoch, Offset, Timestamp};
use broker_log::{AbortedTransaction, LogSlice, MinOneBatch};

use super::{FetchWaker, Partition, ReadError};

/// Memory for looking into one compressed batch.
const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A piece of the log for a consumer, with the offsets that go into its answer.
pub struct Fetched {
    /// `None`: nothing new.
    pub records: Option<LogSlice>,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    /// Transactions whose records among these are to be skipped. None for a reader of all records.
    pub aborted: Vec<AbortedTransaction>,
    /// False while a new leader has yet to learn how far its predecessor's high watermark was:
    /// finding nothing does not mean that there is nothing (KIP-207).
    pub end_is_known: bool,
    pub log_start: Offset,
}

/// Which records a consumer sees (`isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All that are replicated, also of transactions that may be aborted.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// What `ListOffsets` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    Earliest,
    Latest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record at or after it.
    At(Timestamp),
}

/// An offset with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    /// -1 where the query has none.
    pub timestamp: Timestamp,
    pub epoch: LeaderEpoch,
}

impl Partition {
    /// Reads replicated records from `from`, as `isolation` allows.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        from: Offset,
        epoch: Option<LeaderEpoch>,
        isolation: Isolation,
        bytes_max: usize,
        min_one: MinOneBatch,
    ) -> Result<Fetched, ReadError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        self.check_lease()?;
        state.replica.check_leader_epoch(epoch)?;
        let high_watermark = state.replica.high_watermark();
        let (start, end) = (state.log.start_offset(), state.log.end_offset());
        if from < start || from > end {
            self.check_confirmed()?;
            return Err(ReadError::OutOfRange {
                wanted: from,
                start,
                end,
            });
        }
        let last_stable_offset = state.last_stable_offset();
        let upto = match isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => last_stable_offset,
        };
        let records = if from < upto {
            let read = state.log.read(from, upto, bytes_max, min_one);
            state.checked(self, read)?
        } else {
            None
        };
        let aborted = match (&records, isolation) {
            (Some(records), Isolation::ReadCommitted) => {
                state.log.aborted_within(from, records, upto)?
            }
            _ => Vec::new(),
        };
        let mut fetched = Fetched {
            records,
            high_watermark,
            last_stable_offset,
            aborted,
            end_is_known: state.replica.high_watermark_is_current()?,
            log_start: start,
        };
        let damaged = state.damaged;
        drop(state);
        if damaged {
            let verified = fetched.records.map(|slice| slice.verified());
            fetched.records = verified.transpose()?;
        }
        Ok(fetched)
    }

    /// Has `waker` woken once at the next progress.
    pub fn wake_at_progress(&self, waker: &Arc<FetchWaker>) {
        self.state.lock().wakers.add_fetch(waker);
    }

    /// Looks an offset up. `None`: no record is that young.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find_offset(
        &self,
        query: OffsetQuery,
        epoch: Option<LeaderEpoch>,
        isolation: Isolation,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let (batch, start) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(ReadError::Closed);
            }
            self.check_lease()?;
            state.replica.check_leader_epoch(epoch)?;
            let start = state.log.start_offset();
            if query == OffsetQuery::Earliest {
                let current = state.replica.leader_epoch();
                let epoch = state.log.epochs().epoch_of(start).unwrap_or(current);
                return Ok(Some(untimed(start, epoch)));
            }
            if !state.replica.high_watermark_is_current()? {
                return Err(ReadError::OffsetNotAvailable);
            }
            let upto = match isolation {
                Isolation::ReadUncommitted => state.replica.high_watermark(),
                Isolation::ReadCommitted => state.last_stable_offset(),
            };
            let found = match query {
                OffsetQuery::Earliest | OffsetQuery::Latest => {
                    return Ok(Some(untimed(upto, state.replica.leader_epoch())));
                }
                OffsetQuery::MaxTimestamp => state.log.batch_of_max_timestamp(upto),
                OffsetQuery::At(timestamp) => state.log.batch_for_timestamp(timestamp, upto),
            };
            (state.checked(self, found)?, start)
        };
        let Some(batch) = batch else { return Ok(None) };
        let found = match query {
            OffsetQuery::At(timestamp) => {
                batch.first_at_or_after(timestamp, start, DECOMPRESSED_BYTES_MAX)?
            }
            _ => batch.max_timestamp(DECOMPRESSED_BYTES_MAX)?,
        };
        Ok(found.map(|found| FoundOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            epoch: found.epoch,
        }))
    }

    /// Where the largest epoch at or below `wanted` ends (KIP-320).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn epoch_end(
        &self,
        current: Option<LeaderEpoch>,
        wanted: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        let state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        self.check_lease()?;
        state.replica.check_leader_epoch(current)?;
        Ok(state.log.end_offset_for_epoch(wanted))
    }
}

const fn untimed(offset: Offset, epoch: LeaderEpoch) -> FoundOffset {
    FoundOffset {
        offset,
        timestamp: Timestamp(-1),
        epoch,
    }
}
