//! Moves on a disk that stops or fails at every single operation: whatever happens, the replica comes
//! back with all that was durable, in one directory, and the move can be gone on with.

use std::collections::BTreeMap;

use broker_core::metadata::{self, PartitionImage};
use broker_core::partition::Producers;
use broker_core::{BrokerId, LeaderEpoch, TopicId};
use broker_log::LogConfig;
use broker_log::fs::Fs;
use broker_log::fs::memory::{Fault, FaultSpan, MemoryFs};
use broker_wire::record::{BatchBuilder, NewRecord, RecordBatch, batches};
use klamm_proto::v1::{DivergingEpoch, PulledPartition};

use super::super::FollowerStep;
use super::super::opening::Wanted;
use super::copying::Turn;
use super::*;
use crate::config::{BrokerConfig, Dynamic};

const ME: BrokerId = BrokerId(1);
const LEADER: BrokerId = BrokerId(2);
const EPOCH: LeaderEpoch = LeaderEpoch(1);
/// More than any move takes.
const TURNS_MAX: usize = 200;

fn config() -> BrokerConfig {
    let properties = [
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://127.0.0.1:9092"),
        ("klamm.rpc.token.file", "/nowhere"),
        ("klamm.cluster.id", "test"),
        ("controller.quorum.voters", "9@127.0.0.1:1"),
        ("log.dirs", "/klamm-test-0,/klamm-test-1"),
        ("metadata.log.dir", "/klamm-test-metadata"),
    ];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    BrokerConfig::new(properties.into()).unwrap()
}

fn id() -> TopicPartition {
    TopicPartition {
        topic: TopicId([7; 16]),
        partition: PartitionIndex(0),
    }
}

/// What a broker was told, which outlives it.
#[derive(Clone, Default)]
struct Model {
    /// Number of the record at each offset from 0 on, deleted ones included.
    records: Vec<u64>,
    next: u64,
    /// Records below this offset survive a power failure.
    durable: usize,
    log_start: usize,
}

/// A broker with two directories and one replica, which follows.
struct Broker {
    storage: Storage,
    partition: Arc<Partition>,
    model: Model,
}

impl Broker {
    fn start(disk: &MemoryFs) -> Option<Self> {
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let config = config();
        let mut storage = Storage::open_on(&fs, &config, &RecoveryProgress::default()).ok()?;
        let image = PartitionImage::from(&metadata::Partition {
            replicas: vec![ME.0, LEADER.0],
            isr: vec![LEADER.0],
            leader: LEADER.0,
            leader_epoch: EPOCH.0,
            ..metadata::Partition::default()
        });
        let wanted = Wanted {
            id: id(),
            topic: &"t".into(),
            state: &image,
            isr_timing: config.isr_timing(),
            me: ME,
        };
        let mut topic = config.topic_config(&BTreeMap::new(), Dynamic::default(), false);
        topic.log = LogConfig {
            segment_bytes: 400,
            index_interval_bytes: 100,
            ..LogConfig::default()
        };
        let partition = Arc::new(storage.open_partition(&wanted, topic).ok()?);
        partition.assign(ME, &Arc::new(image));
        Some(Self {
            storage,
            partition,
            model: Model::default(),
        })
    }

    /// Starts the broker after another one on the disk, and compares: what is there is what was there,
    /// not less than was durable.
    fn start_after(disk: &MemoryFs, before: &Model) -> Self {
        let mut broker = Self::start(disk).expect("the replica is in service again");
        let records = broker.records();
        let (start, end) = {
            let state = broker.partition.state.lock();
            let (start, end) = (state.log.start_offset().0, state.log.end_offset().0);
            (
                usize::try_from(start).unwrap(),
                usize::try_from(end).unwrap(),
            )
        };
        assert!(end >= before.durable, "{end} of {} durable", before.durable);
        assert!(start >= before.log_start, "deleted records are back");
        for (offset, number) in &records {
            assert_eq!(before.records.get(*offset), Some(number), "at {offset}");
        }
        assert!(records.into_keys().eq(start..end), "records are missing");
        broker.model = Model {
            records: before.records[..end].to_vec(),
            log_start: start,
            ..*before
        };
        broker
    }

    /// The process is gone, and its locks with it.
    fn stop(self) -> Model {
        self.model
    }

    fn directory(&self) -> usize {
        let dirs = self.storage.dirs().opened();
        let here = self.partition.directory();
        dirs.iter().position(|dir| Arc::ptr_eq(dir, &here)).unwrap()
    }

    fn producers(&self) -> Producers {
        self.partition.state.lock().replica.producers().clone()
    }

    /// The records that can be read, by offset.
    fn records(&self) -> BTreeMap<usize, u64> {
        let state = self.partition.state.lock();
        let (mut next, end) = (state.log.start_offset(), state.log.end_offset());
        let mut records = BTreeMap::new();
        while let Some(slice) = state.log.read(next, end, 1, MinOneBatch::Yes).unwrap() {
            let bytes = slice.read_verified().unwrap();
            for batch in batches(&bytes) {
                let (header, batch) = batch.unwrap();
                for record in RecordBatch::open(batch, 1 << 20).unwrap().records() {
                    let record = record.unwrap();
                    let value = record.value.unwrap();
                    let number = u64::from_be_bytes(value[..8].try_into().unwrap());
                    records.insert(usize::try_from(record.offset).unwrap(), number);
                }
                next = Offset(header.next_offset());
            }
        }
        assert_eq!(next, end, "the log can be read to its end");
        records
    }

    fn pull(&self, pulled: PulledPartition) -> bool {
        let step = self.partition.handle_pulled(&PulledPartition {
            leader_epoch: EPOCH.0,
            ..pulled
        });
        matches!(step, FollowerStep::Continue | FollowerStep::Idle)
    }

    /// Takes a batch of two records over.
    fn append(&mut self) -> bool {
        let end = i64::try_from(self.model.records.len()).unwrap();
        let mut builder = BatchBuilder::new(end).leader_epoch(EPOCH.0).producer(
            7,
            0,
            i32::try_from(end).unwrap(),
        );
        let numbers = [self.model.next, self.model.next + 1];
        for number in numbers {
            builder.append(&NewRecord {
                timestamp: 1_000,
                key: None,
                value: Some(&[&number.to_be_bytes()[..], &[9; 30]].concat()),
                headers: &[],
            });
        }
        self.model.next += 2;
        self.model.records.extend(numbers);
        self.pull(PulledPartition {
            records: builder.build().unwrap(),
            ..PulledPartition::default()
        })
    }

    fn truncate(&mut self, records: usize) -> bool {
        let end = self.model.records.len() - records;
        self.model.durable = self.model.durable.min(end);
        let done = self.pull(PulledPartition {
            diverging: Some(DivergingEpoch {
                epoch: EPOCH.0,
                end_offset: i64::try_from(end).unwrap(),
            }),
            ..PulledPartition::default()
        });
        if done {
            self.model.records.truncate(end);
        }
        done
    }

    /// As DeleteRecords does, up to its answer.
    fn delete_before(&mut self, start: usize) -> bool {
        let done = self.pull(PulledPartition {
            log_start_offset: i64::try_from(start).unwrap(),
            ..PulledPartition::default()
        });
        let partitions = [Arc::clone(&self.partition)];
        let directory = self.partition.directory();
        self.storage.write_checkpoints(&partitions);
        let checkpointed = directory.dir().log_starts().unwrap_or_default();
        let start_of = |log: &broker_log::OffsetEntry| usize::try_from(log.offset.0);
        if done && checkpointed.iter().any(|log| start_of(log) == Ok(start)) {
            self.model.log_start = start;
        }
        done
    }

    fn flush(&mut self) -> bool {
        let done = self.partition.flush_pulled().is_ok();
        if done {
            self.model.durable = self.model.records.len();
        }
        done
    }

    fn checkpoint(&mut self) -> bool {
        self.partition.checkpoint();
        let partitions = [Arc::clone(&self.partition)];
        self.storage.write_checkpoints(&partitions);
        !self.partition.is_failed()
    }

    fn begin_move(&mut self, to: usize) -> bool {
        let target = Arc::clone(&self.storage.dirs().opened()[to]);
        if Arc::ptr_eq(&target, &self.partition.directory()) {
            self.partition.cancel_move();
            return true;
        }
        begin(&mut self.storage, &self.partition, &target).is_ok()
    }

    fn turn(&self) -> bool {
        self.partition.take_turn() != Turn::Waits
    }

    fn finish_move(&self) {
        let ended = (0..TURNS_MAX).any(|_| self.partition.take_turn() == Turn::Ended);
        assert!(ended, "a move goes on for ever");
    }
}

/// A replica that moves to the other directory and back, while it is written to, cut and shortened.
fn history() -> Vec<fn(&mut Broker) -> bool> {
    vec![
        |b| (0..6).all(|_| b.append()),
        Broker::checkpoint,
        |b| b.append() && b.flush(),
        |b| b.begin_move(1),
        |b| b.turn(),
        |b| b.turn() && b.append(),
        |b| b.turn() && b.turn(),
        |b| b.truncate(6),
        |b| b.turn() && b.append(),
        |b| b.turn() && b.flush(),
        |b| b.delete_before(2),
        |b| b.turn() && b.turn(),
        |b| b.append(),
        |b| (0..20).all(|_| b.turn()),
        |b| b.append() && b.flush(),
        Broker::checkpoint,
        |b| b.append() && b.append() && b.flush(),
        |b| b.begin_move(0),
        |b| (0..20).all(|_| b.turn()),
        |b| b.append() && b.flush(),
        Broker::checkpoint,
    ]
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Process,
    Power,
}

fn lose(disk: &MemoryFs, loss: Loss) {
    match loss {
        Loss::Process => disk.heal(),
        Loss::Power => disk.crash(),
    }
}

/// Starts the broker on what is left, goes on with the move, and starts it once more.
fn recover(disk: &MemoryFs, before: &Model) {
    let mut broker = Broker::start_after(disk, before);
    broker.finish_move();
    assert!(broker.append() && broker.append() && broker.flush() && broker.checkpoint());
    let (producers, directory) = (broker.producers(), broker.directory());
    let before = broker.stop();
    disk.crash();
    let broker = Broker::start_after(disk, &before);
    assert_eq!(broker.producers(), producers);
    assert_eq!(broker.directory(), directory);
    assert!(!broker.partition.is_moving());
}

/// Runs the history until the operation `after` of the disk stops the process. Whether it was reached.
fn stopped(disk: &MemoryFs, after: u64) -> (Model, bool) {
    disk.fail_after(after, Fault::Crash, FaultSpan::Lasting);
    let Some(mut broker) = Broker::start(disk) else {
        return (Model::default(), true);
    };
    let done = history().iter().all(|step| step(&mut broker));
    (broker.stop(), !done)
}

#[test]
fn a_moving_replica_survives_a_stop_at_every_operation() {
    for (loss, seeds) in [(Loss::Process, 1), (Loss::Power, 3)] {
        for seed in 1..=seeds {
            for after in 0.. {
                let disk = MemoryFs::new(seed);
                let (model, reached) = stopped(&disk, after);
                lose(&disk, loss);
                recover(&disk, &model);
                if !reached {
                    break;
                }
            }
        }
    }
}

#[test]
fn an_operation_that_fails_costs_the_copy_or_the_directory_of_the_replica() {
    let mut moved = 0;
    for after in 0.. {
        let disk = MemoryFs::new(after);
        let Some(mut broker) = Broker::start(&disk) else {
            panic!("the disk is well");
        };
        let operations = disk.operations();
        disk.fail_after(after, Fault::Io, FaultSpan::Once);
        for step in history() {
            if !step(&mut broker) {
                if broker.partition.is_failed() {
                    break;
                }
                let end = broker.partition.state.lock().log.end_offset();
                broker
                    .model
                    .records
                    .truncate(usize::try_from(end.0).unwrap());
            }
        }
        let reached = disk.operations() > operations + after;
        disk.heal();
        if !broker.partition.is_failed() {
            assert!(broker.append() && broker.flush(), "the replica goes on");
            moved += usize::from(broker.directory() == 1);
        }
        let model = broker.stop();
        disk.crash();
        recover(&disk, &model);
        if !reached {
            break;
        }
    }
    assert!(moved > 0, "no failure left the replica where it was moved");
}

fn holding(disk: &MemoryFs) -> Vec<String> {
    let dirs = ["/klamm-test-0", "/klamm-test-1"].into_iter();
    let names = dirs.flat_map(|dir| {
        let listed = disk.list(Path::new(dir)).unwrap().into_iter();
        listed.map(move |entry| format!("{dir}/{}", entry.name))
    });
    names.filter(|name| name.contains("/t-0")).collect()
}

fn broker_with_records(disk: &MemoryFs) -> Broker {
    let mut broker = Broker::start(disk).unwrap();
    assert!((0..20).all(|_| broker.append()) && broker.flush());
    broker
}

#[test]
fn a_move_that_is_given_up_leaves_no_copy() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    assert!(broker.begin_move(1) && broker.turn());
    broker.partition.cancel_move();
    assert_eq!(broker.partition.take_turn(), Turn::Ended);
    let model = broker.stop();
    let broker = Broker::start_after(&disk, &model);
    assert!(!broker.partition.is_moving());
    assert_eq!(holding(&disk), ["/klamm-test-0/t-0"]);
}

#[test]
fn a_copy_is_gone_on_with_after_a_restart() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    assert!(broker.begin_move(1) && (0..10).all(|_| broker.turn()));
    let model = broker.stop();
    let broker = Broker::start_after(&disk, &model);
    let moving = broker.partition.state.lock().moving.as_ref().map(|m| m.end);
    assert_eq!(moving, Some(Offset(40)), "nothing is copied again");
    broker.finish_move();
    assert_eq!(broker.directory(), 1);
}

#[test]
fn a_copy_of_a_log_that_lost_its_end_is_made_anew() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    assert!(broker.begin_move(1) && (0..10).all(|_| broker.turn()));
    let mut model = broker.stop();
    // The copy reached the disk, the end of the log did not.
    let log = "/klamm-test-0/t-0";
    let last = disk.list(Path::new(log)).unwrap();
    let last = last.iter().rfind(|entry| entry.name.ends_with(".log"));
    let last = Path::new(log).join(&last.unwrap().name);
    let file = disk
        .open(&last, broker_log::fs::OpenMode::Existing)
        .unwrap();
    file.set_len(0).unwrap();
    model.durable = 0;
    let mut broker = Broker::start_after(&disk, &model);
    let end = broker.model.records.len();
    assert!(end < 40);
    assert!((0..20).all(|_| broker.append()));
    broker.finish_move();
    assert_eq!(broker.directory(), 1);
    let model = broker.stop();
    assert_eq!(
        Broker::start_after(&disk, &model).model.records.len(),
        end + 40
    );
}

/// The report says which directory entries are durable, and the copy's are others.
#[test]
fn a_sync_of_the_log_is_none_of_the_copy_that_took_its_place() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    let handle = broker.partition.state.lock().log.checkpoint_handle();
    let synced = handle.sync().unwrap();
    assert!(broker.begin_move(1));
    broker.finish_move();
    assert!((0..5).all(|_| broker.append()));
    broker.partition.state.lock().log.synced(synced);
    assert!(broker.flush());
    let model = broker.stop();
    disk.crash();
    Broker::start_after(&disk, &model);
}

#[test]
fn a_flush_under_way_while_the_replica_moves_is_no_failure() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    let handle = broker.partition.state.lock().log.checkpoint_handle();
    assert!(broker.begin_move(1) && broker.append());
    broker.finish_move();
    handle.sync().err().expect("the log's directory is gone");
    assert!(!broker.partition.is_failed());
    assert!(broker.flush());
}

#[test]
fn what_was_deleted_while_it_was_copied_is_skipped() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    assert!(broker.begin_move(1));
    assert!(broker.pull(PulledPartition {
        error: klamm_proto::v1::PullError::OffsetOutOfRange.into(),
        log_start_offset: 100,
        ..PulledPartition::default()
    }));
    broker.model.records.resize(100, 0);
    broker.model.log_start = 100;
    assert!(broker.append());
    broker.finish_move();
    assert_eq!(broker.directory(), 1);
    assert!(broker.flush());
    let model = broker.stop();
    disk.crash();
    Broker::start_after(&disk, &model);
}

#[test]
fn a_full_disk_interrupts_a_move() {
    let disk = MemoryFs::new(1);
    let mut broker = broker_with_records(&disk);
    assert!(broker.begin_move(1));
    disk.fail_after(0, Fault::NoSpace, FaultSpan::Lasting);
    assert_eq!(broker.partition.take_turn(), Turn::Waits);
    disk.heal();
    broker.finish_move();
    assert_eq!(broker.directory(), 1);
}
