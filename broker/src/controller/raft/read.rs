//! What a leader has to know before it answers from its own state.

use broker_core::BrokerId;
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::quorum::Quorum;

/// A voter this many entries behind could not take over at once.
const VOTER_LAG_ENTRIES_MAX: u64 = 100;

/// This voter does not lead, or no majority has answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotLeader;

impl Quorum {
    /// Returns once a majority has confirmed that this voter leads, and everything that was
    /// committed before the call is applied here.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), NotLeader> {
        let confirmed = self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        confirmed.map(|_| ()).map_err(|_| NotLeader)
    }

    /// Voters that lack more of the log than they would catch up with in a moment; empty on a voter
    /// that does not lead.
    pub(crate) fn lagging_voters(&self) -> Vec<BrokerId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else {
            return Vec::new();
        };
        let end = metrics.last_log_index.map_or(0, |last| last + 1);
        let lag = |id: u64| {
            let matched = replication.get(&id).copied().flatten();
            end - matched.map_or(0, |log_id| log_id.index + 1).min(end)
        };
        let others = metrics
            .membership_config
            .voter_ids()
            .filter(|id| *id != metrics.id);
        others
            .filter(|id| lag(*id) > VOTER_LAG_ENTRIES_MAX)
            .filter_map(|id| i32::try_from(id).ok().map(BrokerId))
            .collect()
    }
}
