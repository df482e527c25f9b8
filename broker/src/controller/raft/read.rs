//! What a leader has to know before it answers from its own state.

use broker_core::BrokerId;
use broker_core::quorum::Role;
use openraft::ReadPolicy;

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
        let confirmed = self.raft().ensure_linearizable(ReadPolicy::ReadIndex).await;
        confirmed.map(|_| ()).map_err(|_| NotLeader)
    }

    /// Voters that do not answer, or lack more of the log than they would catch up with in a moment.
    /// A voter whose broker has another directory now is one of them, however alive that broker is.
    pub(crate) fn lagging_voters(&self) -> Vec<BrokerId> {
        let members = self.view().members.into_iter();
        members
            .filter(|member| member.role == Role::Voter)
            .filter(|voter| {
                !voter.reachable || voter.lag.is_none_or(|lag| lag > VOTER_LAG_ENTRIES_MAX)
            })
            .map(|voter| voter.key.id)
            .collect()
    }
}
