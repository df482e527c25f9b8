//! How far the broker has come: what `/readyz` says and the log repeats.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use broker_log::RecoveryProgress;
use serde::Serialize;
use tokio::sync::watch;

use crate::log_dirs::LogDirs;
use crate::partition::CleanerStatus;

/// Stage of a broker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Opens and recovers its logs.
    Recovering,
    /// Registers with the controller and catches up with the metadata.
    Joining,
    Serving,
    /// Gives its leaders away.
    Stopping,
}

/// Shared view of the broker's stage. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    phase: Arc<watch::Sender<Phase>>,
    recovery: Arc<RecoveryProgress>,
    log_dirs: Arc<OnceLock<Arc<LogDirs>>>,
    cleaner: Arc<OnceLock<Arc<CleanerStatus>>>,
}

/// What a health request is answered with.
#[derive(Debug, Serialize)]
pub struct Report {
    pub status: Phase,
    pub logs_opened: u64,
    pub logs_total: u64,
    pub recovered_bytes: u64,
    /// Log directories whose disk failed; the broker goes on with the others.
    pub offline_log_dirs: Vec<PathBuf>,
    /// False when the thread ended that compacts logs: restart the broker.
    pub log_cleaner_alive: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Recovering)),
            recovery: Arc::default(),
            log_dirs: Arc::default(),
            cleaner: Arc::default(),
        }
    }
}

impl Health {
    /// Counters for the recovery to write to.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryProgress {
        &self.recovery
    }

    /// Has the report name those of `log_dirs` that fail.
    pub fn watch_log_dirs(&self, log_dirs: &Arc<LogDirs>) {
        // Called once, when they are open.
        let _ = self.log_dirs.set(Arc::clone(log_dirs));
    }

    /// Has the report tell when the log cleaner ends.
    pub fn watch_cleaner(&self, cleaner: &Arc<CleanerStatus>) {
        // Called once, when it starts.
        let _ = self.cleaner.set(Arc::clone(cleaner));
    }

    /// Whether nothing ended that must run for as long as the process.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.cleaner.get().is_none_or(|cleaner| cleaner.is_alive())
    }

    /// Enters a stage.
    pub fn enter(&self, phase: Phase) {
        let before = self.phase.send_replace(phase);
        if before != phase {
            tracing::info!(from = ?before, to = ?phase, "broker");
        }
    }

    /// Serves clients.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            status: *self.phase.borrow(),
            logs_opened: self.recovery.logs_done.load(Ordering::Relaxed),
            logs_total: self.recovery.logs_total.load(Ordering::Relaxed),
            recovered_bytes: self.recovery.bytes_scanned.load(Ordering::Relaxed),
            offline_log_dirs: self
                .log_dirs
                .get()
                .map(|dirs| dirs.failed_paths())
                .unwrap_or_default(),
            log_cleaner_alive: self.is_healthy(),
        }
    }
}
