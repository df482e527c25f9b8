//! Transactions of a follower across crashes: the same stable offset and aborted transactions as before.

use broker_core::partition::{EndMarker, MarkerEpoch, NO_SEQUENCE, TransactionOutcome};
use broker_core::{CoordinatorEpoch, Duration, ProducerEpoch, ProducerId};
use broker_log::{CompactionConfig, LogConfig, MinOneBatch};
use broker_wire::record::{
    BatchBuilder, BatchHeader, ControlRecordType, EndTransactionMarker, NewRecord, batches,
    patch_leader_epoch,
};
use bytes::BytesMut;
use klamm_proto::v1::{DivergingEpoch, PulledPartition};

use super::super::super::{Isolation, ProducedBatch};
use super::compaction::Unhurried;
use super::*;

const LEADER: BrokerId = BrokerId(2);
const EPOCH: i32 = 1;

struct Replica {
    storage: Storage,
    partition: Arc<Partition>,
}

impl Replica {
    fn start(disks: &Disks) -> Self {
        let mut storage = disks.start_on(RealFs);
        let partition = open(&mut storage, 0).unwrap();
        partition.state.lock().log.set_config(segments());
        let replica = Self { storage, partition };
        replica.assign(LEADER, EPOCH);
        replica
    }

    fn assign(&self, leader: BrokerId, epoch: i32) {
        let image = PartitionImage::from(&metadata::Partition {
            replicas: vec![ME.0, LEADER.0],
            isr: vec![leader.0],
            leader: leader.0,
            leader_epoch: epoch,
            ..metadata::Partition::default()
        });
        self.partition.assign(ME, &Arc::new(image));
    }

    /// Started anew, and told by the leader that all of its log is replicated.
    fn restart(self, disks: &Disks) -> Self {
        drop(self);
        let replica = Self::start(disks);
        let _ = replica.partition.handle_pulled(&PulledPartition {
            leader_epoch: EPOCH,
            high_watermark: replica.end(),
            ..PulledPartition::default()
        });
        replica
    }

    fn checkpoint(&self) {
        let (handle, snapshot) = {
            let state = self.partition.state.lock();
            (state.log.checkpoint_handle(), state.producer_snapshot())
        };
        let synced = handle.sync().unwrap();
        self.partition.state.lock().log.synced(synced);
        let pending = snapshot.write().unwrap();
        pending.put(&self.partition.state.lock().log).unwrap();
        self.storage
            .write_checkpoints(&[Arc::clone(&self.partition)]);
    }

    fn end(&self) -> i64 {
        self.partition.state.lock().log.end_offset().0
    }

    fn pull(&self, records: bytes::Bytes) {
        let mut records = BytesMut::from(&records[..]);
        patch_leader_epoch(&mut records, EPOCH);
        let high_watermark = self.end() + 1;
        let _ = self.partition.handle_pulled(&PulledPartition {
            leader_epoch: EPOCH,
            records: records.freeze(),
            high_watermark,
            ..PulledPartition::default()
        });
        assert_eq!(self.end(), high_watermark);
    }

    fn write(&self, producer: i64, sequence: i32) {
        self.pull(transactional(self.end(), producer, sequence));
    }

    fn abort(&self, producer: i64) {
        self.end_transaction(producer, ControlRecordType::Abort);
    }

    fn end_transaction(&self, producer: i64, kind: ControlRecordType) {
        let marker = EndTransactionMarker {
            kind,
            producer_id: producer,
            producer_epoch: 0,
            coordinator_epoch: 3,
            timestamp: 1,
        };
        self.pull(marker.build(self.end()).unwrap());
    }

    /// A transaction's record with the key that all of them have.
    fn write_keyed(&self, producer: i64, sequence: i32) {
        let mut builder = BatchBuilder::new(self.end())
            .producer(producer, 0, sequence)
            .transactional();
        builder.append(&NewRecord {
            timestamp: 1,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &[],
        });
        self.pull(builder.build().unwrap());
    }

    /// A pass that drops what it may.
    fn compact(&self) {
        let config = LogConfig {
            compaction: Some(CompactionConfig {
                min_cleanable_dirty_ppm: 0,
                delete_retention_ms: 0,
                ..CompactionConfig::default()
            }),
            ..segments()
        };
        self.partition.state.lock().log.set_config(config);
        let pass = self.partition.compact(1 << 20, &mut Unhurried).unwrap();
        assert!(pass.is_some(), "the log is dirty");
    }

    /// Of all batches.
    fn headers(&self) -> Vec<BatchHeader> {
        let state = self.partition.state.lock();
        let (mut next, end) = (state.log.start_offset(), state.log.end_offset());
        let mut headers = Vec::new();
        while let Some(slice) = state.log.read(next, end, 1, MinOneBatch::Yes).unwrap() {
            let bytes = slice.read_verified().unwrap();
            headers.extend(batches(&bytes).map(|batch| batch.unwrap().0));
            next = Offset(headers[headers.len() - 1].next_offset());
        }
        headers
    }

    fn truncate_to(&self, end: i64) {
        let _ = self.partition.handle_pulled(&PulledPartition {
            leader_epoch: EPOCH,
            diverging: Some(DivergingEpoch {
                epoch: EPOCH,
                end_offset: end,
            }),
            ..PulledPartition::default()
        });
        assert_eq!(self.end(), end);
    }

    /// Last stable offset, and first offsets and markers of aborted transactions.
    fn view(&self) -> (i64, Vec<(i64, i64)>) {
        let state = self.partition.state.lock();
        let found = state
            .log
            .aborted_transactions(Offset(0), state.log.end_offset());
        let pairs = found.unwrap().into_iter();
        let first_unstable = state.replica.producers().first_unstable_offset();
        (
            first_unstable.unwrap_or_else(|| state.log.end_offset()).0,
            pairs
                .map(|aborted| (aborted.first_offset.0, aborted.last_offset.0))
                .collect(),
        )
    }
}

fn segments() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 10,
        ..LogConfig::default()
    }
}

fn transactional(at: i64, producer: i64, sequence: i32) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(at)
        .producer(producer, 0, sequence)
        .transactional();
    builder.append(&NewRecord {
        timestamp: 1,
        value: Some(b"v"),
        ..NewRecord::default()
    });
    builder.build().unwrap()
}

#[test]
fn a_crash_changes_nothing_wherever_the_last_checkpoint_was() {
    for checkpoint_after in 0..8 {
        let disks = Disks::new(1);
        let replica = Replica::start(&disks);
        let steps: [&dyn Fn(); 7] = [
            &|| replica.write(7, 0),
            &|| replica.write(8, 0),
            &|| replica.write(7, 1),
            &|| replica.abort(7),
            &|| replica.write(7, 2),
            &|| replica.abort(7),
            &|| replica.write(9, 0),
        ];
        for (i, step) in steps.iter().enumerate() {
            step();
            if i == checkpoint_after {
                replica.checkpoint();
            }
        }
        let before = replica.view();
        assert_eq!(before, (1, vec![(0, 3), (4, 5)]));
        let replica = replica.restart(&disks);
        assert_eq!(
            replica.view(),
            before,
            "checkpoint after {checkpoint_after}"
        );
        replica.abort(8);
        assert_eq!(replica.view(), (6, vec![(0, 3), (4, 5), (1, 7)]));
    }
}

#[test]
fn a_cut_transaction_is_ongoing_again_and_another_end_of_it_counts() {
    let disks = Disks::new(1);
    let replica = Replica::start(&disks);
    replica.write(7, 0);
    replica.checkpoint();
    replica.abort(7);
    replica.checkpoint();
    replica.truncate_to(1);
    assert_eq!(replica.view(), (0, vec![]));
    let replica = replica.restart(&disks);
    assert_eq!(replica.view(), (0, vec![]));
    replica.write(7, 1);
    replica.abort(7);
    assert_eq!(replica.view(), (3, vec![(0, 2)]));
}

#[test]
fn a_damaged_index_of_aborted_transactions_is_made_anew() {
    let disks = Disks::new(1);
    let replica = Replica::start(&disks);
    for sequence in 0..2 {
        replica.write(7, sequence);
        replica.abort(7);
    }
    replica.checkpoint();
    let before = replica.view();
    assert_eq!(before, (4, vec![(0, 1), (2, 3)]));
    let index = disks.path(0).join("t-0/00000000000000000000.txnindex");
    let len = fs::read(&index).unwrap().len();
    fs::write(&index, vec![0; len]).unwrap();
    let replica = replica.restart(&disks);
    assert_eq!(replica.view(), before);
}

/// Headers of batches stay longer than the markers of their transactions. None of these may seem to be
/// ongoing when the log is read again.
#[test]
fn no_transaction_is_ongoing_again_after_its_marker_was_compacted_away() {
    let disks = Disks::new(1);
    let mut replica = Replica::start(&disks);
    replica.write_keyed(8, 0);
    replica.end_transaction(8, ControlRecordType::Commit);
    for _ in 0..6 {
        for _ in 0..40 {
            replica.write_keyed(7, NO_SEQUENCE);
            replica.end_transaction(7, ControlRecordType::Commit);
        }
        replica.checkpoint();
        replica.compact();
        disks.remove_snapshots();
        replica = replica.restart(&disks);
        assert_eq!(replica.view(), (replica.end(), vec![]));
    }
    let headers = replica.headers();
    let of_other = |header: &&BatchHeader| header.producer_id == 8;
    let left: Vec<_> = headers.iter().filter(of_other).collect();
    assert!(
        left.len() == 1 && !left[0].is_control() && left[0].record_count == 0,
        "the last batch of a producer stays, without its marker: {left:?}"
    );
    let markers = headers.iter().filter(|header| header.is_control()).count();
    assert!(markers <= 120, "those of the last passes: {markers} of 241");
}

#[tokio::test]
async fn readers_of_committed_records_stop_at_an_ongoing_transaction_and_learn_what_to_skip() {
    let disks = Disks::new(1);
    let replica = Replica::start(&disks);
    replica.write(7, 0);
    replica.abort(7);
    replica.write(8, 0);
    let hour = Duration::from_millis(3_600_000);
    let lease = &replica.storage.shared.lease;
    lease.accept(crate::clock::now(), hour);
    replica.assign(ME, EPOCH + 1);
    let partition = &replica.partition;
    let read = |from, isolation| {
        let read = partition.read(Offset(from), None, isolation, usize::MAX, MinOneBatch::Yes);
        let fetched = read.unwrap();
        let aborted: Vec<i64> = fetched.aborted.iter().map(|a| a.first_offset.0).collect();
        let bytes = fetched.records.map(|slice| slice.read_to_bytes().unwrap());
        let header = bytes.map(|bytes| BatchHeader::parse(&bytes).unwrap());
        let base = header.map(|header| header.base_offset);
        (base, fetched.last_stable_offset.0, aborted)
    };
    assert_eq!(read(0, Isolation::ReadCommitted), (Some(0), 2, vec![0]));
    assert_eq!(read(2, Isolation::ReadCommitted), (None, 2, vec![]));
    assert_eq!(read(2, Isolation::ReadUncommitted), (Some(2), 2, vec![]));
    let marker = EndMarker {
        producer_id: ProducerId(8),
        producer_epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(3),
        outcome: TransactionOutcome::Commit,
    };
    let appended = partition
        .append_marker(&marker, MarkerEpoch::Any, None)
        .unwrap();
    assert_eq!(appended.offset, Some(Offset(3)));
    assert!(appended.acknowledged.is_none(), "it is alone in the ISR");
    assert_eq!(read(2, Isolation::ReadCommitted), (Some(2), 4, vec![]));
    let unverified = ProducedBatch {
        header: BatchHeader::parse(&transactional(0, 8, 1)).unwrap(),
        bytes: BytesMut::from(&transactional(0, 8, 1)[..]),
        leader_epoch: None,
        guard: None,
    };
    let refused = partition.append(unverified, broker_core::partition::Acks::All);
    assert!(refused.is_err(), "the next transaction is not verified");
}
