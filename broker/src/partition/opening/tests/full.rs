//! Producers at a leader whose disk is full.

use broker_core::LeaderEpoch;
use broker_core::partition::{Acks, AppendError as Refused};
use broker_log::fs::memory::{Fault, FaultSpan};
use broker_log::{AppendError as LogError, StorageError};
use broker_wire::record::{BatchBuilder, BatchHeader, NewRecord};
use bytes::BytesMut;

use super::super::super::{AppendError, ProducedBatch};
use super::*;

pub(super) fn leader(storage: &mut Storage) -> Arc<Partition> {
    let partition = open(storage, 0).unwrap();
    let image = PartitionImage::from(&metadata::Partition {
        replicas: vec![ME.0],
        isr: vec![ME.0],
        leader: ME.0,
        leader_epoch: 1,
        ..metadata::Partition::default()
    });
    partition.assign(ME, &Arc::new(image));
    let now = crate::clock::now();
    partition
        .shared
        .lease
        .accept(now, std::time::Duration::from_secs(3_600));
    partition
}

pub(super) fn append(partition: &Arc<Partition>, sequence: i32) -> Result<(), AppendError> {
    let mut builder = BatchBuilder::new(0).producer(7, 0, sequence);
    builder.append(&NewRecord {
        timestamp: 1_000_000,
        key: None,
        value: Some(b"v"),
        headers: &[],
    });
    let bytes = BytesMut::from(&builder.build().unwrap()[..]);
    let batch = ProducedBatch {
        header: BatchHeader::parse(&bytes).unwrap(),
        bytes,
        leader_epoch: Some(LeaderEpoch(1)),
        guard: None,
    };
    partition.append(batch, Acks::Leader).map(drop)
}

#[test]
fn a_batch_behind_one_that_found_no_space_is_refused_for_the_space_not_for_the_gap() {
    let disk = MemoryFs::new(1);
    let disks = Disks::new(1);
    let mut storage = disks.start_on(disk.clone());
    let partition = leader(&mut storage);
    append(&partition, 0).unwrap();
    disk.set_capacity(0);
    let refused = append(&partition, 1);
    let is_no_space = matches!(
        refused,
        Err(AppendError::Log(LogError::Storage(StorageError::NoSpace)))
    );
    assert!(is_no_space, "{refused:?}");
    disk.set_capacity(u64::MAX);

    let behind = append(&partition, 2);
    let is_behind = matches!(
        behind,
        Err(AppendError::Refused(Refused::BehindAwaited { awaited: 1 }))
    );
    assert!(is_behind, "{behind:?}");
    append(&partition, 1).unwrap();
    append(&partition, 2).unwrap();
}

#[test]
fn what_a_full_disk_kept_of_a_deleted_log_was_taken_for_the_next_topic_of_its_name() {
    let disk = MemoryFs::new(1);
    let disks = Disks::new(1);
    let mut storage = disks.start_on(disk.clone());
    let partition = leader(&mut storage);
    append(&partition, 0).unwrap();
    let directory = partition.directory();
    drop(partition);
    disk.fail_after(0, Fault::NoSpace, FaultSpan::Lasting);
    delete(&directory, &[("t", PartitionIndex(0))]);
    let refused = open(&mut storage, 0);
    assert!(refused.is_err_and(|error| error.is_full_disk()));
    disk.heal();

    let next = open(&mut storage, 0).unwrap();
    assert_eq!(next.state.lock().log.end_offset(), Offset(0));
}
