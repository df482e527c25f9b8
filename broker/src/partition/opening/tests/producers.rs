//! Sequence state of producers after a crash: the same as before it, without reading the whole log.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use broker_core::LeaderEpoch;
use broker_core::partition::Producers;
use broker_log::LogConfig;
use broker_wire::record::{BatchBuilder, NewRecord};
use klamm_proto::v1::{DivergingEpoch, PullError, PulledPartition};

use super::super::super::FollowerStep;
use super::counting_fs::CountingFs;
use super::*;

const LEADER: BrokerId = BrokerId(2);
pub(super) const EPOCH: LeaderEpoch = LeaderEpoch(1);
const SEGMENT_BYTES: u64 = 64 << 10;
const INDEX_INTERVAL_BYTES: u64 = 4 << 10;

/// A replica that follows, on a disk that outlives it.
pub(super) struct Follower {
    storage: Storage,
    pub(super) partition: Arc<Partition>,
}

impl Follower {
    pub(super) fn start(disks: &Disks) -> Self {
        Self::start_on(disks, RealFs)
    }

    fn start_on(disks: &Disks, fs: impl Fs + 'static) -> Self {
        let mut storage = disks.start_on(fs);
        let partition = open(&mut storage, 0).unwrap();
        partition.state.lock().log.set_config(LogConfig {
            segment_bytes: SEGMENT_BYTES,
            index_interval_bytes: INDEX_INTERVAL_BYTES,
            ..LogConfig::default()
        });
        let image = PartitionImage::from(&metadata::Partition {
            replicas: vec![ME.0, LEADER.0],
            isr: vec![LEADER.0],
            leader: LEADER.0,
            leader_epoch: EPOCH.0,
            ..metadata::Partition::default()
        });
        partition.assign(ME, &Arc::new(image));
        Self { storage, partition }
    }

    /// What the task of the manager does every few seconds.
    pub(super) fn checkpoint(&self) {
        self.partition.checkpoint();
        self.storage
            .write_checkpoints(&[Arc::clone(&self.partition)]);
    }

    /// Kills the broker and starts another one on its disks.
    pub(super) fn restart(self, disks: &Disks) -> Self {
        drop(self);
        Self::start(disks)
    }

    pub(super) fn end(&self) -> Offset {
        self.partition.state.lock().log.end_offset()
    }

    pub(super) fn producers(&self) -> Producers {
        self.partition.state.lock().replica.producers().clone()
    }

    pub(super) fn take_over(&self, pulled: PulledPartition) {
        let pulled = PulledPartition {
            leader_epoch: EPOCH.0,
            ..pulled
        };
        let step = self.partition.handle_pulled(&pulled);
        assert!(matches!(step, FollowerStep::Continue));
    }

    /// One batch of one record at the end of the log.
    pub(super) fn append(&self, producer: i64, sequence: i32) {
        self.append_at(self.end(), producer, sequence);
    }

    fn append_at(&self, at: Offset, producer: i64, sequence: i32) {
        let mut builder = BatchBuilder::new(at.0)
            .leader_epoch(EPOCH.0)
            .producer(producer, 0, sequence);
        builder.append(&NewRecord {
            timestamp: 1_000_000 + at.0,
            key: None,
            value: Some(b"v"),
            headers: &[],
        });
        self.take_over(PulledPartition {
            records: builder.build().unwrap(),
            ..PulledPartition::default()
        });
    }

    /// Batches of one producer until a segment is full, then a checkpoint.
    fn fill_segment(&self, producer: i64, sequence: &mut i32) {
        let base = |follower: &Self| follower.partition.state.lock().log.active_segment_base();
        let active = base(self);
        while base(self) == active {
            self.append(producer, *sequence);
            *sequence += 1;
        }
        self.checkpoint();
    }

    fn truncate_to(&self, end: Offset) {
        self.take_over(diverging_at(end));
        assert_eq!(self.end(), end);
    }

    fn start_over_at(&self, start: Offset) {
        self.take_over(PulledPartition {
            error: PullError::OffsetOutOfRange.into(),
            log_start_offset: start.0,
            ..PulledPartition::default()
        });
        assert_eq!(self.end(), start);
    }
}

pub(super) fn diverging_at(end: Offset) -> PulledPartition {
    PulledPartition {
        leader_epoch: EPOCH.0,
        diverging: Some(DivergingEpoch {
            epoch: EPOCH.0,
            end_offset: end.0,
        }),
        ..PulledPartition::default()
    }
}

fn snapshots(disks: &Disks) -> Vec<PathBuf> {
    let entries = fs::read_dir(disks.path(0).join("t-0")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut snapshots: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "snapshot")
        })
        .collect();
    snapshots.sort();
    snapshots
}

/// Producer 7 in three segments, producer 8 behind them.
fn three_segments(disks: &Disks) -> Follower {
    let follower = Follower::start(disks);
    let mut sequence = 0;
    for _ in 0..3 {
        follower.fill_segment(7, &mut sequence);
    }
    follower.append(8, 0);
    follower
}

#[test]
fn an_unclean_start_read_every_batch_of_the_log_for_its_producers() {
    const SEGMENTS: u64 = 24;
    let disks = Disks::new(1);
    let follower = Follower::start(&disks);
    let mut sequence = 0;
    for _ in 0..SEGMENTS {
        follower.fill_segment(7, &mut sequence);
    }
    follower.append(8, 0);
    let (producers, size) = (follower.producers(), follower.partition.size_bytes());
    drop(follower);

    let counting = CountingFs::new();
    let follower = Follower::start_on(&disks, counting.clone());
    assert_eq!(follower.producers(), producers);
    // A sealed segment is asked where it ends, from its last index entry on.
    let sealed = SEGMENTS * 2 * INDEX_INTERVAL_BYTES;
    let bytes = counting.bytes_read();
    assert!(
        bytes <= sealed + SEGMENT_BYTES && bytes < size / 4,
        "{bytes} bytes read of a log of {size}"
    );
}

#[test]
fn the_newest_snapshots_stay_and_a_damaged_one_gives_way_to_an_older_one() {
    let disks = Disks::new(1);
    let mut follower = three_segments(&disks);
    let mut sequence = 1;
    follower.fill_segment(8, &mut sequence);
    follower.append(9, 5);
    let producers = follower.producers();
    assert_eq!(snapshots(&disks).len(), 3);
    while let Some(newest) = snapshots(&disks).pop() {
        let mut bytes = fs::read(&newest).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&newest, bytes).unwrap();
        follower = follower.restart(&disks);
        assert_eq!(follower.producers(), producers);
        assert!(!newest.exists(), "it is not tried again");
    }
    follower = follower.restart(&disks);
    assert_eq!(follower.producers(), producers);
}

#[test]
fn a_snapshot_outlived_the_truncation_of_what_it_covers() {
    let disks = Disks::new(1);
    let follower = three_segments(&disks);
    let end = follower.end();
    // One that was being written when the log was cut.
    let pending = follower.partition.state.lock().producer_snapshot();
    let pending = pending.write().unwrap();
    let cut = Offset(end.0 / 2);
    follower.truncate_to(cut);
    pending.put(&follower.partition.state.lock().log).unwrap();
    assert_eq!(snapshots(&disks).len(), 1, "the one below the cut");
    for sequence in 0..i32::try_from(end.0).unwrap() {
        follower.append(9, sequence);
    }
    let producers = follower.producers();
    let follower = follower.restart(&disks);
    assert_eq!(follower.producers(), producers);
}

#[test]
fn batches_that_were_cut_stayed_duplicates_when_the_log_could_not_be_read() {
    let disks = Disks::new(1);
    let follower = three_segments(&disks);
    for snapshot in snapshots(&disks) {
        fs::remove_file(snapshot).unwrap();
    }
    let first = disks.path(0).join("t-0/00000000000000000000.log");
    let first = fs::File::options().write(true).open(first).unwrap();
    first.write_all_at(&[9], 16).unwrap();
    let cut = Offset(follower.end().0 / 2);
    let step = follower.partition.handle_pulled(&diverging_at(cut));
    assert!(matches!(step, FollowerStep::BackOff));
    assert_eq!(follower.end(), cut);
    assert_eq!(follower.producers(), Producers::default());
}

#[test]
fn a_snapshot_outlived_the_start_over_of_its_log() {
    let disks = Disks::new(1);
    let follower = three_segments(&disks);
    let end = follower.end();
    follower.start_over_at(Offset(end.0 / 2));
    assert!(snapshots(&disks).is_empty());
    while follower.end() < end {
        follower.append(9, i32::try_from(follower.end().0).unwrap());
    }
    let producers = follower.producers();
    let follower = follower.restart(&disks);
    assert_eq!(follower.producers(), producers);
}

#[tokio::test]
async fn a_snapshot_from_before_the_log_start_was_read_on_from() {
    let disks = Disks::new(1);
    let follower = three_segments(&disks);
    for sequence in 1..10 {
        follower.append(8, sequence);
    }
    let start = follower.end();
    follower.take_over(PulledPartition {
        log_start_offset: start.0,
        ..PulledPartition::default()
    });
    follower
        .storage
        .write_checkpoints(&[Arc::clone(&follower.partition)]);
    let follower = follower.restart(&disks);
    assert_eq!(follower.partition.state.lock().log.start_offset(), start);
    assert_eq!(follower.producers(), Producers::default());
    assert!(snapshots(&disks).is_empty());
}

#[test]
fn a_log_that_has_not_changed_is_closed_without_another_snapshot() {
    let disks = Disks::new(1);
    let follower = Follower::start(&disks);
    follower.partition.close().unwrap();
    assert_eq!(snapshots(&disks), Vec::<PathBuf>::new(), "nothing to tell");

    let follower = follower.restart(&disks);
    follower.append(7, 0);
    let producers = follower.producers();
    follower.partition.close().unwrap();
    let written = || {
        let paths = snapshots(&disks).into_iter();
        let inodes = paths.map(|path| fs::metadata(path).unwrap().ino());
        inodes.collect::<Vec<_>>()
    };
    let first = written();
    assert_eq!(first.len(), 1);

    let follower = follower.restart(&disks);
    assert_eq!(follower.producers(), producers);
    follower.partition.close().unwrap();
    assert_eq!(written(), first);
}
