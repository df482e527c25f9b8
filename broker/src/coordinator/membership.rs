//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

use std::sync::Arc;

use broker_core::Duration;
use broker_core::group::{
    Generation, GroupError, HeartbeatRequest as Heartbeat, JoinFeatures, JoinRequest, Joined,
    LeaveRequest, LeavingMember, Opaque, Protocol, Response, SyncRequest, Synced,
};
use broker_core::metadata::Image;
use broker_wire::message::join_group::JoinGroupResponseMember;
use broker_wire::message::leave_group::{MemberIdentity, MemberResponse};
use broker_wire::message::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use broker_wire::{ErrorCode, Str};
use bytes::Bytes;
use uuid::Uuid;

use super::error::{Unavailable, code, result_code};
use super::{GroupCoordinator, PartitionLog};

/// Who sent a request, for the descriptions of groups.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client.id` of the request's header.
    pub id: String,
    /// Address the client connects from, such as `/10.0.0.7`.
    pub host: String,
}

impl<L: PartitionLog> GroupCoordinator<L> {
    /// Answers when the group's rebalance is complete, which may take the rebalance timeout.
    pub async fn join(
        &self,
        request: JoinGroupRequest,
        version: i16,
        client: Client,
        image: Arc<Image>,
    ) -> JoinGroupResponse {
        let member_id = request.member_id.clone();
        let request = join_request(&request, version, client);
        let shard = match self.shard(&request.group) {
            Ok(shard) => shard,
            Err(unavailable) => return join_refused(unavailable.code(), member_id),
        };
        let topics = self.images.topics(image);
        let submitted = shard.submit(|groups, now, token, out| {
            groups.handle_join(now, request, &topics, token, out);
        });
        match submitted.await {
            Ok(Response::Join(Ok(joined))) => join_response(joined),
            Ok(Response::Join(Err(GroupError::MemberIdRequired { member_id }))) => {
                join_refused(ErrorCode::MemberIdRequired, member_id.into())
            }
            Ok(Response::Join(Err(error))) => join_refused(code(&error), member_id),
            Ok(_) => unreachable!("a join is answered as one"),
            Err(unavailable) => join_refused(unavailable.code(), member_id),
        }
    }

    /// Answers when the leader's assignment is durable.
    pub async fn sync(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let request = sync_request(&request);
        let shard = match self.shard(&request.group) {
            Ok(shard) => shard,
            Err(unavailable) => return sync_refused(sync_code(unavailable)),
        };
        let submitted =
            shard.submit(|groups, now, token, out| groups.handle_sync(now, request, token, out));
        match submitted.await {
            Ok(Response::Sync(Ok(synced))) => sync_response(synced),
            Ok(Response::Sync(Err(error))) => sync_refused(code(&error)),
            Ok(_) => unreachable!("a sync is answered as one"),
            Err(unavailable) => sync_refused(sync_code(unavailable)),
        }
    }

    /// Keeps a member's session alive.
    pub fn heartbeat(&self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let heartbeat = Heartbeat {
            group: request.group_id.as_str().into(),
            generation: Generation(request.generation_id),
            member_id: owned(&request.member_id),
            instance_id: request.group_instance_id.as_ref().map(owned),
        };
        let beaten = self.shard(&heartbeat.group).and_then(|shard| {
            shard.with_groups(|groups, now, _| groups.handle_heartbeat(now, &heartbeat))
        });
        let error_code = match beaten {
            Ok(result) => result_code(&result),
            // Sessions start when the groups are loaded; the member has nothing to do until then.
            Err(Unavailable::Loading) => ErrorCode::None,
            Err(unavailable) => unavailable.code(),
        };
        HeartbeatResponse {
            error_code,
            ..HeartbeatResponse::default()
        }
    }

    /// Takes members out of a group.
    pub fn leave(&self, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
        let members = match version {
            ..=2 => vec![MemberIdentity {
                member_id: request.member_id,
                ..MemberIdentity::default()
            }],
            3.. => request.members,
        };
        let leaving = members.iter().map(leaving_member).collect();
        let request = LeaveRequest {
            group: request.group_id.as_str().into(),
            members: leaving,
        };
        let left = self.shard(&request.group.clone()).and_then(|shard| {
            shard.with_groups(|groups, now, out| groups.handle_leave(now, request, out))
        });
        let results = match left {
            Ok(Ok(results)) => results,
            Ok(Err(error)) => return leave_refused(code(&error)),
            Err(unavailable) => return leave_refused(unavailable.code()),
        };
        let members: Vec<MemberResponse> = members
            .into_iter()
            .zip(&results)
            .map(|(member, result)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: result_code(result),
            })
            .collect();
        match version {
            ..=2 => leave_refused(
                members
                    .first()
                    .map_or(ErrorCode::None, |member| member.error_code),
            ),
            3.. => LeaveGroupResponse {
                members,
                ..LeaveGroupResponse::default()
            },
        }
    }
}

pub(super) fn owned(text: &Str) -> String {
    text.as_str().to_owned()
}

pub(super) fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

fn join_request(request: &JoinGroupRequest, version: i16, client: Client) -> JoinRequest {
    let rebalance_timeout_ms = match version {
        0 => request.session_timeout_ms,
        1.. | ..0 => request.rebalance_timeout_ms,
    };
    let protocols = request.protocols.iter().map(|offered| Protocol {
        name: owned(&offered.name),
        metadata: Opaque::from(&offered.metadata[..]),
    });
    JoinRequest {
        group: request.group_id.as_str().into(),
        member_id: owned(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(owned),
        client_id: client.id,
        client_host: client.host,
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: owned(&request.protocol_type),
        protocols: protocols.collect(),
        reason: request.reason.as_ref().map(owned),
        features: JoinFeatures {
            member_id_required: version >= 4,
            skip_assignment: version >= 9,
        },
        member_id_suffix: Uuid::new_v4().to_string(),
    }
}

fn join_response(joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id.into(),
            group_instance_id: member.instance_id.map(Into::into),
            metadata: Bytes::from_owner(member.subscription),
        });
    JoinGroupResponse {
        generation_id: joined.generation.0,
        protocol_type: joined.protocol_type.map(Into::into),
        protocol_name: joined.protocol.map(Into::into),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn join_refused(error_code: ErrorCode, member_id: Str) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        member_id,
        ..JoinGroupResponse::default()
    }
}

fn sync_request(request: &SyncGroupRequest) -> SyncRequest {
    let assignments = request.assignments.iter();
    let assignments = assignments
        .map(|part| (owned(&part.member_id), Opaque::from(&part.assignment[..])))
        .collect();
    SyncRequest {
        group: request.group_id.as_str().into(),
        generation: Generation(request.generation_id),
        member_id: owned(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(owned),
        protocol_type: request.protocol_type.as_ref().map(owned),
        protocol: request.protocol_name.as_ref().map(owned),
        assignments,
    }
}

fn sync_response(synced: Synced) -> SyncGroupResponse {
    SyncGroupResponse {
        protocol_type: synced.protocol_type.map(Into::into),
        protocol_name: synced.protocol.map(Into::into),
        assignment: Bytes::from_owner(synced.assignment),
        ..SyncGroupResponse::default()
    }
}

fn sync_refused(error_code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code,
        ..SyncGroupResponse::default()
    }
}

/// A coordinator that loads has lost the rebalance the member takes part in: it joins again, here.
const fn sync_code(unavailable: Unavailable) -> ErrorCode {
    match unavailable {
        Unavailable::Loading => ErrorCode::RebalanceInProgress,
        Unavailable::NotCoordinator => unavailable.code(),
    }
}

fn leaving_member(member: &MemberIdentity) -> LeavingMember {
    LeavingMember {
        member_id: owned(&member.member_id),
        instance_id: member.group_instance_id.as_ref().map(owned),
        reason: member.reason.as_ref().map(owned),
    }
}

fn leave_refused(error_code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse {
        error_code,
        ..LeaveGroupResponse::default()
    }
}
