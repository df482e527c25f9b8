//! What time brings for a partition: retention, recovery points, forgotten producers, closing.

use std::time::Duration;

use broker_core::Timestamp;
use broker_log::{DeletedSegments, StorageError};

use super::{Partition, producers};
use crate::clock;

impl Partition {
    /// Deletes old segments. Blocks.
    pub(super) fn apply_retention(&self) {
        let deleted = {
            let mut state = self.state.lock();
            let upto = state.replica.high_watermark();
            if state.closed {
                return;
            }
            state.log.apply_retention(clock::timestamp(), upto)
        };
        match deleted {
            Ok(deleted) => {
                for segment in deleted.segments() {
                    tracing::info!(
                        partition = %self, base_offset = %segment.base_offset,
                        bytes = segment.size_bytes, reason = ?segment.reason, "segment deleted"
                    );
                }
                remove_now(deleted);
            }
            Err(error) => tracing::error!(partition = %self, %error, "retention failed"),
        }
    }

    /// Forgets producers that were silent for `expiration`.
    pub(super) fn expire_producers(&self, expiration: Duration) {
        let age = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(clock::timestamp().0.saturating_sub(age));
        self.state.lock().replica.expire_producers(before);
    }

    /// Advances the recovery point past closed segments, so that a crash costs no more than a scan
    /// of the active one. Blocks.
    pub(super) fn checkpoint(&self) {
        let handle = {
            let state = self.state.lock();
            if state.closed || state.log.recovery_point() >= state.log.active_segment_base() {
                return;
            }
            state.log.checkpoint_handle()
        };
        match handle.sync() {
            Ok(synced) => self.state.lock().log.synced(synced),
            Err(error) => tracing::error!(partition = %self, %error, "fsync failed"),
        }
    }

    /// Whether `flush.ms` asks for an fsync.
    pub(super) fn flush_is_overdue(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.log.flush_due(clock::timestamp())
    }

    /// Stops serving and makes everything durable. Blocks.
    pub(super) fn close(&self) -> Result<(), StorageError> {
        let (handle, snapshot, dir) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.role_changed();
            let end = state.log.end_offset();
            let snapshot = (state.replica.producers().clone(), end);
            (
                state.log.checkpoint_handle(),
                snapshot,
                state.log.dir().to_owned(),
            )
        };
        let synced = handle.sync()?;
        self.state.lock().log.synced(synced);
        if let Err(error) = producers::save(&dir, &snapshot.0, snapshot.1) {
            tracing::warn!(partition = %self, %error, "producer state not saved; it will be read from the log");
        }
        Ok(())
    }

    /// Stops serving; what is in the log no longer matters.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.role_changed();
    }
}

/// Removes files of deleted segments off the request's path.
pub(super) fn remove(deleted: DeletedSegments) {
    if !deleted.segments().is_empty() {
        tokio::task::spawn_blocking(move || remove_now(deleted));
    }
}

fn remove_now(deleted: DeletedSegments) {
    if let Err(error) = deleted.remove() {
        tracing::warn!(%error, "files of deleted segments stay until the next start");
    }
}
