//! The log cleaner: a thread that compacts one log after the other, the dirtiest first.
//!
//! A log that can't be compacted is left alone for a while and counted. If the thread itself ends, the
//! broker is no longer healthy: logs would grow without end, unnoticed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker_core::{Timestamp, TopicPartition};
use broker_log::{Compaction, CompactionError, Pace, ReplaceError, Stopped, StorageError};
use parking_lot::Mutex;
use thiserror::Error;

use super::{Partition, PartitionManager, producers};
use crate::clock;
use crate::config::BrokerConfig;

/// How long a log that can't be compacted is left alone.
const UNCLEANABLE_RETRY: Duration = Duration::from_secs(3600);
/// Bytes between two looks at the clock and at whether the log is still open.
const PACE_BYTES: u64 = 1 << 20;
/// Longest sleep between two looks.
const PACE_SLEEP_MAX: Duration = Duration::from_millis(500);

/// What the cleaner has done, for health and metrics.
#[derive(Debug, Default)]
pub struct CleanerStatus {
    dead: AtomicBool,
    pub(crate) passes: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_removed: AtomicU64,
    /// Logs that could not be compacted and are left alone.
    pub(crate) uncleanable: AtomicUsize,
    /// Largest share of a compacted log that was not compacted yet, in parts per million.
    pub(crate) dirty_ppm_max: AtomicU64,
}

impl CleanerStatus {
    /// Whether logs are compacted, or will be.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }
}

/// A log was not compacted.
#[derive(Debug, Error)]
pub(super) enum CleanError {
    #[error(transparent)]
    Pass(#[from] CompactionError),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("can't remove the snapshots of producers: {0}")]
    Snapshots(#[source] io::Error),
}

impl CleanError {
    /// Whether the log may be fine, and is to be tried again soon.
    const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Pass(CompactionError::Stopped(_) | CompactionError::NoSpace)
                | Self::Replace(ReplaceError::Superseded)
        )
    }
}

/// The thread's settings and what it knows.
pub(super) struct Cleaner {
    manager: Arc<PartitionManager>,
    status: Arc<CleanerStatus>,
    backoff: Duration,
    map_bytes_max: usize,
    bytes_per_second: u64,
    uncleanable: Mutex<BTreeMap<TopicPartition, Instant>>,
}

/// Tells when the thread ends, which it must not.
struct Alarm(Arc<CleanerStatus>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.dead.store(true, Ordering::Release);
        tracing::error!("the log cleaner ended; compacted logs grow until the broker is restarted");
    }
}

impl Cleaner {
    pub(super) fn new(manager: Arc<PartitionManager>, config: &BrokerConfig) -> Self {
        let number = |name| u64::try_from(config.number(name)).unwrap_or(u64::MAX);
        Self {
            status: Arc::clone(manager.cleaner_status()),
            manager,
            backoff: config.millis("log.cleaner.backoff.ms"),
            map_bytes_max: config.size("log.cleaner.dedupe.buffer.size"),
            bytes_per_second: number("log.cleaner.io.max.bytes.per.second"),
            uncleanable: Mutex::default(),
        }
    }

    /// Compacts for as long as the process runs.
    pub(super) fn run(self) {
        let _alarm = Alarm(Arc::clone(&self.status));
        loop {
            let cleaned = self
                .dirtiest()
                .is_some_and(|partition| self.clean(&partition));
            if !cleaned {
                std::thread::sleep(self.backoff.max(PACE_SLEEP_MAX));
            }
        }
    }

    /// The log to be compacted next.
    fn dirtiest(&self) -> Option<Arc<Partition>> {
        let now = clock::timestamp();
        let mut uncleanable = self.uncleanable.lock();
        uncleanable.retain(|_, since| since.elapsed() < UNCLEANABLE_RETRY);
        self.status
            .uncleanable
            .store(uncleanable.len(), Ordering::Relaxed);
        let (mut dirty_ppm_max, mut next) = (0, None);
        for partition in self.manager.all() {
            let Some((dirty_ppm, due)) = partition.compaction_backlog(now) else {
                continue;
            };
            dirty_ppm_max = dirty_ppm_max.max(dirty_ppm);
            let is_next = next.as_ref().is_none_or(|(most, _)| dirty_ppm > *most);
            if due && is_next && !uncleanable.contains_key(&partition.id()) {
                next = Some((dirty_ppm, partition));
            }
        }
        self.status
            .dirty_ppm_max
            .store(dirty_ppm_max.into(), Ordering::Relaxed);
        next.map(|(_, partition)| partition)
    }

    /// Makes one pass. Whether there may be more to do at once.
    fn clean(&self, partition: &Partition) -> bool {
        let started = Instant::now();
        let mut pace = Pacer::new(partition, self.bytes_per_second);
        let error = match partition.compact(self.map_bytes_max, &mut pace) {
            Ok(None) => return false,
            Ok(Some(pass)) => {
                self.note_pass(partition, &pass, started);
                return true;
            }
            Err(error) => error,
        };
        if partition.is_closed() {
            tracing::debug!(%partition, %error, "compaction ended with its log");
        } else if error.is_passing() {
            tracing::warn!(%partition, %error, "log not compacted; it will be tried again");
        } else {
            tracing::error!(%partition, %error, "log can't be compacted");
            self.uncleanable
                .lock()
                .insert(partition.id(), Instant::now());
        }
        false
    }

    fn note_pass(&self, partition: &Partition, pass: &Compaction, started: Instant) {
        let report = pass.report();
        let removed = report.bytes_before.saturating_sub(report.bytes_after);
        let status = &self.status;
        status.passes.fetch_add(1, Ordering::Relaxed);
        status
            .bytes_read
            .fetch_add(report.bytes_before, Ordering::Relaxed);
        status.bytes_removed.fetch_add(removed, Ordering::Relaxed);
        tracing::info!(
            %partition, upto = %pass.compacted_upto(), keys = report.keys,
            segments = report.segments_before, bytes = report.bytes_before,
            segments_after = report.segments_after, bytes_after = report.bytes_after,
            elapsed_ms = started.elapsed().as_millis(), "log compacted"
        );
    }
}

impl Partition {
    /// How dirty a compacted log is, and whether it is due.
    fn compaction_backlog(&self, now: Timestamp) -> Option<(u32, bool)> {
        let state = self.state.lock();
        if state.closed || state.log.is_failed() {
            return None;
        }
        let config = state.log.config().compaction?;
        let upto = state.last_stable_offset();
        let backlog = state.log.compaction_backlog(now, upto)?;
        Some((backlog.dirty_ppm(), backlog.is_due(&config)))
    }

    /// Makes one pass over the log, if it is due. Blocks.
    pub(super) fn compact(
        &self,
        map_bytes_max: usize,
        pace: &mut dyn Pace,
    ) -> Result<Option<Compaction>, CleanError> {
        let (mut pass, truncations) = {
            let state = self.state.lock();
            let upto = state.last_stable_offset();
            let Some(mut pass) = state.log.begin_compaction(clock::timestamp(), upto) else {
                return Ok(None);
            };
            let last = state.replica.producers().last_batches();
            pass.keep_producers(last.map(|(id, end)| (id.0, end)));
            (pass, state.log.truncations())
        };
        let Err(error) = self.finish_pass(&mut pass, map_bytes_max, pace) else {
            return Ok(Some(pass));
        };
        let mut state = self.state.lock();
        if state.log.truncations() != truncations {
            // What was cut off under the pass looks like damage.
            return Err(ReplaceError::Superseded.into());
        }
        if let CleanError::Pass(damage @ CompactionError::Damaged { .. }) = &error {
            state.note_damage(self, damage);
        }
        Err(error)
    }

    fn finish_pass(
        &self,
        pass: &mut Compaction,
        map_bytes_max: usize,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        pass.read_keys(map_bytes_max, pace)?;
        while let Some(cleaned) = pass.next_group(pace)? {
            let replaced = {
                let mut state = self.state.lock();
                if state.closed {
                    return Err(CompactionError::Stopped(Stopped).into());
                }
                if cleaned.drops_markers() {
                    let (fs, upto) = (state.directory.fs(), pass.compacted_upto());
                    producers::discard_below(&**fs, &state.log, upto)
                        .map_err(CleanError::Snapshots)?;
                }
                state.log.replace(cleaned)?
            };
            replaced.finish()?;
        }
        self.state.lock().log.compacted(pass);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// Keeps to a rate, and ends the pass when the log is closed.
struct Pacer<'a> {
    partition: &'a Partition,
    bytes_per_second: u64,
    started: Instant,
    spent: u64,
    unseen: u64,
}

impl<'a> Pacer<'a> {
    fn new(partition: &'a Partition, bytes_per_second: u64) -> Self {
        Self {
            partition,
            bytes_per_second,
            started: Instant::now(),
            spent: 0,
            unseen: 0,
        }
    }

    /// How much too early it is.
    fn ahead(&self) -> Duration {
        let due = self.spent as f64 / self.bytes_per_second as f64;
        Duration::from_secs_f64(due).saturating_sub(self.started.elapsed())
    }
}

impl Pace for Pacer<'_> {
    fn spend(&mut self, bytes: usize) -> Result<(), Stopped> {
        self.spent += bytes as u64;
        self.unseen += bytes as u64;
        if self.unseen < PACE_BYTES.min(self.bytes_per_second / 4) {
            return Ok(());
        }
        self.unseen = 0;
        loop {
            if self.partition.is_closed() {
                return Err(Stopped);
            }
            let ahead = self.ahead();
            if ahead.is_zero() {
                return Ok(());
            }
            std::thread::sleep(ahead.min(PACE_SLEEP_MAX));
        }
    }
}
