//! Warnings that peers can cause at any rate, written at most once a second.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

const INTERVAL_MS: u64 = 1000;

/// Lets one warning through per interval and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// Time of the next warning.
    due_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Warnings {
    /// `Some` with the number of warnings suppressed since the last one, if this one may be
    /// written.
    pub(crate) fn admit(&self) -> Option<u64> {
        let now = clock::now().0;
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now + INTERVAL_MS;
        let admitted = now >= due
            && self
                .due_ms
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if admitted {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}
