//! JoinGroup: new, returning and static members.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::config::{
    GroupConfig, ID_BYTES_MAX, MEMBER_BYTES_MAX, PROTOCOLS_MAX, UNKNOWN_MEMBER_ID,
};
use super::consumer::Topics;
use super::effect::{Context, Joined, RebalanceReason, ReplyToken, Response, Then};
use super::error::GroupError;
use super::member::{Member, NEW_MEMBER_JOIN_TIMEOUT, Protocol, Waiting};
use super::membership::{Group, State};
use super::rebalance::{InitialDelay, JoinPhase};
use super::record::{GroupId, Opaque};
use crate::Duration;

/// Asks to be part of the group's next generation.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub group: GroupId,
    /// [`UNKNOWN_MEMBER_ID`] for a member that has no id yet.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// Why the client joins (KIP-800).
    pub reason: Option<String>,
    pub features: JoinFeatures,
    /// Random text that makes a new member's id unique.
    pub member_id_suffix: String,
}

/// What the client understands, by the version of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinFeatures {
    /// v4: takes a member id first and joins with it (KIP-394).
    pub member_id_required: bool,
    /// v9: a leader may be told to keep the assignment (KIP-814).
    pub skip_assignment: bool,
}

impl JoinRequest {
    pub(super) fn check(&self, config: &GroupConfig) -> Result<(), GroupError> {
        if self.session_timeout < config.session_timeout_min
            || self.session_timeout > config.session_timeout_max
        {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let names = [
            &self.member_id,
            &self.client_id,
            &self.client_host,
            &self.protocol_type,
        ];
        let optional = self.instance_id.iter().chain(&self.reason);
        let protocols = self.protocols.iter().map(|offered| &offered.name);
        let is_long = names
            .into_iter()
            .chain(optional)
            .chain(protocols)
            .any(|name| name.len() > ID_BYTES_MAX);
        let metadata_bytes: usize = self
            .protocols
            .iter()
            .map(|offered| offered.metadata.len())
            .sum();
        if is_long || self.protocols.len() > PROTOCOLS_MAX || metadata_bytes > MEMBER_BYTES_MAX {
            return Err(GroupError::InvalidRequest);
        }
        Ok(())
    }

    pub(super) fn is_new(&self) -> bool {
        self.member_id == UNKNOWN_MEMBER_ID
    }

    pub(super) fn new_member_id(&self) -> String {
        let prefix = self.instance_id.as_ref().unwrap_or(&self.client_id);
        format!("{prefix}-{}", self.member_id_suffix)
    }

    fn into_member(self, cx: &Context<'_>) -> Member {
        Member {
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            session_timeout: self.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            protocols: self.protocols,
            assignment: Opaque::from([]),
            waiting: Waiting::No,
            session_deadline: cx.now.time.plus(NEW_MEMBER_JOIN_TIMEOUT),
            is_new: true,
            has_synced: false,
        }
    }
}

/// What becomes of a JoinGroup request.
pub(super) enum JoinOutcome {
    Answered(Result<Joined, GroupError>),
    /// Answered when the rebalance, or a write, is complete.
    Parked,
}

type JoinResult = Result<JoinOutcome, GroupError>;

impl Group {
    pub(super) fn handle_join(
        &mut self,
        cx: &mut Context<'_>,
        request: JoinRequest,
        topics: &dyn Topics,
        token: ReplyToken,
    ) {
        if self.state == State::Dead {
            let error = GroupError::CoordinatorNotAvailable;
            return cx.reply(token, Response::Join(Err(error)));
        }
        self.leave_consumer_protocol(cx);
        if self.consumer.is_some() {
            if let Err(error) = self.join_consumer(cx, request, topics, token) {
                cx.reply(token, Response::Join(Err(error)));
            }
            return;
        }
        let outcome = self
            .join(cx, request, token)
            .unwrap_or_else(|error| JoinOutcome::Answered(Err(error)));
        if let JoinOutcome::Answered(result) = outcome {
            cx.reply(token, Response::Join(result));
        }
    }

    fn join(
        &mut self,
        cx: &mut Context<'_>,
        request: JoinRequest,
        token: ReplyToken,
    ) -> JoinResult {
        self.check_size(cx, &request)?;
        if !self.supports(&request.protocol_type, &request.protocols) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if !request.is_new() {
            return self.join_known(cx, request, token);
        }
        let member_id = request.new_member_id();
        if member_id.len() > ID_BYTES_MAX {
            return Err(GroupError::InvalidRequest);
        }
        let current = request
            .instance_id
            .as_ref()
            .and_then(|id| self.static_members.get(id))
            .cloned();
        if let Some(current) = current {
            return self.replace_static_member(
                cx,
                request,
                token,
                StaticIds {
                    current,
                    new: member_id,
                },
            );
        }
        if request.instance_id.is_none() && request.features.member_id_required {
            let deadline = cx.now.time.plus(request.session_timeout);
            self.add_pending(member_id.clone(), deadline);
            return Err(GroupError::MemberIdRequired { member_id });
        }
        Ok(self.add_member(cx, member_id, request, token))
    }

    /// While members join, those who joined count: some of the others may be gone for good.
    fn check_size(&self, cx: &Context<'_>, request: &JoinRequest) -> Result<(), GroupError> {
        let member_id = request.member_id.as_str();
        let is_returning_static = request
            .instance_id
            .as_ref()
            .is_some_and(|id| self.static_members.contains_key(id));
        let (is_counted, members) = match self.state {
            State::Empty | State::Dead => (false, 0),
            State::PreparingRebalance(_) => {
                let is_joined = |member: &Member| member.is_awaiting_join();
                let joined = self
                    .members
                    .values()
                    .filter(|member| is_joined(member))
                    .count();
                (self.members.get(member_id).is_some_and(is_joined), joined)
            }
            State::CompletingRebalance { .. } | State::Stable => {
                (self.members.contains_key(member_id), self.members.len())
            }
        };
        let is_counted = is_counted || is_returning_static || self.is_pending(member_id);
        if is_counted || members + self.pending_member_count() < cx.config.group_size_max {
            Ok(())
        } else {
            Err(GroupError::GroupMaxSizeReached)
        }
    }

    fn join_known(
        &mut self,
        cx: &mut Context<'_>,
        request: JoinRequest,
        token: ReplyToken,
    ) -> JoinResult {
        if request.instance_id.is_none() && self.take_pending(&request.member_id) {
            let member_id = request.member_id.clone();
            return Ok(self.add_member(cx, member_id, request, token));
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        let is_unchanged = self
            .members
            .get(&request.member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        let is_leader = self.is_leader(&request.member_id);
        let member_id = request.member_id.clone();
        let client = request.reason.clone();
        let reason = match self.state {
            State::Empty | State::Dead => return Err(GroupError::UnknownMemberId),
            // The answer of this generation was lost on its way.
            State::CompletingRebalance { .. } if is_unchanged => {
                return Ok(JoinOutcome::Answered(Ok(self.joined(&member_id))));
            }
            State::Stable if is_unchanged && !is_leader => {
                return Ok(JoinOutcome::Answered(Ok(self.joined(&member_id))));
            }
            State::Stable if is_leader => RebalanceReason::LeaderRejoined { member_id, client },
            _ => RebalanceReason::SubscriptionChanged { member_id, client },
        };
        let member_id = request.member_id.clone();
        self.update_member(cx, &member_id, request);
        self.await_join(cx, &member_id, token);
        self.prepare_rebalance(cx, reason);
        self.try_complete_join(cx);
        Ok(JoinOutcome::Parked)
    }

    fn add_member(
        &mut self,
        cx: &mut Context<'_>,
        member_id: String,
        request: JoinRequest,
        token: ReplyToken,
    ) -> JoinOutcome {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let State::PreparingRebalance(JoinPhase {
            initial: Some(initial),
            ..
        }) = &mut self.state
            && self.generation.0 == 0
        {
            *initial = InitialDelay {
                has_newcomer: true,
                ..*initial
            };
        }
        let reason = RebalanceReason::MemberJoined {
            member_id: member_id.clone(),
            client: request.reason.clone(),
        };
        let member = request.into_member(cx);
        self.arm(member.session_deadline);
        self.insert(member_id.clone(), member);
        self.await_join(cx, &member_id, token);
        self.leader.get_or_insert(member_id);
        self.prepare_rebalance(cx, reason);
        self.try_complete_join(cx);
        JoinOutcome::Parked
    }

    fn await_join(&mut self, cx: &mut Context<'_>, member_id: &str, token: ReplyToken) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.park(cx, Waiting::Join(token));
        }
    }

    /// Takes over what a known member says of itself.
    fn update_member(&mut self, cx: &Context<'_>, member_id: &str, request: JoinRequest) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        self.member_bytes -= member.bytes();
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.protocols = request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        self.member_bytes += member.bytes();
        self.renew_session(cx, member_id);
    }

    /// A static member came back without its member id: it takes a new one and its old place. With
    /// an unchanged choice of protocol a stable group does not rebalance (KIP-345).
    fn replace_static_member(
        &mut self,
        cx: &mut Context<'_>,
        request: JoinRequest,
        token: ReplyToken,
        ids: StaticIds,
    ) -> JoinResult {
        let features = request.features;
        let instance_id = request.instance_id.clone().unwrap_or_default();
        let old_leader = self.leader.clone();
        self.rename_member(cx, &ids);
        self.update_member(cx, &ids.new, request);
        if self.state == State::Stable && self.select_protocol() == self.protocol {
            let mut joined = self.joined(&ids.new);
            if features.skip_assignment {
                joined.skip_assignment = self.is_leader(&ids.new);
            } else {
                // An old client that saw itself as the leader would assign and wait for all to sync.
                joined.members.clear();
                joined.leader = old_leader.unwrap_or_default();
            }
            let then = Then::ReplaceStaticMember { token, joined };
            self.append_metadata(cx, |_, member| member.assignment.clone(), then);
            return Ok(JoinOutcome::Parked);
        }
        self.await_join(cx, &ids.new, token);
        let reason = RebalanceReason::StaticMemberReturned {
            member_id: ids.new,
            instance_id,
        };
        self.prepare_rebalance(cx, reason);
        self.try_complete_join(cx);
        Ok(JoinOutcome::Parked)
    }

    /// Moves a static member to its new id and fences the process that used the old one.
    fn rename_member(&mut self, cx: &mut Context<'_>, ids: &StaticIds) {
        let was_leader = self.is_leader(&ids.current);
        let Some(mut member) = self.remove(&ids.current) else {
            return;
        };
        member.refuse(cx, GroupError::FencedInstanceId);
        self.insert(ids.new.clone(), member);
        if was_leader {
            self.leader = Some(ids.new.clone());
        }
    }
}

/// The member id of a static member before and after its return.
struct StaticIds {
    current: String,
    new: String,
}
