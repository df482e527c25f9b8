//! The coordinator over a log in memory.

mod consumer;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::AppendError;
use broker_core::lease::Lease;
use broker_core::partition::{EndMarker, MarkerEpoch, TransactionOutcome, VerificationGuard};
use broker_core::transaction::Producer;
use broker_core::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId};
use broker_wire::message::join_group::JoinGroupRequestProtocol;
use broker_wire::message::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use broker_wire::message::offset_fetch::OffsetFetchRequestTopic;
use broker_wire::message::sync_group::SyncGroupRequestAssignment;
use broker_wire::message::txn_offset_commit::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use broker_wire::message::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, TxnOffsetCommitRequest,
};
use broker_wire::record::{ControlRecordType, EndTransactionMarker, batches, patch_base_offset};
use broker_wire::{ErrorCode, Str};
use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::clock;
use crate::partition::{self, Appended, AppendedMarker};

const GROUP: &str = "orders";
const JOIN_VERSION: i16 = 9;

/// Batches of one partition, of which those below the high watermark are committed.
#[derive(Clone, Default)]
struct MemoryLog(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    end: i64,
    /// Nothing at or after it is committed.
    high_watermark_max: Option<i64>,
    append_error: Option<AppendError>,
}

impl Contents {
    fn push(&mut self, batch: &[u8]) -> Offset {
        let mut batch = batch.to_vec();
        let base_offset = self.end;
        patch_base_offset(&mut batch, base_offset);
        self.end = batches(&batch).next().unwrap().unwrap().0.next_offset();
        self.bytes.extend(batch);
        Offset(base_offset)
    }
}

impl PartitionLog for MemoryLog {
    fn offsets(&self) -> Result<Range<Offset>, ReadError> {
        Ok(Offset(0)..Offset(self.0.lock().end))
    }

    async fn read(&self, from: Offset) -> Result<Bytes, ReadError> {
        let contents = self.0.lock();
        let high_watermark = contents.high_watermark_max.unwrap_or(contents.end);
        // One batch at a time, as if they were large.
        let found = batches(&contents.bytes).flatten().find(|(header, _)| {
            header.next_offset() > from.0 && header.next_offset() <= high_watermark
        });
        Ok(found.map_or_else(Bytes::new, |(_, batch)| Bytes::copy_from_slice(batch)))
    }

    async fn append(&self, batch: Bytes) -> Result<Offset, AppendError> {
        let mut contents = self.0.lock();
        if let Some(error) = contents.append_error {
            return Err(error);
        }
        Ok(contents.push(&batch))
    }

    fn begin_verification(
        &self,
        _producer: Producer,
    ) -> Result<Option<VerificationGuard>, partition::AppendError> {
        Ok(None)
    }

    fn begin_append(
        &self,
        batch: Bytes,
        _guard: Option<VerificationGuard>,
    ) -> Result<Appended, partition::AppendError> {
        Ok(Appended {
            base_offset: Some(self.0.lock().push(&batch)),
            log_start: Offset(0),
            log_append_time: None,
            acknowledged: None,
        })
    }

    fn append_marker(
        &self,
        marker: &EndMarker,
        _epoch: MarkerEpoch,
    ) -> Result<AppendedMarker, partition::AppendError> {
        let marker = EndTransactionMarker {
            kind: match marker.outcome {
                TransactionOutcome::Abort => ControlRecordType::Abort,
                TransactionOutcome::Commit => ControlRecordType::Commit,
            },
            producer_id: marker.producer_id.0,
            producer_epoch: marker.producer_epoch.0,
            coordinator_epoch: marker.coordinator_epoch.0,
            timestamp: 0,
        };
        Ok(AppendedMarker {
            offset: Some(self.0.lock().push(&marker.build(0).unwrap())),
            acknowledged: None,
        })
    }
}

type Coordinator = GroupCoordinator<MemoryLog>;

fn coordinator() -> Coordinator {
    let lease = Arc::new(Lease::default());
    lease.accept(clock::now(), Duration::from_secs(3600));
    coordinator_with(lease)
}

fn coordinator_with(lease: Arc<Lease>) -> Coordinator {
    let initial_rebalance_delay = Duration::from_millis(10);
    GroupCoordinator::new(
        GroupConfig {
            initial_rebalance_delay,
            ..GroupConfig::default()
        },
        50,
        lease,
    )
}

/// Becomes the group's coordinator over `log`.
async fn lead(coordinator: &Coordinator, log: &MemoryLog) {
    coordinator.on_leader(coordinator.find(GROUP), LeaderEpoch(1), log.clone());
    wait_until_loaded(coordinator).await;
}

async fn wait_until_loaded(coordinator: &Coordinator) {
    while fetch(coordinator, 7).1 == ErrorCode::CoordinatorLoadInProgress {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn fetch(coordinator: &Coordinator, version: i16) -> (i64, ErrorCode) {
    fetch_as(coordinator, version, true)
}

fn fetch_as(coordinator: &Coordinator, version: i16, is_confirmed: bool) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic {
        name: "payments".into(),
        partition_indexes: vec![0],
    };
    let request = OffsetFetchRequest {
        group_id: GROUP.into(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequest::default()
    };
    let response = coordinator.fetch_offsets(request, version, is_confirmed);
    let found = response.topics.first().map(|topic| &topic.partitions[0]);
    (
        found.map_or(-1, |found| found.committed_offset),
        response.error_code,
    )
}

fn join_request(member_id: Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"subscription"),
        }],
        ..JoinGroupRequest::default()
    }
}

fn client() -> Client {
    Client {
        id: "tests".into(),
        host: "/127.0.0.1".into(),
    }
}

/// Joins as the only member, with the extra round for the member id.
async fn join(coordinator: &Coordinator) -> JoinGroupResponse {
    let first = coordinator
        .join(
            join_request(Str::default()),
            JOIN_VERSION,
            client(),
            Arc::default(),
        )
        .await;
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired);
    let joined = coordinator
        .join(
            join_request(first.member_id),
            JOIN_VERSION,
            client(),
            Arc::default(),
        )
        .await;
    assert_eq!(joined.error_code, ErrorCode::None);
    joined
}

fn sync_request(joined: &JoinGroupResponse) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"everything"),
        }],
        ..SyncGroupRequest::default()
    }
}

fn heartbeat(coordinator: &Coordinator, joined: &JoinGroupResponse) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    coordinator.heartbeat(&request).error_code
}

/// Commits offset 42 for a partition that exists and one that does not.
async fn commit(coordinator: &Coordinator, joined: Option<&JoinGroupResponse>) -> [ErrorCode; 2] {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 42,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "payments".into(),
        partitions: vec![partition(9), partition(0)],
    };
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: joined.map_or(-1, |joined| joined.generation_id),
        member_id: joined.map_or_else(Str::default, |joined| joined.member_id.clone()),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let exists = |_: &str, partition: PartitionIndex| partition.0 < 3;
    let response = coordinator.commit_offsets(request, exists).await;
    [0, 1].map(|i| response.topics[0].partitions[i].error_code)
}

const COMMITTED: [ErrorCode; 2] = [ErrorCode::UnknownTopicOrPartition, ErrorCode::None];

#[test]
fn groups_spread_as_in_kafka() {
    let hashes = [
        ("", 0),
        ("abc", 96_354),
        ("polygenelubricants", i32::MIN),
        ("Grüße", 69_215_351),
    ];
    for (text, hash) in hashes {
        assert_eq!(java_hash(text), hash, "{text}");
    }
    let coordinator = coordinator();
    assert_eq!(coordinator.find("abc"), PartitionIndex(4));
    assert_eq!(coordinator.find("polygenelubricants"), PartitionIndex(0));
}

#[tokio::test]
async fn a_group_moves_to_another_coordinator() {
    let (log, first) = (MemoryLog::default(), coordinator());
    lead(&first, &log).await;
    let joined = join(&first).await;
    assert_eq!((joined.generation_id, joined.members.len()), (1, 1));
    let synced = first.sync(sync_request(&joined)).await;
    assert_eq!(&synced.assignment[..], b"everything");
    assert_eq!(commit(&first, Some(&joined)).await, COMMITTED);
    assert_eq!(fetch(&first, 7), (42, ErrorCode::None));
    first.on_resign(first.find(GROUP));
    assert_eq!(heartbeat(&first, &joined), ErrorCode::NotCoordinator);
    assert_eq!(fetch(&first, 7), (-1, ErrorCode::NotCoordinator));

    let second = coordinator();
    lead(&second, &log).await;
    assert_eq!(heartbeat(&second, &joined), ErrorCode::None);
    assert_eq!(fetch(&second, 7), (42, ErrorCode::None));
    let synced = second.sync(sync_request(&joined)).await;
    assert_eq!(&synced.assignment[..], b"everything");
}

/// librdkafka asked no more for the offsets of what it was to read, and never read it.
#[tokio::test]
async fn members_were_sent_away_by_a_coordinator_that_had_not_heard_from_the_controller_for_a_while()
 {
    let lease = Arc::new(Lease::default());
    let (log, coordinator) = (MemoryLog::default(), coordinator_with(Arc::clone(&lease)));
    lease.accept(clock::now(), Duration::from_secs(3600));
    lead(&coordinator, &log).await;
    assert_eq!(fetch(&coordinator, 7), (-1, ErrorCode::None));
    let loading = (-1, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(fetch_as(&coordinator, 7, false), loading);
    lease.end();
    assert_eq!(fetch(&coordinator, 7), loading);
    coordinator.on_resign(coordinator.find(GROUP));
    assert_eq!(fetch(&coordinator, 7), (-1, ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn nobody_is_served_before_all_that_was_acknowledged_is_loaded() {
    let (log, first) = (MemoryLog::default(), coordinator());
    lead(&first, &log).await;
    let joined = join(&first).await;
    first.sync(sync_request(&joined)).await;
    assert_eq!(commit(&first, Some(&joined)).await, COMMITTED);

    // The new leader does not know yet that the last batch is committed.
    log.0.lock().high_watermark_max = Some(1);
    let second = coordinator();
    second.on_leader(second.find(GROUP), LeaderEpoch(2), log.clone());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fetch(&second, 7).1, ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(heartbeat(&second, &joined), ErrorCode::None);
    let synced = second.sync(sync_request(&joined)).await;
    assert_eq!(synced.error_code, ErrorCode::RebalanceInProgress);
    log.0.lock().high_watermark_max = None;
    wait_until_loaded(&second).await;
    assert_eq!(fetch(&second, 7), (42, ErrorCode::None));
}

#[tokio::test]
async fn who_waits_is_told_when_the_coordinator_resigns() {
    let (log, coordinator) = (MemoryLog::default(), Arc::new(coordinator()));
    lead(&coordinator, &log).await;
    let joined = join(&coordinator).await;
    let waiting = tokio::spawn({
        let coordinator = Arc::clone(&coordinator);
        // Takes part in the next rebalance, which the member that joined does not.
        async move {
            coordinator
                .join(join_request(Str::default()), 0, client(), Arc::default())
                .await
        }
    });
    while heartbeat(&coordinator, &joined) != ErrorCode::RebalanceInProgress {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    coordinator.on_resign(coordinator.find(GROUP));
    assert_eq!(waiting.await.unwrap().error_code, ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn a_commit_that_is_not_replicated_is_not_acknowledged() {
    let (log, coordinator) = (MemoryLog::default(), coordinator());
    lead(&coordinator, &log).await;
    log.0.lock().append_error = Some(AppendError::NotReplicated);
    let refused = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::CoordinatorNotAvailable,
    ];
    assert_eq!(commit(&coordinator, None).await, refused);
    assert_eq!(fetch(&coordinator, 7), (-1, ErrorCode::None));
    log.0.lock().append_error = None;
    assert_eq!(commit(&coordinator, None).await, COMMITTED);
    assert_eq!(fetch(&coordinator, 1), (42, ErrorCode::None));
}

#[tokio::test]
async fn groups_are_listed_described_left_and_deleted() {
    let (log, coordinator) = (MemoryLog::default(), coordinator());
    lead(&coordinator, &log).await;
    let joined = join(&coordinator).await;
    coordinator.sync(sync_request(&joined)).await;
    let listed = |state: &'static str| {
        let request = ListGroupsRequest {
            states_filter: vec![state.into()],
            ..ListGroupsRequest::default()
        };
        coordinator.list(&request).groups.len()
    };
    assert_eq!((listed("stable"), listed("Empty")), (1, 0));
    let describe = DescribeGroupsRequest {
        groups: vec![GROUP.into()],
        ..Default::default()
    };
    let described = coordinator.describe(&describe, 6).groups.remove(0);
    assert_eq!(
        (&*described.group_state, &*described.protocol_data),
        ("Stable", "range")
    );
    assert_eq!(&described.members[0].member_assignment[..], b"everything");

    let delete = || DeleteGroupsRequest {
        groups_names: vec![GROUP.into()],
    };
    let deleted = coordinator.delete(delete()).await.results.remove(0);
    assert_eq!(deleted.error_code, ErrorCode::NonEmptyGroup);
    let leave = LeaveGroupRequest {
        group_id: GROUP.into(),
        member_id: joined.member_id.clone(),
        ..LeaveGroupRequest::default()
    };
    assert_eq!(coordinator.leave(leave, 2).error_code, ErrorCode::None);
    while listed("Empty") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Until the record of the empty group is durable, the deletion is to be tried again.
    let mut error_code = ErrorCode::CoordinatorNotAvailable;
    while error_code == ErrorCode::CoordinatorNotAvailable {
        error_code = coordinator
            .delete(delete())
            .await
            .results
            .remove(0)
            .error_code;
    }
    assert_eq!(error_code, ErrorCode::None);
    let described = coordinator.describe(&describe, 6).groups.remove(0);
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound);
    assert_eq!(
        &*coordinator.describe(&describe, 5).groups[0].group_state,
        "Dead"
    );
}

async fn commit_in_transaction(coordinator: &Coordinator, offset: i64) -> ErrorCode {
    let topic = TxnOffsetCommitRequestTopic {
        name: "payments".into(),
        partitions: vec![TxnOffsetCommitRequestPartition {
            committed_offset: offset,
            ..TxnOffsetCommitRequestPartition::default()
        }],
    };
    let request = TxnOffsetCommitRequest {
        group_id: GROUP.into(),
        producer_id: 7,
        generation_id: -1,
        topics: vec![topic],
        ..TxnOffsetCommitRequest::default()
    };
    let response = coordinator
        .commit_in_transaction(request, None, |_, _| true)
        .await;
    response.topics[0].partitions[0].error_code
}

async fn end_transaction(coordinator: &Coordinator, outcome: TransactionOutcome) {
    let marker = EndMarker {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(0),
        outcome,
    };
    coordinator
        .end_transaction(coordinator.find(GROUP), &marker, MarkerEpoch::Any)
        .await
        .unwrap();
}

fn fetch_stable(coordinator: &Coordinator) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic {
        name: "payments".into(),
        partition_indexes: vec![0],
    };
    let request = OffsetFetchRequest {
        group_id: GROUP.into(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let response = coordinator.fetch_offsets(request, 7, true);
    let found = &response.topics[0].partitions[0];
    (found.committed_offset, found.error_code)
}

#[tokio::test]
async fn offsets_of_a_transaction_are_pending_until_its_marker_also_for_a_new_coordinator() {
    use TransactionOutcome::{Abort, Commit};
    let (log, first) = (MemoryLog::default(), coordinator());
    lead(&first, &log).await;
    assert_eq!(commit_in_transaction(&first, 5).await, ErrorCode::None);
    end_transaction(&first, Commit).await;
    assert_eq!(fetch_stable(&first), (5, ErrorCode::None));
    assert_eq!(commit_in_transaction(&first, 6).await, ErrorCode::None);
    assert_eq!(fetch(&first, 7).0, 5);

    let second = coordinator();
    lead(&second, &log).await;
    let unstable = (-1, ErrorCode::UnstableOffsetCommit);
    assert_eq!(fetch_stable(&second), unstable);
    end_transaction(&second, Abort).await;
    assert_eq!(fetch_stable(&second), (5, ErrorCode::None));
    assert_eq!(commit_in_transaction(&second, 7).await, ErrorCode::None);
    end_transaction(&second, Commit).await;

    let third = coordinator();
    lead(&third, &log).await;
    assert_eq!(fetch_stable(&third), (7, ErrorCode::None));
}
