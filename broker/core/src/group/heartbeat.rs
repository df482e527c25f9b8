//! Heartbeat: a sign of life, answered with whether the group rebalances.

use alloc::string::String;

use super::effect::Context;
use super::error::GroupError;
use super::membership::{Group, State};
use super::record::{Generation, GroupId};

/// Says that a member is alive.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    pub group: GroupId,
    pub generation: Generation,
    pub member_id: String,
    pub instance_id: Option<String>,
}

impl Group {
    pub(super) fn handle_heartbeat(
        &mut self,
        cx: &Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if self.consumer.is_some() {
            let instance_id = request.instance_id.as_deref();
            return self.beat_consumer(cx, &request.member_id, instance_id, request.generation);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        self.renew_session(cx, &request.member_id);
        match self.state {
            State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance(_) => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance { .. } | State::Stable => Ok(()),
        }
    }
}
