//! LeaveGroup: members that say goodbye, or that an administrator removes.

use alloc::string::String;
use alloc::vec::Vec;

use super::config::UNKNOWN_MEMBER_ID;
use super::effect::{Context, RebalanceReason};
use super::error::GroupError;
use super::membership::{Group, State};
use super::record::GroupId;

/// Takes members out of a group.
#[derive(Clone, Debug)]
pub struct LeaveRequest {
    pub group: GroupId,
    pub members: Vec<LeavingMember>,
}

/// A member to take out. An administrator names a static member by its instance id alone.
#[derive(Clone, Debug)]
pub struct LeavingMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Why it leaves (KIP-800).
    pub reason: Option<String>,
}

impl Group {
    /// One result for each leaving member.
    pub(super) fn handle_leave(
        &mut self,
        cx: &mut Context<'_>,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if self.state == State::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        Ok(members
            .into_iter()
            .map(|leaving| self.leave(cx, leaving))
            .collect())
    }

    fn leave(&mut self, cx: &mut Context<'_>, leaving: LeavingMember) -> Result<(), GroupError> {
        if self.consumer.is_some() {
            let instance_id = leaving.instance_id.as_deref();
            return self.leave_consumer(cx, &leaving.member_id, instance_id, leaving.reason);
        }
        if self.take_pending(&leaving.member_id) {
            self.try_complete_join(cx);
            return Ok(());
        }
        let instance_id = leaving.instance_id.as_deref();
        let member_id = if leaving.member_id == UNKNOWN_MEMBER_ID {
            let current = instance_id.and_then(|id| self.static_members.get(id));
            current.ok_or(GroupError::UnknownMemberId)?.clone()
        } else {
            self.check_member(&leaving.member_id, instance_id)?;
            leaving.member_id
        };
        let reason = RebalanceReason::MemberLeft {
            member_id: member_id.clone(),
            client: leaving.reason,
        };
        self.expel(cx, &member_id, reason);
        Ok(())
    }
}
