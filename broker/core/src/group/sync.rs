//! SyncGroup: the leader hands in the assignment, everybody takes their part of it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::effect::{Context, RebalanceReason, ReplyToken, Response, Then};
use super::error::{AppendError, GroupError};
use super::member::{Member, Waiting};
use super::membership::{Group, State};
use super::record::{Generation, GroupId, Opaque};

/// Asks for the member's assignment.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub group: GroupId,
    pub generation: Generation,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// What the member believes the group has agreed on (v5).
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Assignment of each member id; sent by the leader only.
    pub assignments: Vec<(String, Opaque)>,
}

impl Group {
    pub(super) fn handle_sync(
        &mut self,
        cx: &mut Context<'_>,
        request: SyncRequest,
        token: ReplyToken,
    ) {
        if self.consumer.is_some() {
            return self.sync_consumer(cx, &request, token);
        }
        let refusal = match self.check_sync(&request) {
            Err(error) => error,
            Ok(()) => match self.state {
                State::Empty | State::Dead => GroupError::UnknownMemberId,
                State::PreparingRebalance(_) => GroupError::RebalanceInProgress,
                State::CompletingRebalance { storing } => {
                    self.await_assignment(cx, &request.member_id, token);
                    if self.is_leader(&request.member_id) && !storing {
                        self.store_assignment(cx, request.assignments);
                    }
                    return;
                }
                State::Stable => return self.answer_sync(cx, &request.member_id, token),
            },
        };
        cx.reply(token, Response::Sync(Err(refusal)));
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        let differs =
            |asked: &Option<String>, agreed: &Option<String>| asked.is_some() && asked != agreed;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn await_assignment(&mut self, cx: &mut Context<'_>, member_id: &str, token: ReplyToken) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.park(cx, Waiting::Sync(token));
            member.has_synced = true;
        }
    }

    fn answer_sync(&mut self, cx: &mut Context<'_>, member_id: &str, token: ReplyToken) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.has_synced = true;
        let assignment = member.assignment.clone();
        cx.reply(token, Response::Sync(Ok(self.synced(assignment))));
        self.renew_session(cx, member_id);
    }

    /// Members the leader left out get an empty assignment; strangers are ignored.
    fn store_assignment(&mut self, cx: &mut Context<'_>, assignments: Vec<(String, Opaque)>) {
        let assignments: BTreeMap<String, Opaque> = assignments
            .into_iter()
            .filter(|(id, _)| self.members.contains_key(id))
            .collect();
        self.set_state(cx, State::CompletingRebalance { storing: true });
        let then = Then::StoreAssignment {
            generation: self.generation,
            assignments: assignments.clone(),
        };
        let part_of = |id: &str, _: &Member| {
            assignments
                .get(id)
                .cloned()
                .unwrap_or_else(|| Opaque::from([]))
        };
        self.append_metadata(cx, part_of, then);
    }

    /// The assignment is durable, or failed to become so. Nothing is left to do if another rebalance
    /// has begun meanwhile.
    pub(super) fn assignment_stored(
        &mut self,
        cx: &mut Context<'_>,
        generation: Generation,
        mut assignments: BTreeMap<String, Opaque>,
        result: Result<(), AppendError>,
    ) {
        if self.state != (State::CompletingRebalance { storing: true })
            || self.generation != generation
        {
            return;
        }
        if let Err(error) = result {
            self.drop_assignment(cx, &error.into());
            self.prepare_rebalance(cx, RebalanceReason::NotStored);
            return;
        }
        self.state = State::Stable;
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let assignment = assignments
                .remove(&member_id)
                .unwrap_or_else(|| Opaque::from([]));
            let synced = self.synced(assignment.clone());
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            member.assignment = assignment;
            if let Waiting::Sync(token) = member.waiting {
                member.waiting = Waiting::No;
                cx.reply(token, Response::Sync(Ok(synced)));
                self.renew_session(cx, &member_id);
            }
        }
    }
}
