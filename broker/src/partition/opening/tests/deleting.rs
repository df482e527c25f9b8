//! Deleted records stay deleted once somebody was told that they are.

use broker_wire::record::{BatchBuilder, NewRecord};
use klamm_proto::v1::PulledPartition;

use super::super::write_log_starts;
use super::producers::{EPOCH, Follower, diverging_at};
use super::*;

const RECORDS: i32 = 10;
const START: Offset = Offset(4);

fn follower(disks: &Disks) -> Follower {
    let follower = Follower::start(disks);
    for sequence in 0..RECORDS {
        follower.append(7, sequence);
    }
    follower.checkpoint();
    follower
}

fn start(follower: &Follower) -> Offset {
    follower.partition.state.lock().log.start_offset()
}

#[test]
fn a_follower_told_of_a_log_start_that_a_kill_took_back() {
    let disks = Disks::new(1);
    let follower = follower(&disks);
    let deleted = PulledPartition {
        log_start_offset: START.0,
        ..PulledPartition::default()
    };
    follower.take_over(deleted.clone());
    let told = follower.partition.follower_state().unwrap().log_start;
    assert_eq!(start(&follower), START);
    let follower = follower.restart(&disks);
    assert_eq!(start(&follower), told, "it was not written down");

    follower.take_over(deleted);
    write_log_starts(vec![Arc::clone(&follower.partition)]);
    let told = follower.partition.follower_state().unwrap().log_start;
    assert_eq!(told, START);
    assert_eq!(start(&follower.restart(&disks)), START);
}

#[test]
fn a_leader_confirmed_a_deletion_that_it_had_not_written_down() {
    let disks = Disks::new(1);
    let replica = follower(&disks);
    let image = PartitionImage::from(&metadata::Partition {
        replicas: vec![ME.0],
        isr: vec![ME.0],
        leader: ME.0,
        leader_epoch: 2,
        ..metadata::Partition::default()
    });
    let partition = &replica.partition;
    partition.assign(ME, &Arc::new(image));
    assert_eq!(partition.delete_records(Some(START)).unwrap(), START);
    assert_eq!(partition.low_watermark(&[]).unwrap(), Offset(0));
    write_log_starts(vec![Arc::clone(partition)]);
    assert_eq!(partition.low_watermark(&[]).unwrap(), START);
    assert_eq!(start(&replica.restart(&disks)), START);
}

/// The leader has a batch of three records, and its log starts at the second of them.
fn batch_with_the_start(base: i64) -> PulledPartition {
    let mut builder = BatchBuilder::new(base).leader_epoch(EPOCH.0);
    for timestamp in 0..3 {
        builder.append(&NewRecord {
            timestamp,
            value: Some(b"v"),
            ..NewRecord::default()
        });
    }
    PulledPartition {
        records: builder.build().unwrap(),
        log_start_offset: base + 1,
        high_watermark: base + 3,
        ..PulledPartition::default()
    }
}

#[test]
fn a_batch_that_was_cut_as_a_whole_left_the_high_watermark_above_the_log_end() {
    let disks = Disks::new(1);
    let follower = Follower::start(&disks);
    follower.take_over(batch_with_the_start(0));
    assert_eq!(start(&follower), Offset(1));
    assert_eq!(follower.partition.high_watermark(), Offset(3));
    follower.take_over(diverging_at(Offset(1)));
    assert_eq!(follower.end(), Offset(0));
    assert_eq!(follower.partition.high_watermark(), Offset(0));
}

#[test]
fn a_follower_asked_for_ever_for_a_batch_of_which_its_leader_had_deleted_the_front() {
    let disks = Disks::new(1);
    let follower = Follower::start(&disks);
    follower.append(7, 0);
    follower.append(7, 1);
    follower.take_over(batch_with_the_start(1));
    assert_eq!(start(&follower), Offset(2));
    assert_eq!(follower.end(), Offset(4));
    assert_eq!(follower.partition.high_watermark(), Offset(4));
}

#[test]
fn a_follower_took_batches_for_duplicates_that_its_leader_never_had() {
    let disks = Disks::new(1);
    let follower = follower(&disks);
    let parts_below_the_start = PulledPartition {
        log_start_offset: START.0,
        ..diverging_at(START)
    };
    follower.take_over(parts_below_the_start);
    assert_eq!((start(&follower), follower.end()), (START, START));
    assert!(follower.producers().is_empty());
}
