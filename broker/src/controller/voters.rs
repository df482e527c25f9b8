//! Changes of the quorum's members and its description, wherever the active controller runs.

use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::BrokerImage;
use broker_core::quorum::{
    DirectoryId, Member, QuorumChange, QuorumRefusal, Role, VoterKey, VoterRef,
};
use broker_core::{BrokerId, Time};
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::{
    ChangeVotersRequest, ChangeVotersResponse, DescribeQuorumRequest, QuorumDescription,
    QuorumMember, QuorumRefused, QuorumRefusedReason,
};

use super::error::{AttemptError, SubmitError};
use super::feed::Feed;
use super::peers::Peers;
use super::raft::{ChangeError, Progress, Quorum};
use super::sessions::{FollowerProgress, Sessions};
use super::submit::Submitter;
use crate::clock;

/// Why the quorum's members are not (or not known to be) changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChangeVotersError {
    /// The controller refuses; nothing has changed.
    #[error("{}", .0.message)]
    Refused(QuorumRefused),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// See the module's documentation.
#[derive(Clone)]
pub(crate) struct VoterAdmin {
    pub(crate) me: BrokerId,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) submitter: Submitter,
}

impl VoterAdmin {
    /// Has the members changed by the active controller within `limit`.
    pub(crate) async fn change(
        &self,
        change: Change,
        limit: Duration,
    ) -> Result<(), ChangeVotersError> {
        let request = ChangeVotersRequest {
            change: Some(change),
        };
        let response = self
            .submitter
            .reach(limit, |target| self.change_at(target, &request))
            .await?;
        match response.refused {
            None => Ok(()),
            Some(refused) => Err(ChangeVotersError::Refused(refused)),
        }
    }

    /// Asks the active controller for the quorum's state within `limit`.
    pub(crate) async fn describe(&self, limit: Duration) -> Result<QuorumDescription, SubmitError> {
        self.submitter
            .reach(limit, |target| self.describe_at(target))
            .await
    }

    async fn change_at(
        &self,
        target: BrokerId,
        request: &ChangeVotersRequest,
    ) -> Result<ChangeVotersResponse, AttemptError> {
        if target == self.me {
            return self.change_here(request).await;
        }
        let mut client = self.peers.client(target).ok_or(AttemptError::Unreachable)?;
        Ok(client.change_voters(request.clone()).await?.into_inner())
    }

    async fn describe_at(&self, target: BrokerId) -> Result<QuorumDescription, AttemptError> {
        if target == self.me {
            return self.describe_here();
        }
        let mut client = self.peers.client(target).ok_or(AttemptError::Unreachable)?;
        let response = client.describe_quorum(DescribeQuorumRequest {}).await?;
        Ok(response.into_inner())
    }

    /// Changes the members if this broker leads the quorum.
    pub(crate) async fn change_here(
        &self,
        request: &ChangeVotersRequest,
    ) -> Result<ChangeVotersResponse, AttemptError> {
        let outcome = match self.parse(request) {
            Ok(change) => {
                self.quorum
                    .change(change, |learner| self.registered_address(learner.id))
                    .await
            }
            Err(refusal) => Err(refusal.into()),
        };
        let refused = match outcome {
            Ok(()) => None,
            Err(ChangeError::NotLeader) => {
                let known = self.peers.active_controller();
                let known = known.filter(|id| *id != self.me);
                return Err(AttemptError::NotController(known));
            }
            Err(ChangeError::OutcomeUnknown) => {
                return Err(AttemptError::Final(SubmitError::OutcomeUnknown));
            }
            Err(ChangeError::Refused(refusal)) => Some(QuorumRefused {
                reason: reason(&refusal).into(),
                message: refusal.to_string(),
            }),
        };
        Ok(ChangeVotersResponse { refused })
    }

    fn parse(&self, request: &ChangeVotersRequest) -> Result<QuorumChange, QuorumRefusal> {
        let change = request.change.as_ref();
        let change =
            change.ok_or_else(|| QuorumRefusal::Malformed("it names no change".to_owned()))?;
        Ok(match change {
            Change::AddLearner(add) => {
                let id = BrokerId(add.broker_id);
                let found = self.registered_directory(id)?;
                let named = parse_directory(&add.directory_id)?;
                if let Some(expected) = named.filter(|expected| *expected != found) {
                    return Err(QuorumRefusal::DirectoryMismatch {
                        id,
                        expected,
                        found,
                    });
                }
                QuorumChange::AddLearner(VoterKey {
                    id,
                    directory: found,
                })
            }
            Change::PromoteVoter(promote) => {
                let mut learner = voter(promote.broker_id, &promote.directory_id)?;
                // Not a voter of that id that has lost its disk.
                if learner.directory.is_none() {
                    learner.directory = Some(self.registered_directory(learner.id)?);
                }
                QuorumChange::PromoteVoter(learner)
            }
            Change::RemoveVoter(remove) => {
                QuorumChange::RemoveVoter(voter(remove.broker_id, &remove.directory_id)?)
            }
            Change::TransferLeadership(transfer) => {
                QuorumChange::TransferLeadership(transfer.broker_id.map(BrokerId))
            }
        })
    }

    fn registered_directory(&self, id: BrokerId) -> Result<DirectoryId, QuorumRefusal> {
        let image = self.feed.position().image;
        let registered = image.brokers.get(&id);
        registered
            .and_then(|broker| broker.metadata_directory)
            .ok_or(QuorumRefusal::UnknownBroker(id))
    }

    fn registered_address(&self, id: BrokerId) -> Option<String> {
        let image = self.feed.position().image;
        image.brokers.get(&id).map(rpc_address)
    }

    /// The quorum's state if this broker leads it.
    pub(crate) fn describe_here(&self) -> Result<QuorumDescription, AttemptError> {
        let not_controller = || AttemptError::NotController(self.peers.active_controller());
        let status = self.quorum.status().ok_or_else(not_controller)?;
        let of_role = |role: Role| {
            let members = status.members.iter();
            let members = members.filter(move |progress| progress.member.role == role);
            members.map(described_member).collect()
        };
        let image = self.feed.position().image;
        let is_member = |broker: &BrokerImage| {
            let is_it = |member: &Member| {
                member.key.id == broker.id
                    && Some(member.key.directory) == broker.metadata_directory
            };
            status
                .members
                .iter()
                .any(|progress| is_it(&progress.member))
        };
        let observers = image.brokers.values().filter(|broker| !is_member(broker));
        Ok(QuorumDescription {
            leader_id: self.me.0,
            leader_epoch: status.term,
            high_watermark: status.high_watermark,
            voters: of_role(Role::Voter),
            learners: of_role(Role::Learner),
            observers: observers
                .map(|broker| described_observer(broker, self.sessions.follower(broker.id)))
                .collect(),
        })
    }
}

fn voter(id: i32, directory: &str) -> Result<VoterRef, QuorumRefusal> {
    Ok(VoterRef {
        id: BrokerId(id),
        directory: parse_directory(directory)?,
    })
}

fn parse_directory(text: &str) -> Result<Option<DirectoryId>, QuorumRefusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = uuid::Uuid::parse_str(text);
    let parsed = parsed
        .map_err(|_| QuorumRefusal::Malformed(format!("directory id {text:?} is not a UUID")))?;
    Ok(Some(DirectoryId(parsed.into_bytes())))
}

fn rpc_address(broker: &BrokerImage) -> String {
    format!("{}:{}", broker.rpc_host, broker.rpc_port)
}

fn described_member(progress: &Progress) -> QuorumMember {
    let now = clock::timestamp().0;
    let at = |age_ms: Option<u64>| {
        let at = age_ms.and_then(|age_ms| now.checked_sub_unsigned(age_ms));
        at.unwrap_or(-1)
    };
    QuorumMember {
        broker_id: progress.member.key.id.0,
        directory_id: progress.member.key.directory.to_string(),
        address: progress.address.clone(),
        log_end_offset: progress.log_end.map_or(-1, u64::cast_signed),
        last_fetch_timestamp_ms: at(progress.last_answer_age_ms),
        last_caught_up_timestamp_ms: at(progress.last_caught_up_age_ms),
        reachable: progress.member.reachable,
    }
}

fn described_observer(broker: &BrokerImage, progress: Option<FollowerProgress>) -> QuorumMember {
    let (now, wall) = (clock::now(), clock::timestamp().0);
    let at = |time: Time| {
        wall.saturating_sub_unsigned(u64::try_from(now.since(time).as_millis()).unwrap_or(u64::MAX))
    };
    let directory = broker.metadata_directory.unwrap_or_default();
    QuorumMember {
        broker_id: broker.id.0,
        directory_id: directory.to_string(),
        address: rpc_address(broker),
        log_end_offset: progress.map_or(-1, |progress| progress.end.cast_signed()),
        last_fetch_timestamp_ms: progress.map_or(-1, |progress| at(progress.heard_at)),
        last_caught_up_timestamp_ms: progress
            .and_then(|progress| progress.caught_up_at)
            .map_or(-1, at),
        reachable: !broker.fenced,
    }
}

fn reason(refusal: &QuorumRefusal) -> QuorumRefusedReason {
    match refusal {
        QuorumRefusal::ChangeInProgress => QuorumRefusedReason::ChangeInProgress,
        QuorumRefusal::UnknownBroker(_) => QuorumRefusedReason::UnknownBroker,
        QuorumRefusal::DirectoryMismatch { .. } => QuorumRefusedReason::DirectoryMismatch,
        QuorumRefusal::DuplicateVoter(_) => QuorumRefusedReason::DuplicateVoter,
        QuorumRefusal::UnknownVoter(_) => QuorumRefusedReason::UnknownVoter,
        QuorumRefusal::NotCaughtUp { .. } => QuorumRefusedReason::NotCaughtUp,
        QuorumRefusal::NoMajority { .. } => QuorumRefusedReason::NoMajority,
        QuorumRefusal::LastVoter => QuorumRefusedReason::LastVoter,
        QuorumRefusal::TooMany(_) => QuorumRefusedReason::TooMany,
        QuorumRefusal::NoSuccessor => QuorumRefusedReason::NoSuccessor,
        QuorumRefusal::Malformed(_) => QuorumRefusedReason::Malformed,
    }
}
