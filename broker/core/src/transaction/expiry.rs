//! What time brings: transactions that last too long, ids that nobody uses. At most [`RECORDS_MAX`] at a
//! time: their ids are pending until all of them are stored.

use alloc::vec::Vec;

use super::{State, TransactionMetadata, TransactionRecord, Transactions};
use crate::{Duration, Timestamp};

/// Records of one look; the next one finds the others.
pub const RECORDS_MAX: usize = 1_000;

impl Transactions {
    /// Records that abort the transactions whose time-out has passed, and fence their producers.
    #[must_use]
    pub fn timed_out(&self, now: Timestamp) -> Vec<TransactionRecord> {
        let entries = self.entries.iter().filter(|(_, entry)| {
            let metadata = &entry.metadata;
            metadata.state == State::Ongoing
                && !entry.pending
                && passed(now, metadata.started_at, metadata.timeout)
        });
        entries
            .map(|(id, entry)| self.fencing_abort(id, entry, now))
            .take(RECORDS_MAX)
            .collect()
    }

    /// Tombstones of the ids that were not used for `transactional.id.expiration.ms`.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<TransactionRecord> {
        let is_expired = |metadata: &TransactionMetadata| {
            metadata.state.is_idle() && passed(now, metadata.updated_at, self.config.id_expiration)
        };
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| !entry.pending && is_expired(&entry.metadata))
            .map(|(id, _)| TransactionRecord {
                id: id.clone(),
                value: None,
            })
            .take(RECORDS_MAX)
            .collect()
    }
}

fn passed(now: Timestamp, since: Timestamp, duration: Duration) -> bool {
    let elapsed_ms = u128::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
    elapsed_ms > duration.as_millis()
}
