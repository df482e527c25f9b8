//! How one directory is: usable or failed, and how long its disk takes.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use broker_core::slow_disk::DiskWindow;

use super::failures::Failures;
use super::watched_fs::Operation;
use crate::clock;

/// What a healthy disk syncs in a millisecond at least: a sync of much data is not slow.
const SYNC_BYTES_PER_MS: u64 = 20_000;

/// Shared by everything that works in the directory.
pub(crate) struct Condition {
    path: PathBuf,
    failures: Arc<Failures>,
    failure: OnceLock<String>,
    /// Zero: latencies don't matter.
    slow_ms: u64,
    slow: AtomicBool,
    activity: Activity,
}

/// Writes and syncs since the last look.
#[derive(Default)]
struct Activity {
    operations: AtomicU32,
    slow_operations: AtomicU32,
    longest_ms: AtomicU64,
    under_way: AtomicU32,
    /// When the last one ended, or began while no other was under way.
    last_progress_ms: AtomicU64,
}

/// When an operation began.
pub(super) struct Timed(u64);

impl Condition {
    pub(super) fn new(path: PathBuf, failures: Arc<Failures>, slow_ms: u64) -> Self {
        Self {
            path,
            failures,
            failure: OnceLock::new(),
            slow_ms,
            slow: AtomicBool::new(false),
            activity: Activity::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory takes part no more.
    pub(crate) fn is_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// What the directory failed with.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Takes the directory out of use until the broker restarts.
    pub(crate) fn fail(&self, error: &dyn Display) {
        if self.failure.set(error.to_string()).is_ok() {
            tracing::error!(
                dir = %self.path.display(), %error,
                "log directory failed; its replicas are offline until the disk is repaired or replaced and the broker restarted"
            );
            self.failures.note();
        }
    }

    /// Whether the disk is so slow that replicas on it should not lead.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Refuses everything after a failure.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(failure) => Err(io::Error::other(format!(
                "the log directory failed earlier: {failure}"
            ))),
        }
    }

    /// Hands on how an operation ended, and draws the consequence.
    pub(super) fn note<T>(&self, kind: Operation, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && kind.is_fatal(error)
        {
            self.fail(error);
        }
        done
    }

    pub(super) fn begin(&self) -> Timed {
        let now = clock::now().0;
        if self.activity.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            self.activity.last_progress_ms.store(now, Ordering::Relaxed);
        }
        Timed(now)
    }

    /// `synced_bytes`: what the operation had to bring to the disk.
    pub(super) fn end(&self, began: Timed, synced_bytes: u64) {
        let now = clock::now().0;
        let activity = &self.activity;
        activity.last_progress_ms.store(now, Ordering::Relaxed);
        activity.under_way.fetch_sub(1, Ordering::Relaxed);
        activity.operations.fetch_add(1, Ordering::Relaxed);
        let took_ms = now.saturating_sub(began.0);
        activity.longest_ms.fetch_max(took_ms, Ordering::Relaxed);
        if self.slow_ms > 0 && took_ms >= self.slow_ms + synced_bytes / SYNC_BYTES_PER_MS {
            activity.slow_operations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Activity since the last call.
    pub(crate) fn take_window(&self) -> DiskWindow {
        let activity = &self.activity;
        let last_progress_ms = activity.last_progress_ms.load(Ordering::Relaxed);
        let idle = activity.under_way.load(Ordering::Relaxed) == 0;
        let waiting_ms = clock::now().0.saturating_sub(last_progress_ms);
        DiskWindow {
            operations: activity.operations.swap(0, Ordering::Relaxed),
            slow_operations: activity.slow_operations.swap(0, Ordering::Relaxed),
            longest: Duration::from_millis(activity.longest_ms.swap(0, Ordering::Relaxed)),
            stalled: if idle {
                Duration::ZERO
            } else {
                Duration::from_millis(waiting_ms)
            },
        }
    }
}
