//! How often groups rebalanced, and why.

use std::collections::BTreeMap;

use broker_core::group::RebalanceReason;
use parking_lot::Mutex;

/// Rebalances that this broker started, by the kind of their reason.
#[derive(Debug, Default)]
pub struct Rebalances(Mutex<BTreeMap<&'static str, u64>>);

impl Rebalances {
    pub(super) fn note(&self, reason: &RebalanceReason) {
        *self.0.lock().entry(reason.kind()).or_default() += 1;
    }

    /// Each kind that there was, and how often.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock();
        counts.iter().map(|(kind, count)| (*kind, *count)).collect()
    }
}
