//! What a group sends to the log, and what follows once it is there.

use alloc::vec::Vec;

use super::effect::{Context, RebalanceReason, Response, Then};
use super::error::{AppendError, GroupError};
use super::member::Member;
use super::membership::{Group, State};
use super::record::{GroupMetadata, GroupRecord, Opaque};

impl Group {
    pub(super) fn append(&mut self, cx: &mut Context<'_>, records: Vec<GroupRecord>, then: Then) {
        self.appends_in_flight += 1;
        cx.append(&self.id, records, then);
    }

    /// Stores the group as it is now, with `assignment` for each member.
    pub(super) fn append_metadata(
        &mut self,
        cx: &mut Context<'_>,
        assignment: impl Fn(&str, &Member) -> Opaque,
        then: Then,
    ) {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self
            .members
            .iter()
            .map(|(id, member)| member.metadata(id, protocol, assignment(id, member)))
            .collect();
        let value = GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp,
            members,
        };
        self.is_stored = true;
        let record = GroupRecord::GroupMetadata {
            group: self.id.clone(),
            value: Some(value),
        };
        self.append(cx, [record].into(), then);
    }

    /// The records are committed, and applied if they are offsets or tombstones; or they failed.
    pub(super) fn handle_appended(
        &mut self,
        cx: &mut Context<'_>,
        then: Then,
        result: Result<(), AppendError>,
    ) {
        match then {
            Then::CommitOffsets { token, results } => {
                let result = result.map(|()| results).map_err(GroupError::from);
                cx.reply(token, Response::CommitOffsets(result));
            }
            Then::StoreAssignment {
                generation,
                assignments,
            } => {
                self.assignment_stored(cx, generation, assignments, result);
            }
            Then::ReplaceStaticMember { token, joined } => {
                if result.is_err()
                    && self.state == State::Stable
                    && self.generation == joined.generation
                {
                    // The log still names the old member; the next generation's record will not.
                    self.prepare_rebalance(cx, RebalanceReason::NotStored);
                }
                let result = result.map(|()| joined).map_err(GroupError::from);
                cx.reply(token, Response::Join(result));
            }
            Then::Delete { token } => self.deleted(cx, token, result),
            Then::DeleteOffsets {
                answer: Some((token, results)),
            } => {
                let result = result.map(|()| results).map_err(GroupError::from);
                cx.reply(token, Response::DeleteOffsets(result));
            }
            Then::ConsumerHeartbeat { .. } | Then::ConsumerJoin { .. } => {
                self.consumer_appended(cx, then, result);
            }
            Then::DeleteOffsets { answer: None } | Then::StoreEmpty => {}
        }
    }
}
