//! Changes of the quorum's members, one voter at a time, and what their leader knows of them.
//!
//! A change is one entry of the log, based on the membership entry before it: of two leaders' changes
//! at most one is committed, and there is no joint membership to be left in.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::quorum::{
    Member, QuorumChange, QuorumPlan, QuorumRefusal, QuorumView, Role, VoterKey,
};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{BasicNode, EntryPayload, Instant as _, RaftMetrics};
use tokio::time::timeout;

use super::quorum::Quorum;
use super::types::{LogId, Membership, NodeId, TypeConfig};

/// Why a change was not (or not known to be) committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("this broker does not lead the quorum")]
    NotLeader,
    #[error("leadership was lost before the change was committed")]
    OutcomeUnknown,
    #[error(transparent)]
    Refused(#[from] QuorumRefusal),
}

/// How far a member is, as its leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    pub(crate) address: String,
    /// Offset after its last entry.
    pub(crate) log_end: Option<u64>,
    pub(crate) last_answer_age_ms: Option<u64>,
    pub(crate) last_caught_up_age_ms: Option<u64>,
}

/// The quorum, as its leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct QuorumStatus {
    pub(crate) term: u64,
    /// Entries below it are committed.
    pub(crate) high_watermark: u64,
    pub(crate) members: Vec<Progress>,
}

impl Quorum {
    /// Decides and commits one change; `addresses` says where a new learner is. Returns when the
    /// change is done, also a transfer; [`ChangeError::NotLeader`] when the next leader has to go
    /// on.
    pub(crate) async fn change(
        &self,
        change: QuorumChange,
        address: impl FnOnce(VoterKey) -> Option<String>,
    ) -> Result<(), ChangeError> {
        let _one_at_a_time = self
            .changing
            .try_lock()
            .map_err(|_| QuorumRefusal::ChangeInProgress)?;
        let leading = *self.leadership().borrow();
        if leading.leader != Some(self.me()) {
            return Err(ChangeError::NotLeader);
        }
        let plan = self.view().plan(&change)?;
        let edit = match plan {
            QuorumPlan::Nothing => return Ok(()),
            QuorumPlan::Transfer(to) => {
                self.transfer(to).await?;
                return match change {
                    QuorumChange::TransferLeadership(_) => Ok(()),
                    _ => Err(ChangeError::NotLeader),
                };
            }
            QuorumPlan::Add(key) => {
                let address = address(key).ok_or(QuorumRefusal::UnknownBroker(key.id))?;
                Edit::Add(key.into(), BasicNode::new(address))
            }
            QuorumPlan::Promote(key) => Edit::Promote(key.into()),
            QuorumPlan::Remove(key) => Edit::Remove(key.into()),
        };
        let mut leadership = self.leadership();
        tokio::select! {
            biased;
            result = self.commit(edit) => result,
            () = leading.ended(&mut leadership) => Err(ChangeError::OutcomeUnknown),
        }
    }

    async fn commit(&self, edit: Edit) -> Result<(), ChangeError> {
        let (membership, based_on) = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow_watched();
            let stored = &metrics.membership_config;
            (edit.apply(stored.membership())?, *stored.log_id())
        };
        tracing::info!(%membership, "changing the metadata quorum");
        let precondition = Precondition::LastMembershipLogId {
            last_membership_log_id: based_on,
        };
        let changed = self
            .raft()
            .append_membership(membership, EntryPayload::Blank, [precondition])
            .await;
        match changed {
            Ok(changed) => {
                self.know_membership(changed.log_id).await;
                Ok(())
            }
            // A leader that has committed nothing in its term yet is about to; try again.
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(_)
                | ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::UncommittedLeaderLog(_),
                ),
            )) => Err(ChangeError::NotLeader),
            Err(RaftError::APIError(
                ClientWriteError::PreconditionFailed(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)),
            )) => Err(QuorumRefusal::ChangeInProgress.into()),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Err(QuorumRefusal::Malformed(error.to_string()).into())
            }
            Err(_) => Err(ChangeError::OutcomeUnknown),
        }
    }

    /// The next change is planned on what is known here, which may come after the answer to this one.
    async fn know_membership(&self, at: LogId) {
        let is_known = |metrics: &RaftMetrics<TypeConfig>| {
            let known = *metrics.membership_config.log_id();
            known >= Some(at)
        };
        let wait = self.raft().wait(Some(self.election_timeout()));
        if let Err(error) = wait.metrics(is_known, "the new membership").await {
            tracing::debug!(%error, "a change of the quorum is not known here yet");
        }
    }

    /// Lets `to` lead, and waits for it as long as two elections may take.
    pub(crate) async fn transfer(&self, to: VoterKey) -> Result<(), ChangeError> {
        let mut leadership = self.leadership();
        let leading = *leadership.borrow();
        let asked = self.raft().trigger().transfer_leader(to.into()).await;
        asked.map_err(|_| ChangeError::NotLeader)?;
        tracing::info!(successor = %to, "handing over the metadata quorum");
        let ended = leading.ended(&mut leadership);
        match timeout(self.election_timeout() * 2, ended).await {
            Ok(()) => Ok(()),
            Err(_) => Err(QuorumRefusal::NoSuccessor.into()),
        }
    }

    /// The members in the eyes of this voter, which means little unless it leads.
    pub(crate) fn view(&self) -> QuorumView {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.nodes();
        QuorumView {
            leader: self.me(),
            members: members
                .map(|(id, node)| self.progress(&metrics, *id, node).member)
                .collect(),
        }
    }

    /// How far every member is; `None` unless this voter leads.
    pub(crate) fn status(&self) -> Option<QuorumStatus> {
        let leading = *self.leadership().borrow();
        leading.leader.filter(|leader| *leader == self.me())?;
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.nodes();
        Some(QuorumStatus {
            term: leading.term,
            high_watermark: metrics
                .local_committed
                .map_or(0, |position| position.index + 1),
            members: members
                .map(|(id, node)| self.progress(&metrics, *id, node))
                .collect(),
        })
    }

    fn progress(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        id: NodeId,
        node: &BasicNode,
    ) -> Progress {
        let is_me = id == metrics.id;
        let end = |index: Option<u64>| index.map_or(0, |index| index + 1);
        let leader_end = end(metrics.last_log_index);
        let matched = metrics.replication.as_ref().and_then(|all| all.get(&id));
        let log_end = if is_me {
            Some(leader_end)
        } else {
            matched.map(|position| end(position.map(|position| position.index)))
        };
        let answered = metrics.heartbeat.as_ref().and_then(|all| all.get(&id));
        let answered = answered.copied().flatten();
        let age_ms = |age: std::time::Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let last_answer = if is_me {
            Some(std::time::Duration::ZERO)
        } else {
            answered.map(|at| at.into_inner().elapsed())
        };
        let caught_up = self.moments().caught_up(id.into()).map(|at| at.elapsed());
        let voters = &metrics.membership_config;
        let is_voter = voters.voter_ids().any(|voter| voter == id);
        Progress {
            member: Member {
                key: id.into(),
                role: if is_voter { Role::Voter } else { Role::Learner },
                reachable: last_answer.is_some_and(|age| age < self.election_timeout()),
                lag: log_end.map(|log_end| leader_end.saturating_sub(log_end)),
            },
            address: node.addr.clone(),
            log_end,
            last_answer_age_ms: last_answer.map(age_ms),
            last_caught_up_age_ms: if is_me {
                Some(0)
            } else {
                caught_up.map(age_ms)
            },
        }
    }
}

/// One change of a membership.
enum Edit {
    Add(NodeId, BasicNode),
    Promote(NodeId),
    Remove(NodeId),
}

impl Edit {
    fn apply(self, membership: &Membership) -> Result<Membership, QuorumRefusal> {
        let mut voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let mut nodes: BTreeMap<NodeId, BasicNode> = membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect();
        match self {
            Self::Add(id, node) => {
                nodes.insert(id, node);
            }
            Self::Promote(id) => {
                voters.insert(id);
            }
            Self::Remove(id) => {
                voters.remove(&id);
                nodes.remove(&id);
            }
        }
        Membership::new(vec![voters], nodes)
            .map_err(|error| QuorumRefusal::Malformed(error.to_string()))
    }
}
