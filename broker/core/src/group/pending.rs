//! Offsets that are committed within transactions (KIP-98, KIP-447): they count once the transaction is
//! committed, and are pending from the append of their records until its marker.
//!
//! Invariant: what is pending is what the log has of transactions without a marker, live as after
//! loading, because the shell appends and applies these records in one step.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::effect::Context;
use super::error::GroupError;
use super::groups::{Groups, Now};
use super::membership::Group;
use super::offsets::{CommitRequest, StoredOffset};
use super::record::{GroupId, GroupRecord};
use crate::partition::TransactionOutcome;
use crate::transaction::Producer;
use crate::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

/// What is to be appended for a TxnOffsetCommit.
#[derive(Debug)]
pub struct TransactionalCommit {
    /// None when every offset was refused.
    pub records: Vec<GroupRecord>,
    /// One for each offset of the request, in its order.
    pub results: Vec<Result<(), GroupError>>,
}

/// Which of a producer's pending offsets a marker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Those before the marker, which is at this offset.
    Before(Offset),
    /// Those of earlier epochs: the marker, which raised the epoch, has been in the log for a while.
    BelowEpoch(ProducerEpoch),
}

/// Groups in which producers have pending offsets.
#[derive(Debug, Default)]
pub(super) struct TransactionalGroups(BTreeMap<ProducerId, BTreeSet<GroupId>>);

/// A group's pending offsets.
#[derive(Debug, Default)]
pub(super) struct PendingOffsets(
    BTreeMap<ProducerId, BTreeMap<(String, PartitionIndex), PendingOffset>>,
);

#[derive(Debug)]
struct PendingOffset {
    epoch: ProducerEpoch,
    stored: StoredOffset,
}

impl Ending {
    fn ends(self, pending: &PendingOffset) -> bool {
        match self {
            Self::Before(marker) => pending.stored.at < marker,
            Self::BelowEpoch(epoch) => pending.epoch < epoch,
        }
    }
}

impl PendingOffsets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, topic: &str, partition: PartitionIndex) -> bool {
        let key = (String::from(topic), partition);
        self.0.values().any(|offsets| offsets.contains_key(&key))
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (&str, PartitionIndex)> {
        let keys = self.0.values().flat_map(BTreeMap::keys);
        keys.map(|(topic, partition)| (topic.as_str(), *partition))
    }

    /// A tombstone is at `at`: what came before it never counts. Returns how many there were.
    pub(super) fn remove(&mut self, topic: &str, partition: PartitionIndex, at: Offset) -> usize {
        let key = (String::from(topic), partition);
        let before = |offsets: &BTreeMap<_, PendingOffset>| {
            let pending = offsets.get(&key);
            pending.is_some_and(|pending| pending.stored.at < at)
        };
        let mut removed = 0;
        for offsets in self.0.values_mut().filter(|offsets| before(offsets)) {
            offsets.remove(&key);
            removed += 1;
        }
        self.0.retain(|_, offsets| !offsets.is_empty());
        removed
    }

    /// Returns whether nothing of this producer was pending for the partition.
    fn insert(
        &mut self,
        producer: Producer,
        key: (String, PartitionIndex),
        stored: StoredOffset,
    ) -> bool {
        let epoch = producer.epoch;
        let offsets = self.0.entry(producer.id).or_default();
        let pending = PendingOffset { epoch, stored };
        offsets.insert(key, pending).is_none()
    }

    /// Takes out what has ended, by topic and partition.
    fn end(
        &mut self,
        producer: ProducerId,
        ending: Ending,
    ) -> BTreeMap<(String, PartitionIndex), StoredOffset> {
        let Some(offsets) = self.0.get_mut(&producer) else {
            return BTreeMap::new();
        };
        let ended = offsets.extract_if(.., |_, pending| ending.ends(pending));
        let ended = ended.map(|(key, pending)| (key, pending.stored)).collect();
        if offsets.is_empty() {
            self.0.remove(&producer);
        }
        ended
    }
}

impl Groups {
    /// TxnOffsetCommit: the records to append to the transaction. The shell appends them at once and
    /// passes each to [`Groups::apply_pending`] before the groups hear of anything else.
    ///
    /// # Errors
    /// [`GroupError`], as for a commit without a transaction.
    pub fn decide_transactional_commit(
        &mut self,
        now: Now,
        request: CommitRequest,
    ) -> Result<TransactionalCommit, GroupError> {
        self.check_commit(&request)?;
        let id = request.group.clone();
        // These records overtake the tombstones that wait to be written, which would undo them.
        if self.appends.delete_offsets_of(&id) {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.create_group(&id);
        let decide = |group: &mut Group, cx: &mut Context<'_>| {
            group.check_transactional_commit(&request)?;
            let (records, results) = group.commit_records(cx, request);
            Ok(TransactionalCommit { records, results })
        };
        let decided = self.with_group(now, &id, &mut Vec::new(), decide);
        decided.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    /// A record of a transaction is in the log at `at`, or not far behind, committed or not.
    pub fn apply_pending(&mut self, producer: Producer, record: &GroupRecord, at: Offset) {
        let GroupRecord::OffsetCommit {
            group: id,
            topic,
            partition,
            value: Some(committed),
        } = record
        else {
            return;
        };
        self.create_group(id);
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let committed = committed.clone();
        let stored = StoredOffset { at, committed };
        let key = (topic.clone(), *partition);
        let is_new = group.pending_offsets.insert(producer, key, stored);
        self.offsets += usize::from(is_new);
        let groups = self.transactional.0.entry(producer.id).or_default();
        groups.insert(id.clone());
    }

    /// A marker is replicated: its transaction's offsets count from now on, or never will.
    pub fn end_transaction(
        &mut self,
        producer: ProducerId,
        ending: Ending,
        outcome: TransactionOutcome,
    ) {
        let Some(ids) = self.transactional.0.remove(&producer) else {
            return;
        };
        let mut left = BTreeSet::new();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            let ended = group.pending_offsets.end(producer, ending);
            self.offsets -= ended.len();
            if outcome == TransactionOutcome::Commit {
                for ((topic, partition), stored) in ended {
                    let is_new = group.offsets.insert(&topic, partition, stored);
                    self.offsets += usize::from(is_new);
                }
            }
            if group.is_unused() {
                self.groups.remove(&id);
            } else if group.pending_offsets.0.contains_key(&producer) {
                left.insert(id);
            }
        }
        if !left.is_empty() {
            self.transactional.0.insert(producer, left);
        }
    }

    /// Whether a transaction that has not ended commits an offset for the partition (KIP-447).
    #[must_use]
    pub fn has_pending_offset(&self, group: &str, topic: &str, partition: PartitionIndex) -> bool {
        let group = self.groups.get(group);
        group.is_some_and(|group| group.pending_offsets.contains(topic, partition))
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::group::tests::NoTopics;
    use crate::group::{
        CommittedOffset, Effect, Generation, GroupConfig, JoinFeatures, JoinRequest,
        OffsetToCommit, Opaque, Protocol, ReplyToken,
    };
    use crate::{LeaderEpoch, Time, Timestamp};

    const GROUP: &str = "g";
    const NOW: Now = Now {
        time: Time(0),
        timestamp: Timestamp(0),
    };

    fn producer(id: i64, epoch: i16) -> Producer {
        Producer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
        }
    }

    fn commit(partition: i32, offset: i64) -> CommitRequest {
        CommitRequest {
            group: GROUP.into(),
            member_id: String::new(),
            instance_id: None,
            generation: Generation::NONE,
            offsets: vec![OffsetToCommit {
                topic: "t".into(),
                partition: PartitionIndex(partition),
                offset: Offset(offset),
                leader_epoch: LeaderEpoch::NONE,
                metadata: String::new(),
                expire_timestamp: None,
            }],
        }
    }

    /// A record that commits `at` itself.
    fn record(partition: i32, at: i64) -> GroupRecord {
        GroupRecord::OffsetCommit {
            group: GROUP.into(),
            topic: "t".to_owned(),
            partition: PartitionIndex(partition),
            value: Some(CommittedOffset {
                offset: Offset(at),
                leader_epoch: LeaderEpoch::NONE,
                metadata: String::new(),
                commit_timestamp: Timestamp(0),
                expire_timestamp: None,
            }),
        }
    }

    fn committed(groups: &Groups) -> Vec<(PartitionIndex, i64)> {
        let offsets = groups.committed_offsets(GROUP);
        offsets
            .map(|(_, index, found)| (index, found.offset.0))
            .collect()
    }

    fn is_pending(groups: &Groups, partition: i32) -> bool {
        groups.has_pending_offset(GROUP, "t", PartitionIndex(partition))
    }

    #[test]
    fn offsets_of_a_transaction_count_with_its_commit_and_never_after_its_abort() {
        use TransactionOutcome::{Abort, Commit};
        let mut groups = Groups::new(GroupConfig::default());
        for (at, outcome, expected) in [
            (0, Abort, vec![]),
            (10, Commit, vec![(PartitionIndex(3), 70)]),
        ] {
            let decided = groups
                .decide_transactional_commit(NOW, commit(3, 70))
                .unwrap();
            assert_eq!(decided.results, [Ok(())]);
            assert!(committed(&groups).is_empty());
            for record in &decided.records {
                groups.apply_pending(producer(1, 0), record, Offset(at));
            }
            assert!(is_pending(&groups, 3) && !is_pending(&groups, 4));
            let earlier = Ending::Before(Offset(at));
            groups.end_transaction(ProducerId(1), earlier, Commit);
            groups.end_transaction(ProducerId(2), Ending::Before(Offset(99)), Commit);
            assert!(is_pending(&groups, 3), "its own marker ends it");
            let marker = Ending::Before(Offset(at + 1));
            groups.end_transaction(ProducerId(1), marker, outcome);
            assert!(!is_pending(&groups, 3));
            assert_eq!(committed(&groups), expected);
        }
        assert_eq!(groups.offsets, 1);
    }

    #[test]
    fn a_group_is_kept_for_what_is_pending_and_goes_when_that_is_aborted() {
        let mut groups = Groups::new(GroupConfig::default());
        groups.apply_pending(producer(1, 0), &record(0, 0), Offset(0));
        groups.expire_offsets(NOW, &mut Vec::new());
        assert_eq!(groups.list().count(), 1);
        let marker = Ending::Before(Offset(1));
        groups.end_transaction(ProducerId(1), marker, TransactionOutcome::Abort);
        assert_eq!(groups.list().count(), 0);
        assert_eq!(groups.offsets, 0);
    }

    #[test]
    fn a_late_copy_of_a_marker_leaves_the_next_transaction_alone() {
        let mut groups = Groups::new(GroupConfig::default());
        groups.apply_pending(producer(1, 5), &record(0, 0), Offset(0));
        let copy = Ending::BelowEpoch(ProducerEpoch(5));
        groups.end_transaction(ProducerId(1), copy, TransactionOutcome::Commit);
        assert!(is_pending(&groups, 0));
        let next = Ending::BelowEpoch(ProducerEpoch(6));
        groups.end_transaction(ProducerId(1), next, TransactionOutcome::Commit);
        assert_eq!(committed(&groups), [(PartitionIndex(0), 0)]);
    }

    fn effects(groups: &mut Groups, f: impl FnOnce(&mut Groups, &mut Vec<Effect>)) -> Vec<Effect> {
        let mut out = Vec::new();
        f(groups, &mut out);
        out
    }

    fn appended(groups: &mut Groups, effects: &[Effect], at: i64) {
        for effect in effects {
            if let Effect::Append { id, .. } = effect {
                groups.handle_appended(NOW, *id, Ok(Offset(at)), &mut Vec::new());
            }
        }
    }

    #[test]
    fn producers_that_name_no_member_may_commit_while_the_group_has_some() {
        let mut groups = Groups::new(GroupConfig::default());
        let join = JoinRequest {
            group: GROUP.into(),
            member_id: String::new(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "h".into(),
            member_id_suffix: "m".into(),
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Opaque::from([]),
            }],
            session_timeout: GroupConfig::default().session_timeout_min,
            rebalance_timeout: GroupConfig::default().session_timeout_min,
            reason: None,
            features: JoinFeatures::default(),
        };
        groups.handle_join(NOW, join, &NoTopics, ReplyToken(1), &mut Vec::new());
        assert_eq!(groups.describe(GROUP).unwrap().members.len(), 1);
        let decided = groups.decide_transactional_commit(NOW, commit(3, 70));
        assert_eq!(decided.unwrap().results, [Ok(())]);
        let stranger = CommitRequest {
            member_id: "stranger".into(),
            ..commit(3, 70)
        };
        let refused = groups.decide_transactional_commit(NOW, stranger);
        assert_eq!(refused.unwrap_err(), GroupError::UnknownMemberId);
    }

    #[test]
    fn a_deleted_group_takes_what_is_pending_with_it() {
        let mut groups = Groups::new(GroupConfig::default());
        groups.apply_pending(producer(1, 0), &record(0, 0), Offset(0));
        let deleting = effects(&mut groups, |groups, out| {
            groups.handle_delete(NOW, GROUP, ReplyToken(1), out);
        });
        appended(&mut groups, &deleting, 1);
        assert_eq!(groups.list().count(), 0);
        assert_eq!(groups.offsets, 0);
        let marker = Ending::Before(Offset(2));
        groups.end_transaction(ProducerId(1), marker, TransactionOutcome::Commit);
        assert!(committed(&groups).is_empty());
        assert!(
            groups
                .decide_transactional_commit(NOW, commit(0, 1))
                .is_ok()
        );
    }

    #[test]
    fn tombstones_on_their_way_are_not_overtaken() {
        let mut groups = Groups::new(GroupConfig::default());
        groups.apply(&record(0, 0), Offset(0));
        let deleting = effects(&mut groups, |groups, out| {
            groups.handle_topic_deleted(NOW, "t", out);
        });
        let refused = groups.decide_transactional_commit(NOW, commit(0, 1));
        assert_eq!(refused.unwrap_err(), GroupError::CoordinatorNotAvailable);
        appended(&mut groups, &deleting, 1);
        let decided = groups.decide_transactional_commit(NOW, commit(0, 1));
        assert!(decided.is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Commit {
            partition: i32,
        },
        Delete {
            partition: i32,
        },
        CommitIn {
            producer: i64,
            partition: i32,
        },
        End {
            producer: i64,
            commits: bool,
        },
        /// The oldest append but so many is known to be replicated.
        Replicated(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3).prop_map(|partition| Step::Commit { partition }),
            (0..3).prop_map(|partition| Step::Delete { partition }),
            (0..2i64, 0..3).prop_map(|(producer, partition)| Step::CommitIn {
                producer,
                partition
            }),
            (0..2i64, any::<bool>())
                .prop_map(|(producer, commits)| Step::End { producer, commits }),
            (0..3usize).prop_map(Step::Replicated),
        ]
    }

    fn take_over(groups: &mut Groups, step: &Step, at: i64) {
        match *step {
            Step::Commit { partition } => groups.apply(&record(partition, at), Offset(at)),
            Step::Delete { partition } => {
                let tombstone = GroupRecord::OffsetCommit {
                    group: GROUP.into(),
                    topic: "t".to_owned(),
                    partition: PartitionIndex(partition),
                    value: None,
                };
                groups.apply(&tombstone, Offset(at));
            }
            Step::CommitIn {
                producer: id,
                partition,
            } => {
                groups.apply_pending(producer(id, 0), &record(partition, at), Offset(at));
            }
            Step::End { producer, commits } => {
                let outcome = match commits {
                    true => TransactionOutcome::Commit,
                    false => TransactionOutcome::Abort,
                };
                let marker = Ending::Before(Offset(at));
                groups.end_transaction(ProducerId(producer), marker, outcome);
            }
            Step::Replicated(_) => {}
        }
    }

    proptest! {
        /// Commits and markers come to count in any order, as their tasks happen to run.
        #[test]
        fn what_is_committed_is_what_a_new_coordinator_finds_in_the_log(
            steps in prop::collection::vec(step(), 0..60)
        ) {
            let mut groups = Groups::new(GroupConfig::default());
            let mut unreplicated: Vec<(i64, Step)> = Vec::new();
            let mut log = Vec::new();
            for step in steps {
                let at = log.len() as i64;
                // The next transaction of a producer waits for the marker of the one before.
                let waits_for = |id: i64| unreplicated.iter().position(
                    |(_, step)| matches!(step, Step::End { producer, .. } if *producer == id),
                );
                match step {
                    Step::CommitIn { producer, .. } if waits_for(producer).is_none() => {
                        take_over(&mut groups, &step, at);
                        log.push(step);
                    }
                    Step::CommitIn { .. } => {}
                    Step::End { producer, .. } if waits_for(producer).is_some() => {}
                    Step::Commit { .. } | Step::Delete { .. } | Step::End { .. } => {
                        unreplicated.push((at, step.clone()));
                        log.push(step);
                    }
                    Step::Replicated(behind) if behind < unreplicated.len() => {
                        // The writer waits for one batch after the other.
                        let is_written = |step: &Step| !matches!(step, Step::End { .. });
                        let first = unreplicated.iter().position(|(_, step)| is_written(step));
                        let behind = match is_written(&unreplicated[behind].1) {
                            true => first.unwrap(),
                            false => behind,
                        };
                        let (at, step) = unreplicated.remove(behind);
                        take_over(&mut groups, &step, at);
                    }
                    Step::Replicated(_) => {}
                }
            }
            for (at, step) in unreplicated {
                take_over(&mut groups, &step, at);
            }
            let mut loaded = Groups::new(GroupConfig::default());
            for (at, step) in log.iter().enumerate() {
                take_over(&mut loaded, step, at as i64);
            }
            prop_assert_eq!(committed(&groups), committed(&loaded));
            prop_assert_eq!(groups.offsets, loaded.offsets);
            for partition in 0..3 {
                prop_assert_eq!(is_pending(&groups, partition), is_pending(&loaded, partition));
            }
        }
    }
}
