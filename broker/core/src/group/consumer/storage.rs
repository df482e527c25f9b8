//! What a consumer group writes, and what it does about records that may be missing from the log.
//!
//! A decision is applied before its records are durable. Should they fail to become so, the next change
//! writes all of the group again; until then nobody is told that what builds on them is durable.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::ConsumerGroup;
use super::record::ConsumerGroupMetadata;
use crate::group::effect::{AppendId, Context, Response, Then};
use crate::group::error::{AppendError, GroupError};
use crate::group::membership::Group;
use crate::group::record::{GroupId, GroupRecord};

/// Records that may be missing from the log.
#[derive(Debug, Default)]
pub(super) struct Unstored {
    /// Nothing was written since some were found to be.
    is_due: bool,
    /// Members whose tombstones are among them.
    gone: BTreeSet<String>,
    /// Appends before this one build on them.
    doubted_before: AppendId,
}

impl Unstored {
    fn note_gone(&mut self, records: &[GroupRecord]) {
        self.gone
            .extend(records.iter().filter_map(|record| match record {
                GroupRecord::ConsumerMemberMetadata {
                    member_id,
                    value: None,
                    ..
                } => Some(member_id.clone()),
                _ => None,
            }));
    }
}

impl ConsumerGroup {
    /// Takes note of how an append ended whose records are not about offsets; `next` is the first one
    /// that is still to come. Whether all that its answer builds on is durable.
    ///
    /// # Errors
    /// Its own failure, or an earlier one's.
    pub(in crate::group) fn note_appended(
        &mut self,
        id: AppendId,
        next: AppendId,
        records: &[GroupRecord],
        result: Result<(), AppendError>,
    ) -> Result<(), AppendError> {
        if result.is_err() {
            self.unstored.is_due = true;
            self.unstored.doubted_before = next;
            self.unstored.note_gone(records);
            return result;
        }
        match id < self.unstored.doubted_before {
            true => Err(AppendError::NotReplicated),
            false => Ok(()),
        }
    }

    /// What to write instead of `records`: all of the group, if some of it may be missing.
    fn complete(&mut self, group: &GroupId, records: Vec<GroupRecord>) -> Vec<GroupRecord> {
        if !core::mem::take(&mut self.unstored.is_due) {
            return records;
        }
        self.unstored.note_gone(&records);
        let gone = core::mem::take(&mut self.unstored.gone);
        self.all_records(group, &gone)
    }

    /// Everything, as if written for the first time, and tombstones of members that are gone.
    fn all_records(&self, group: &GroupId, gone: &BTreeSet<String>) -> Vec<GroupRecord> {
        let gone = gone.iter().filter(|member_id| !self.has_member(member_id));
        let mut records: Vec<_> = gone.flat_map(|id| member_tombstones(group, id)).collect();
        for (member_id, member) in &self.members {
            records.push(GroupRecord::ConsumerMemberMetadata {
                group: group.clone(),
                member_id: member_id.clone(),
                value: member.metadata.clone(),
            });
        }
        records.push(GroupRecord::ConsumerGroupMetadata {
            group: group.clone(),
            value: Some(ConsumerGroupMetadata {
                epoch: self.epoch,
                metadata_hash: self.metadata_hash,
            }),
        });
        for (member_id, member) in &self.members {
            records.push(GroupRecord::ConsumerTargetMember {
                group: group.clone(),
                member_id: member_id.clone(),
                value: Some(member.target.clone()),
            });
        }
        records.push(GroupRecord::ConsumerTargetMetadata {
            group: group.clone(),
            value: Some(self.target_epoch),
        });
        for (member_id, member) in &self.members {
            records.push(GroupRecord::ConsumerCurrentMember {
                group: group.clone(),
                member_id: member_id.clone(),
                value: Some(member.current.clone()),
            });
        }
        records
    }

    /// Tombstones for everything; that of the group comes last.
    pub(in crate::group) fn tombstones(&self, group: &GroupId) -> Vec<GroupRecord> {
        let member_ids = self.members.keys().chain(&self.unstored.gone);
        let mut records: Vec<_> = member_ids
            .flat_map(|id| member_tombstones(group, id))
            .collect();
        records.push(GroupRecord::ConsumerTargetMetadata {
            group: group.clone(),
            value: None,
        });
        records.push(GroupRecord::ConsumerGroupMetadata {
            group: group.clone(),
            value: None,
        });
        records
    }
}

fn member_tombstones(group: &GroupId, member_id: &str) -> [GroupRecord; 3] {
    let (group, member_id) = (|| group.clone(), || String::from(member_id));
    [
        GroupRecord::ConsumerCurrentMember {
            group: group(),
            member_id: member_id(),
            value: None,
        },
        GroupRecord::ConsumerTargetMember {
            group: group(),
            member_id: member_id(),
            value: None,
        },
        GroupRecord::ConsumerMemberMetadata {
            group: group(),
            member_id: member_id(),
            value: None,
        },
    ]
}

impl Group {
    /// Answers once `records` are durable, and all that was decided before.
    pub(super) fn append_consumer(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &str,
        mut records: Vec<GroupRecord>,
        then: Then,
    ) {
        let Some(consumer) = self.consumer.as_deref_mut() else {
            return;
        };
        records = consumer.complete(&self.id, records);
        if records.is_empty() && self.appends_in_flight == 0 {
            return self.consumer_appended(cx, then, Ok(()));
        }
        if records.is_empty() {
            let member = consumer.members.get(member_id);
            records.push(GroupRecord::ConsumerCurrentMember {
                group: self.id.clone(),
                member_id: member_id.into(),
                value: member.map(|member| member.current.clone()),
            });
        }
        self.append(cx, records, then);
    }

    pub(in crate::group) fn consumer_appended(
        &mut self,
        cx: &mut Context<'_>,
        then: Then,
        result: Result<(), AppendError>,
    ) {
        let result = result.map_err(GroupError::from);
        match then {
            Then::ConsumerHeartbeat {
                answer: Some((token, heartbeat)),
            } => cx.reply(
                token,
                Response::ConsumerHeartbeat(result.map(|()| heartbeat)),
            ),
            Then::ConsumerJoin { token, joined } => {
                cx.reply(token, Response::Join(result.map(|()| joined)));
            }
            _ => {}
        }
    }
}
