//! Committed offsets of a group: committing, and giving them up when they are old.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::config::{ID_BYTES_MAX, UNKNOWN_MEMBER_ID};
use super::consumer::record::GroupEpoch;
use super::effect::{Context, ReplyToken, Response, Then};
use super::error::GroupError;
use super::membership::{Group, State};
use super::record::{CommittedOffset, Generation, GroupId, GroupRecord};
use crate::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

/// Commits offsets, as a member or, for a group without members, as anybody.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub group: GroupId,
    /// [`UNKNOWN_MEMBER_ID`] and [`Generation::NONE`] from those who are not members.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: Generation,
    pub offsets: Vec<OffsetToCommit>,
}

/// One partition's part of a [`CommitRequest`].
#[derive(Clone, Debug)]
pub struct OffsetToCommit {
    pub topic: String,
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
    pub expire_timestamp: Option<Timestamp>,
}

/// Gives up single committed offsets (KIP-496).
#[derive(Clone, Debug)]
pub struct DeleteOffsetsRequest {
    pub group: GroupId,
    pub partitions: Vec<(String, PartitionIndex)>,
}

/// A group's committed offsets by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<PartitionIndex, StoredOffset>>,
}

/// A committed offset, and where in the log its record is: of two for one partition the later record
/// counts, whatever the order in which they came to count.
#[derive(Clone, Debug)]
pub(super) struct StoredOffset {
    pub(super) at: Offset,
    pub(super) committed: CommittedOffset,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_topic.values().map(BTreeMap::len).sum()
    }

    pub(super) fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        let stored = self.by_topic.get(topic)?.get(&partition)?;
        Some(&stored.committed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, PartitionIndex, &CommittedOffset)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, stored)| (topic.as_str(), *partition, &stored.committed))
        })
    }

    /// Takes over an offset unless there is a later one. Returns whether there was none.
    pub(super) fn insert(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        stored: StoredOffset,
    ) -> bool {
        let Some(partitions) = self.by_topic.get_mut(topic) else {
            let partitions = BTreeMap::from([(partition, stored)]);
            self.by_topic.insert(topic.into(), partitions);
            return true;
        };
        match partitions.entry(partition) {
            Entry::Vacant(vacant) => {
                vacant.insert(stored);
                true
            }
            Entry::Occupied(mut known) => {
                if known.get().at <= stored.at {
                    known.insert(stored);
                }
                false
            }
        }
    }

    /// A tombstone is at `at`: removes what came before it. Returns whether there was anything.
    pub(super) fn remove(&mut self, topic: &str, partition: PartitionIndex, at: Offset) -> bool {
        let Some(partitions) = self.by_topic.get_mut(topic) else {
            return false;
        };
        let removed = partitions
            .get(&partition)
            .is_some_and(|stored| stored.at <= at);
        if removed {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.by_topic.remove(topic);
        }
        removed
    }
}

impl Group {
    pub(super) fn handle_commit(
        &mut self,
        cx: &mut Context<'_>,
        request: CommitRequest,
        token: ReplyToken,
    ) {
        if let Err(error) = self.check_commit(&request) {
            cx.reply(token, Response::CommitOffsets(Err(error)));
            return;
        }
        let (records, results) = self.commit_records(cx, request);
        if records.is_empty() {
            cx.reply(token, Response::CommitOffsets(Ok(results)));
        } else {
            self.append(cx, records, Then::CommitOffsets { token, results });
        }
    }

    /// The records of a request that may commit, and what becomes of each of its offsets.
    pub(super) fn commit_records(
        &mut self,
        cx: &Context<'_>,
        request: CommitRequest,
    ) -> (Vec<GroupRecord>, Vec<Result<(), GroupError>>) {
        self.renew_session(cx, &request.member_id);
        let mut results = Vec::with_capacity(request.offsets.len());
        let mut records = Vec::with_capacity(request.offsets.len());
        for offset in request.offsets {
            if offset.metadata.len() > cx.config.offset_metadata_bytes_max.min(ID_BYTES_MAX) {
                results.push(Err(GroupError::OffsetMetadataTooLarge));
            } else {
                results.push(Ok(()));
                records.push(offset.into_record(self.id.clone(), cx.now.timestamp));
            }
        }
        (records, results)
    }

    pub(super) fn check_commit(&self, request: &CommitRequest) -> Result<(), GroupError> {
        let is_outsider = request.generation < Generation(0);
        if let Some(consumer) = self
            .consumer
            .as_ref()
            .filter(|consumer| !consumer.is_empty())
        {
            return consumer.check_epoch(&request.member_id, GroupEpoch(request.generation.0));
        }
        match self.state {
            State::Dead => return Err(GroupError::CoordinatorNotAvailable),
            State::Empty if is_outsider => return Ok(()),
            _ => {}
        }
        if is_outsider && request.member_id == UNKNOWN_MEMBER_ID && request.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        // While members join they may still commit what they have done; afterwards the partitions
        // may be another member's.
        if matches!(self.state, State::CompletingRebalance { .. }) {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// As [`Self::check_commit`], for offsets in a transaction: producers that name no member are not
    /// checked, whoever is in the group, as they did not name one before KIP-447.
    pub(super) fn check_transactional_commit(
        &self,
        request: &CommitRequest,
    ) -> Result<(), GroupError> {
        let names_nobody = request.generation < Generation(0)
            && request.member_id == UNKNOWN_MEMBER_ID
            && request.instance_id.is_none();
        match self.state {
            State::Dead => Err(GroupError::CoordinatorNotAvailable),
            _ if names_nobody => Ok(()),
            _ => self.check_commit(request),
        }
    }

    /// Topics that a member consumes keep their offsets. Answered once the tombstones are durable.
    pub(super) fn handle_delete_offsets(
        &mut self,
        cx: &mut Context<'_>,
        request: &DeleteOffsetsRequest,
        token: ReplyToken,
    ) {
        let refusal = match self.state {
            State::Dead => Some(GroupError::GroupIdNotFound),
            _ if self.consumer.is_some() => None,
            State::Empty => None,
            _ => (!self.uses_consumer_protocol()).then_some(GroupError::NonEmptyGroup),
        };
        if let Some(refusal) = refusal {
            cx.reply(token, Response::DeleteOffsets(Err(refusal)));
            return;
        }
        let subscriptions = self.subscriptions();
        let mut results = Vec::with_capacity(request.partitions.len());
        let mut records = Vec::new();
        for (topic, partition) in &request.partitions {
            if subscriptions.may_have(topic) {
                results.push(Err(GroupError::SubscribedToTopic));
                continue;
            }
            results.push(Ok(()));
            if self.offsets.get(topic, *partition).is_some()
                || self.pending_offsets.contains(topic, *partition)
            {
                records.push(self.offset_tombstone(topic, *partition));
            }
        }
        if records.is_empty() {
            cx.reply(token, Response::DeleteOffsets(Ok(results)));
        } else {
            let answer = Some((token, results));
            self.append(cx, records, Then::DeleteOffsets { answer });
        }
    }

    /// Gives up offsets that nobody has used for the retention, and the group with the last of them.
    /// A stable group of consumers keeps those of the topics that it consumes (KIP-211), any other
    /// group with members all.
    pub(super) fn expire_offsets(&mut self, cx: &mut Context<'_>) {
        if self.has_consumers() || (self.state == State::Stable && self.uses_consumer_protocol()) {
            self.expire_unsubscribed(cx);
            return;
        }
        let changes = self.appends_in_flight > 0 || !self.pending_offsets.is_empty();
        if self.state != State::Empty || changes || self.has_pending_members() {
            return;
        }
        let expired: Vec<GroupRecord> = self
            .offsets
            .iter()
            .filter(|(_, _, committed)| self.is_expired(cx, committed))
            .map(|(topic, partition, _)| self.offset_tombstone(topic, partition))
            .collect();
        if expired.len() == self.offsets.len() {
            self.delete(cx, None);
        } else if !expired.is_empty() {
            self.append(cx, expired, Then::DeleteOffsets { answer: None });
        }
    }

    fn expire_unsubscribed(&mut self, cx: &mut Context<'_>) {
        let old = |committed: &CommittedOffset| match committed.expire_timestamp {
            Some(expire_timestamp) => cx.now.timestamp >= expire_timestamp,
            None => is_unused(cx, committed.commit_timestamp),
        };
        if !self.offsets.iter().any(|(.., committed)| old(committed)) {
            return;
        }
        let subscriptions = self.subscriptions();
        let expired: Vec<GroupRecord> = self
            .offsets
            .iter()
            .filter(|(topic, _, committed)| old(committed) && !subscriptions.may_have(topic))
            .filter(|(topic, partition, _)| !self.pending_offsets.contains(topic, *partition))
            .map(|(topic, partition, _)| self.offset_tombstone(topic, partition))
            .collect();
        if !expired.is_empty() {
            self.append(cx, expired, Then::DeleteOffsets { answer: None });
        }
    }

    /// Counts from the last commit or, if later, from when the last member left (KIP-211).
    fn is_expired(&self, cx: &Context<'_>, committed: &CommittedOffset) -> bool {
        let now = cx.now.timestamp;
        if let Some(expire_timestamp) = committed.expire_timestamp {
            return now >= expire_timestamp;
        }
        is_unused(cx, committed.commit_timestamp.max(self.state_timestamp))
    }

    pub(super) fn delete_topic(&mut self, cx: &mut Context<'_>, topic: &str) {
        let records = self.offset_tombstones(|of| of == topic);
        if !records.is_empty() {
            self.append(cx, records, Then::DeleteOffsets { answer: None });
        }
    }

    /// For all offsets of such topics, pending ones among them.
    pub(super) fn offset_tombstones(&self, of: impl Fn(&str) -> bool) -> Vec<GroupRecord> {
        let committed = self.offsets.iter();
        let committed = committed.map(|(topic, partition, _)| (topic, partition));
        let known: BTreeSet<_> = committed
            .chain(self.pending_offsets.partitions())
            .filter(|(topic, _)| of(topic))
            .collect();
        let tombstone = |(topic, partition)| self.offset_tombstone(topic, partition);
        known.into_iter().map(tombstone).collect()
    }

    pub(super) fn offset_tombstone(&self, topic: &str, partition: PartitionIndex) -> GroupRecord {
        GroupRecord::OffsetCommit {
            group: self.id.clone(),
            topic: topic.into(),
            partition,
            value: None,
        }
    }
}

/// Whether the retention has passed.
fn is_unused(cx: &Context<'_>, since: Timestamp) -> bool {
    let unused_ms = cx.now.timestamp.0.saturating_sub(since.0);
    u128::try_from(unused_ms).is_ok_and(|ms| ms >= cx.config.offsets_retention.as_millis())
}

impl OffsetToCommit {
    fn into_record(self, group: GroupId, commit_timestamp: Timestamp) -> GroupRecord {
        GroupRecord::OffsetCommit {
            group,
            topic: self.topic,
            partition: self.partition,
            value: Some(CommittedOffset {
                offset: self.offset,
                leader_epoch: self.leader_epoch,
                metadata: self.metadata,
                commit_timestamp,
                expire_timestamp: self.expire_timestamp,
            }),
        }
    }
}
