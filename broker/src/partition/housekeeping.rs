//! What time brings for partitions: retention, recovery points, forgotten producers, closing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker_core::Timestamp;
use broker_log::{DeletedSegments, StorageError};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::producers::Snapshot;
use super::{Partition, PartitionManager, State};
use crate::clock;
use crate::log_dirs::Directory;

/// Time between looks for logs that `flush.ms` wants flushed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Threads that close logs when the broker stops.
const CLOSING_THREADS_MAX: usize = 16;

impl PartitionManager {
    /// Applies retention, checkpoints and `flush.ms` for as long as the broker runs.
    pub async fn keep_house(self: Arc<Self>) {
        let config = self.config();
        let mut flush = ticker(FLUSH_INTERVAL);
        let mut checkpoint = ticker(config.millis("replica.high.watermark.checkpoint.interval.ms"));
        let mut retention = ticker(config.millis("log.retention.check.interval.ms"));
        let expiration = config.millis("producer.id.expiration.ms");
        loop {
            tokio::select! {
                _ = flush.tick() => {
                    let partitions = self.all();
                    for partition in partitions.iter().filter(|p| p.flush_is_overdue()) {
                        partition.start_flush();
                    }
                    let bytes = partitions.iter().map(|p| p.size_bytes()).sum();
                    self.shared.hosted_bytes.store(bytes, Ordering::Relaxed);
                }
                _ = checkpoint.tick() => {
                    self.in_background(|manager| manager.checkpoint()).await;
                }
                _ = retention.tick() => {
                    self.in_background(move |manager| {
                        for partition in manager.all() {
                            partition.apply_retention();
                            partition.expire_producers(expiration);
                        }
                    }).await;
                }
            }
        }
    }

    async fn in_background(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let manager = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || work(&manager)).await {
            tracing::error!(%error, "background work ended abnormally");
        }
    }

    fn checkpoint(&self) {
        let partitions = self.all();
        for partition in &partitions {
            partition.checkpoint();
        }
        self.storage.lock().write_checkpoints(&partitions);
    }

    /// Writes down at once what the next start needs to know, as after log start offsets were raised
    /// on request: what was deleted must not come back. Blocks.
    pub fn checkpoint_log_starts(&self) {
        self.storage.lock().write_checkpoints(&self.all());
    }

    /// Closes all logs so that the next start needs no recovery. Blocks.
    pub fn close(&self) {
        let partitions: Vec<_> = self.partitions.write().drain().map(|(_, p)| p).collect();
        let unclean = close_all(&partitions);
        self.storage.lock().close(&partitions, &unclean);
    }
}

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
        let mut state = self.state.lock();
        state.replica.expire_producers(clock::now(), before);
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

/// Closes partitions; returns the directories of those that did not close cleanly. Syncs that wait for
/// the disk together cost little more than one.
fn close_all(partitions: &[Arc<Partition>]) -> Vec<Arc<Directory>> {
    let unclean = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for share in partitions.chunks(partitions.len().div_ceil(CLOSING_THREADS_MAX).max(1)) {
            let unclean = &unclean;
            scope.spawn(move || {
                for partition in share {
                    if let Err(error) = partition.close() {
                        tracing::error!(%partition, %error, "log not closed cleanly");
                        unclean.lock().push(partition.directory());
                    }
                }
            });
        }
    });
    unclean.into_inner()
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
