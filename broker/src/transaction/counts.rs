//! How many transactions began, and how they ended.

use std::sync::atomic::{AtomicU64, Ordering};

use broker_core::transaction::{State, TransactionRecord};

/// What happened to the transactions that this broker coordinates, since it started.
#[derive(Debug, Default)]
pub struct TransactionCounts {
    started: AtomicU64,
    committed: AtomicU64,
    aborted: AtomicU64,
    timed_out: AtomicU64,
    fenced: AtomicU64,
}

impl TransactionCounts {
    /// A record was stored for an id that was in state `before`, if it was known.
    pub(super) fn note_stored(&self, before: Option<State>, record: &TransactionRecord) {
        let after = record.value.as_ref().map(|metadata| metadata.state);
        let counter = match after {
            Some(State::Ongoing) if before != after => &self.started,
            Some(State::CompleteCommit) => &self.committed,
            Some(State::CompleteAbort) => &self.aborted,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_timed_out(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    /// A producer was told that a newer one has taken its place.
    pub(super) fn note_fenced(&self) {
        self.fenced.fetch_add(1, Ordering::Relaxed);
    }

    /// Each kind of event, and how often it was.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 5] {
        [
            ("started", &self.started),
            ("committed", &self.committed),
            ("aborted", &self.aborted),
            ("timed_out", &self.timed_out),
            ("fenced", &self.fenced),
        ]
        .map(|(kind, count)| (kind, count.load(Ordering::Relaxed)))
    }
}
