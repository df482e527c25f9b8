//! Requests that change a group: found or made here, decided by the group.

use alloc::vec::Vec;

use super::config::{
    APPENDS_MAX, GROUPS_MAX, ID_BYTES_MAX, MEMBERS_BYTES_MAX, OFFSETS_MAX, UNKNOWN_MEMBER_ID,
};
use super::consumer::record::GroupEpoch;
use super::consumer::{ConsumerHeartbeatRequest, Topics};
use super::effect::{Context, Effect, ReplyToken, Response};
use super::error::GroupError;
use super::groups::{Groups, Now};
use super::heartbeat::HeartbeatRequest;
use super::join::JoinRequest;
use super::leave::LeaveRequest;
use super::membership::Group;
use super::offsets::{CommitRequest, DeleteOffsetsRequest};
use super::record::{Generation, GroupId};
use super::sync::SyncRequest;

impl Groups {
    /// JoinGroup. Answered with [`Response::Join`] once the join phase is over.
    pub fn handle_join(
        &mut self,
        now: Now,
        request: JoinRequest,
        topics: &dyn Topics,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        let group = request.group.clone();
        if let Err(error) = self.check_join(&request) {
            out.push(Effect::Reply {
                token,
                response: Response::Join(Err(error)),
            });
            return;
        }
        self.create_group(&group);
        self.with_group(now, &group, out, |group, cx| {
            group.handle_join(cx, request, topics, token);
        });
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        self.check_group_id(&request.group)?;
        request.check(&self.config)?;
        if !self.groups.contains_key(&request.group) && request.member_id != UNKNOWN_MEMBER_ID {
            return Err(GroupError::UnknownMemberId);
        }
        if self.member_bytes >= MEMBERS_BYTES_MAX {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    /// ConsumerGroupHeartbeat. Answered with [`Response::ConsumerHeartbeat`] once what it changes is
    /// durable.
    pub fn handle_consumer_heartbeat(
        &mut self,
        now: Now,
        request: &ConsumerHeartbeatRequest,
        topics: &dyn Topics,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        if let Err(error) = self.check_consumer_heartbeat(request) {
            let response = Response::ConsumerHeartbeat(Err(error));
            out.push(Effect::Reply { token, response });
            return;
        }
        self.create_group(&request.group);
        self.with_group(now, &request.group, out, |group, cx| {
            let ready = match request.epoch {
                GroupEpoch::JOIN => group.enter_consumer_protocol(cx, request, topics),
                _ => Ok(()),
            };
            match ready {
                Ok(()) => group.handle_consumer_heartbeat(cx, request, topics, token),
                Err(error) => cx.reply(token, Response::ConsumerHeartbeat(Err(error))),
            }
        });
    }

    fn check_consumer_heartbeat(
        &self,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<(), GroupError> {
        self.check_group_id(&request.group)?;
        request.check()?;
        let is_full = self.member_bytes >= MEMBERS_BYTES_MAX && self.is_enlarged_by(request);
        if is_full || self.appends.pending.len() >= APPENDS_MAX {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    fn is_enlarged_by(&self, request: &ConsumerHeartbeatRequest) -> bool {
        let group = self.groups.get(&request.group);
        let consumer = group.and_then(|group| group.consumer.as_ref());
        request.epoch == GroupEpoch::JOIN
            || consumer.is_some_and(|consumer| consumer.is_enlarged_by(request))
    }

    /// SyncGroup. Answered with [`Response::Sync`] once the leader's assignment is durable.
    pub fn handle_sync(
        &mut self,
        now: Now,
        request: SyncRequest,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        let group = request.group.clone();
        let found = self.with_group(now, &group, out, |group, cx| {
            group.handle_sync(cx, request, token)
        });
        if found.is_none() {
            let response = Response::Sync(Err(GroupError::UnknownMemberId));
            out.push(Effect::Reply { token, response });
        }
    }

    /// Heartbeat.
    pub fn handle_heartbeat(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
    ) -> Result<(), GroupError> {
        let beat = |group: &mut Group, cx: &mut Context<'_>| group.handle_heartbeat(cx, request);
        self.with_group(now, &request.group, &mut Vec::new(), beat)
            .unwrap_or(Err(GroupError::UnknownMemberId))
    }

    /// LeaveGroup. One result for each leaving member, in the request's order.
    pub fn handle_leave(
        &mut self,
        now: Now,
        request: LeaveRequest,
        out: &mut Vec<Effect>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let count = request.members.len();
        let leave =
            |group: &mut Group, cx: &mut Context<'_>| group.handle_leave(cx, request.members);
        self.with_group(now, &request.group, out, leave)
            .unwrap_or_else(|| Ok(alloc::vec![Err(GroupError::UnknownMemberId); count]))
    }

    /// OffsetCommit. Answered with [`Response::CommitOffsets`] once the offsets are durable. Whether
    /// the topics exist is for the caller to check.
    pub fn handle_commit(
        &mut self,
        now: Now,
        request: CommitRequest,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        let group = request.group.clone();
        if let Err(error) = self.check_commit(&request) {
            out.push(Effect::Reply {
                token,
                response: Response::CommitOffsets(Err(error)),
            });
            return;
        }
        self.create_group(&group);
        self.with_group(now, &group, out, |group, cx| {
            group.handle_commit(cx, request, token)
        });
    }

    pub(super) fn check_commit(&self, request: &CommitRequest) -> Result<(), GroupError> {
        self.check_group_id(&request.group)?;
        if !self.groups.contains_key(&request.group) && request.generation >= Generation(0) {
            return Err(GroupError::IllegalGeneration);
        }
        if self.offsets >= OFFSETS_MAX || self.appends.pending.len() >= APPENDS_MAX {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    /// DeleteGroups for one group. Answered with [`Response::Delete`] once durable.
    pub fn handle_delete(
        &mut self,
        now: Now,
        group: &str,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        let error = if self.appends.pending.len() >= APPENDS_MAX {
            GroupError::CoordinatorNotAvailable
        } else {
            let delete = |group: &mut Group, cx: &mut Context<'_>| group.handle_delete(cx, token);
            match self.with_group(now, group, out, delete) {
                Some(()) => return,
                None => GroupError::GroupIdNotFound,
            }
        };
        out.push(Effect::Reply {
            token,
            response: Response::Delete(Err(error)),
        });
    }

    /// OffsetDelete. Answered with [`Response::DeleteOffsets`] once durable.
    pub fn handle_delete_offsets(
        &mut self,
        now: Now,
        request: &DeleteOffsetsRequest,
        token: ReplyToken,
        out: &mut Vec<Effect>,
    ) {
        let error = if self.appends.pending.len() >= APPENDS_MAX {
            GroupError::CoordinatorNotAvailable
        } else {
            let delete = |group: &mut Group, cx: &mut Context<'_>| {
                group.handle_delete_offsets(cx, request, token);
            };
            match self.with_group(now, &request.group, out, delete) {
                Some(()) => return,
                None => GroupError::GroupIdNotFound,
            }
        };
        out.push(Effect::Reply {
            token,
            response: Response::DeleteOffsets(Err(error)),
        });
    }

    fn check_group_id(&self, group: &GroupId) -> Result<(), GroupError> {
        if group.is_empty() || group.len() > ID_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(group) {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    pub(super) fn create_group(&mut self, id: &GroupId) {
        self.groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id.clone()));
    }
}
