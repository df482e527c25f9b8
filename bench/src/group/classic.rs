//! A member of the classic protocol. The leader gives each partition to the next member in turn.

use anyhow::{Context as _, Result, bail, ensure};
use broker_wire::message::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use broker_wire::message::leave_group::MemberIdentity;
use broker_wire::message::sync_group::SyncGroupRequestAssignment;
use broker_wire::message::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use broker_wire::{ErrorCode, Str};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::time::sleep;

use super::progress::Position;
use super::{HEARTBEAT_INTERVAL, Member, REBALANCE_TIMEOUT_MS, RETRY_AFTER, SESSION_TIMEOUT_MS};

const JOIN_GROUP_VERSION: i16 = 9;
const SYNC_GROUP_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_GROUP_VERSION: i16 = 5;
const PROTOCOL_TYPE: Str = Str::from_static("consumer");
const ASSIGNOR: Str = Str::from_static("roundrobin");
/// Of what consumers say to each other.
const CONSUMER_PROTOCOL_VERSION: i16 = 0;
const NO_USER_DATA: i32 = -1;

/// Joins, and takes part in every rebalance until it is to leave.
pub(super) async fn run(mut member: Member) -> Result<()> {
    let mut member_id = Str::default();
    loop {
        let joined = member.join(&mut member_id).await?;
        let Some(partitions) = member.sync(&joined).await? else {
            continue;
        };
        let epoch = joined.generation_id;
        let position = Position { epoch, partitions };
        member.progress.reached(member.place, position);
        let mut interval = member.first_interval(HEARTBEAT_INTERVAL);
        loop {
            if member.rest(interval).await {
                return member.leave_classic(member_id).await;
            }
            interval = HEARTBEAT_INTERVAL;
            if !member.heartbeat(&joined).await? {
                break;
            }
        }
    }
}

impl Member {
    async fn join(&mut self, member_id: &mut Str) -> Result<JoinGroupResponse> {
        loop {
            let request = JoinGroupRequest {
                group_id: self.group.clone(),
                session_timeout_ms: SESSION_TIMEOUT_MS,
                rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
                member_id: member_id.clone(),
                protocol_type: PROTOCOL_TYPE,
                protocols: vec![JoinGroupRequestProtocol {
                    name: ASSIGNOR,
                    metadata: subscription(&self.topic),
                }],
                ..JoinGroupRequest::default()
            };
            let joined = self.connection.call(JOIN_GROUP_VERSION, &request).await?;
            match joined.error_code {
                ErrorCode::None => {
                    member_id.clone_from(&joined.member_id);
                    return Ok(joined);
                }
                ErrorCode::MemberIdRequired => *member_id = joined.member_id,
                ErrorCode::UnknownMemberId => *member_id = Str::default(),
                ErrorCode::RebalanceInProgress => {}
                error if error.retriable() => sleep(RETRY_AFTER).await,
                error => bail!("joining is refused: {error:?}"),
            }
        }
    }

    /// How many partitions it gets; `None` if it has to join again.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Option<usize>> {
        let assignments = match joined.leader == joined.member_id && !joined.skip_assignment {
            true => self.assign(&joined.members),
            false => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments,
            ..SyncGroupRequest::default()
        };
        let synced = self.connection.call(SYNC_GROUP_VERSION, &request).await?;
        match synced.error_code {
            ErrorCode::None => Ok(Some(partition_count(synced.assignment)?)),
            error if must_rejoin(error) => Ok(None),
            error => bail!("syncing is refused: {error:?}"),
        }
    }

    fn assign(&self, members: &[JoinGroupResponseMember]) -> Vec<SyncGroupRequestAssignment> {
        let partitions = 0..self.partition_count;
        let assigned = members.iter().enumerate().map(|(at, member)| {
            let partitions = partitions.clone().skip(at).step_by(members.len());
            SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment(&self.topic, &partitions.collect::<Vec<_>>()),
            }
        });
        assigned.collect()
    }

    /// Whether the member's generation goes on.
    async fn heartbeat(&mut self, joined: &JoinGroupResponse) -> Result<bool> {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..HeartbeatRequest::default()
        };
        let beaten = self.connection.call(HEARTBEAT_VERSION, &request).await?;
        match beaten.error_code {
            ErrorCode::None => Ok(true),
            error if must_rejoin(error) => Ok(false),
            error => bail!("a heartbeat is refused: {error:?}"),
        }
    }

    async fn leave_classic(mut self, member_id: Str) -> Result<()> {
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            members: vec![MemberIdentity {
                member_id,
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        let left = self.connection.call(LEAVE_GROUP_VERSION, &request).await?;
        ensure!(left.error_code == ErrorCode::None, "{:?}", left.error_code);
        Ok(())
    }
}

fn must_rejoin(error: ErrorCode) -> bool {
    let rejoin = [
        ErrorCode::RebalanceInProgress,
        ErrorCode::IllegalGeneration,
        ErrorCode::UnknownMemberId,
    ];
    rejoin.contains(&error) || error.retriable()
}

fn subscription(topic: &Str) -> Bytes {
    let mut bytes = consumer_header(topic);
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

fn assignment(topic: &Str, partitions: &[i32]) -> Bytes {
    let mut bytes = consumer_header(topic);
    bytes.put_i32(partitions.len() as i32);
    for partition in partitions {
        bytes.put_i32(*partition);
    }
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

/// How subscriptions and assignments to one topic begin.
fn consumer_header(topic: &Str) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_i16(CONSUMER_PROTOCOL_VERSION);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes
}

fn partition_count(assignment: Bytes) -> Result<usize> {
    let mut rest = assignment;
    if rest.is_empty() {
        return Ok(0);
    }
    rest.advance(size_of::<i16>() + size_of::<i32>());
    let topic_bytes = usize::try_from(rest.get_i16())?;
    rest.advance(topic_bytes);
    usize::try_from(rest.get_i32()).context("a negative number of partitions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_back() {
        let topic = Str::from_static("t");
        let count = |partitions: &[i32]| partition_count(assignment(&topic, partitions)).unwrap();
        assert_eq!((count(&[]), count(&[4, 7])), (0, 2));
        assert_eq!(partition_count(Bytes::new()).unwrap(), 0);
    }
}
