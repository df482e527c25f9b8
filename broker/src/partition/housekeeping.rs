//! What time brings for a partition: retention, recovery points, forgotten producers, closing.

use std::time::Duration;

use broker_core::Timestamp;
use broker_log::{DeletedSegments, StorageError};

use super::producers::Snapshot;
use super::{Partition, State};
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
    /// of the active one, and writes down the producers as they are there. Blocks.
    pub(super) fn checkpoint(&self) {
        let (handle, snapshot) = {
            let state = self.state.lock();
            if state.closed || state.log.recovery_point() >= state.log.active_segment_base() {
                return;
            }
            (state.log.checkpoint_handle(), state.producer_snapshot())
        };
        match handle.sync() {
            Ok(synced) => self.state.lock().log.synced(synced),
            // Its files went away with a move.
            Err(StorageError::Io(_)) if !self.state.lock().log.is_failed() => return,
            Err(error) => {
                tracing::error!(partition = %self, %error, "fsync failed");
                return;
            }
        }
        self.save_producers(snapshot);
    }

    /// Writes a snapshot of records that are durable by now. Without it the next start reads more of
    /// the log.
    fn save_producers(&self, snapshot: Snapshot) {
        let saved = snapshot.write().and_then(|pending| {
            pending.put(&self.state.lock().log)?;
            pending.retire_older()
        });
        if let Err(error) = saved {
            tracing::warn!(partition = %self, %error, "producer state not saved; it will be read from the log");
        }
    }

    /// Whether `flush.ms` asks for an fsync.
    pub(super) fn flush_is_overdue(&self) -> bool {
        let state = self.state.lock();
        !state.closed && state.log.flush_due(clock::timestamp())
    }

    /// Stops serving and makes everything durable. Blocks.
    pub(super) fn close(&self) -> Result<(), StorageError> {
        let (handle, snapshot) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.role_changed();
            (state.log.checkpoint_handle(), state.producer_snapshot())
        };
        let synced = handle.sync()?;
        self.state.lock().log.synced(synced);
        if !snapshot.is_superfluous() {
            self.save_producers(snapshot);
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

impl State {
    pub(super) fn producer_snapshot(&self) -> Snapshot {
        Snapshot::take(self.directory.fs(), &self.log, self.replica.producers())
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
