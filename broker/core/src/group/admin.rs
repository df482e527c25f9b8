//! Describing and deleting groups.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::consumer::ConsumerGroupState;
use super::effect::{Context, ReplyToken, Response, Then};
use super::error::{AppendError, GroupError};
use super::membership::{CONSUMER, Group, State};
use super::record::{GroupId, GroupRecord, Opaque};
use crate::Time;

/// A group's state by its Kafka name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One line of a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group: GroupId,
    /// Empty for a group that only holds offsets.
    pub protocol_type: String,
    pub state: GroupState,
    /// Set for a group of the consumer protocol, whose state it is.
    pub consumer: Option<ConsumerGroupState>,
}

/// A group with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub state: GroupState,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

/// A member; subscription and assignment are empty unless the group is stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscription: Opaque,
    pub assignment: Opaque,
}

impl Group {
    pub(super) fn public_state(&self) -> GroupState {
        match self.state {
            State::Empty => GroupState::Empty,
            State::PreparingRebalance(_) => GroupState::PreparingRebalance,
            State::CompletingRebalance { .. } => GroupState::CompletingRebalance,
            State::Stable => GroupState::Stable,
            State::Dead => GroupState::Dead,
        }
    }

    pub(super) fn listing(&self) -> GroupListing {
        GroupListing {
            group: self.id.clone(),
            protocol_type: match self.consumer {
                Some(_) => CONSUMER.into(),
                None => self.protocol_type.clone().unwrap_or_default(),
            },
            state: self.public_state(),
            consumer: self.consumer.as_ref().map(|consumer| consumer.state()),
        }
    }

    pub(super) fn description(&self) -> GroupDescription {
        let protocol = self
            .protocol
            .as_deref()
            .filter(|_| self.state == State::Stable);
        let members = self
            .members
            .iter()
            .map(|(member_id, member)| MemberDescription {
                member_id: member_id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                subscription: member.subscription(protocol.unwrap_or_default()),
                assignment: match protocol {
                    Some(_) => member.assignment.clone(),
                    None => Opaque::from([]),
                },
            });
        GroupDescription {
            state: self.public_state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().into(),
            members: members.collect(),
        }
    }

    pub(super) fn handle_delete(&mut self, cx: &mut Context<'_>, token: ReplyToken) {
        let refusal = match self.state {
            State::Dead => GroupError::GroupIdNotFound,
            State::Empty if self.has_consumers() => GroupError::NonEmptyGroup,
            State::Empty if self.appends_in_flight > 0 => GroupError::CoordinatorNotAvailable,
            State::Empty => return self.delete(cx, Some(token)),
            _ => GroupError::NonEmptyGroup,
        };
        cx.reply(token, Response::Delete(Err(refusal)));
    }

    /// Writes tombstones for the group and all that it committed. Until they are durable nobody can
    /// join or commit.
    pub(super) fn delete(&mut self, cx: &mut Context<'_>, token: Option<ReplyToken>) {
        self.state = State::Dead;
        self.expire_pending(Time(u64::MAX));
        let mut records = self.offset_tombstones(|_| true);
        if self.is_stored {
            records.push(GroupRecord::GroupMetadata {
                group: self.id.clone(),
                value: None,
            });
        }
        if let Some(consumer) = &self.consumer {
            records.extend(consumer.tombstones(&self.id));
        }
        if !records.is_empty() {
            self.append(cx, records, Then::Delete { token });
        } else if let Some(token) = token {
            cx.reply(token, Response::Delete(Ok(())));
        }
    }

    pub(super) fn deleted(
        &mut self,
        cx: &mut Context<'_>,
        token: Option<ReplyToken>,
        result: Result<(), AppendError>,
    ) {
        if result.is_err() {
            self.state = State::Empty;
        }
        if let Some(token) = token {
            cx.reply(token, Response::Delete(result.map_err(GroupError::from)));
        }
    }
}
