//! DeleteRecords (KIP-107): the leader raises its log start offset, followers take it over with
//! their pulls, and their next pulls tell the leader how far they are.
//!
//! A log start offset counts once it is written down: then no restart, after whatever end of the
//! process, brings back what lies below.

use std::collections::BTreeMap;

use broker_core::partition::NotLeader;
use broker_core::{BrokerId, Offset};
use broker_log::Checkpoint;
use tokio::sync::futures::Notified;

use super::housekeeping::remove;
use super::{DeleteRecordsError, Partition};

/// Where followers' logs start, as their pulls in this leader epoch told. Others have not pulled.
#[derive(Debug, Default)]
pub(super) struct FollowerStarts(BTreeMap<BrokerId, Offset>);

impl FollowerStarts {
    /// Returns whether that is news.
    pub(super) fn note(&mut self, follower: BrokerId, start: Offset) -> bool {
        self.0.insert(follower, start) != Some(start)
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Partition {
    /// Leader: deletes the records below `before`, or below the high watermark when it is `None`.
    /// Returns where the log of every replica shall start; it starts there or later already when
    /// the records have gone before.
    ///
    /// # Errors
    /// [`DeleteRecordsError`]; nothing was deleted unless the storage failed.
    pub fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        let mut state = self.state.lock();
        if state.closed || !state.replica.is_leader() {
            return Err(NotLeader.into());
        }
        let high_watermark = state.replica.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if before.0 < 0 || before > high_watermark {
            return Err(DeleteRecordsError::OutOfRange {
                wanted: before,
                high_watermark,
            });
        }
        if before > state.log.start_offset() {
            let deleted = state.log.delete_before(before)?;
            // The next answer to every follower has the new start.
            state.wakers.high_watermark_moved();
            remove(deleted);
        }
        Ok(before)
    }

    /// Leader: the lowest log start offset that is written down among this replica and the followers
    /// of `live`, -1 while one of them has not pulled.
    ///
    /// # Errors
    /// [`NotLeader`].
    pub fn low_watermark(&self, live: &[BrokerId]) -> Result<Offset, NotLeader> {
        let state = self.state.lock();
        if state.closed || !state.replica.is_leader() {
            return Err(NotLeader);
        }
        let start = |id| state.follower_starts.0.get(id).copied();
        let followers = live.iter().map(|id| start(id).unwrap_or(Offset(-1)));
        let own = state.log.checkpointed_start();
        Ok(followers.fold(own, Offset::min))
    }

    /// Whether the log starts later than is written down.
    #[must_use]
    pub fn log_start_is_due(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.log.start_offset() > state.log.checkpointed_start()
    }

    /// The checkpoint files hold `checkpoint`.
    pub(super) fn checkpointed(&self, checkpoint: Checkpoint) {
        self.state.lock().log.checkpointed(checkpoint);
        self.low_watermark_moved.notify_waiters();
    }

    /// Ready once [`Partition::low_watermark`] may have another answer than at this call.
    pub fn low_watermark_moved(&self) -> Notified<'_> {
        self.low_watermark_moved.notified()
    }
}
