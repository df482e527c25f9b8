//! Several log directories: where replicas go, are found again, and stay when a disk is gone.

mod compaction;
mod counting_fs;
mod damaged;
mod deleting;
mod full;
mod power;
mod producers;
mod transactions;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use broker_core::metadata;
use broker_core::{BrokerEpoch, TopicId};
use broker_log::fs::memory::MemoryFs;
use tempfile::TempDir;

use super::*;
use crate::previous_run::{self, Losses};

const ME: BrokerId = BrokerId(1);

/// A broker's disks, which outlive its runs.
struct Disks {
    root: TempDir,
    count: usize,
    /// Below the first directory when it is `None`.
    metadata: Option<PathBuf>,
}

impl Disks {
    fn new(count: usize) -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            count,
            metadata: None,
        }
    }

    fn path(&self, index: usize) -> PathBuf {
        self.root.path().join(format!("d{index}"))
    }

    fn config(&self, broker: i32) -> BrokerConfig {
        let dirs: Vec<_> = (0..self.count)
            .map(|index| self.path(index).display().to_string())
            .collect();
        let properties = [
            ("node.id", broker.to_string()),
            ("listeners", "PLAINTEXT://127.0.0.1:9092".to_owned()),
            ("klamm.rpc.token.file", "/nowhere".to_owned()),
            ("klamm.cluster.id", "test".to_owned()),
            ("controller.quorum.voters", "9@127.0.0.1:1".to_owned()),
            ("log.dirs", dirs.join(",")),
        ];
        let metadata = self.metadata.iter();
        let metadata = metadata.map(|dir| ("metadata.log.dir", dir.display().to_string()));
        let properties = properties.into_iter().chain(metadata);
        let properties = properties.map(|(key, value)| (key.to_owned(), value));
        BrokerConfig::new(properties.collect()).unwrap()
    }

    fn start(&self) -> Result<Storage, StorageOpenError> {
        Storage::open(&self.config(ME.0), &RecoveryProgress::default())
    }

    fn start_on(&self, fs: impl Fs + 'static) -> Storage {
        let fs: Arc<dyn Fs> = Arc::new(fs);
        Storage::open_on(&fs, &self.config(ME.0), &RecoveryProgress::default()).unwrap()
    }

    /// What is at the path can't be made a directory.
    fn break_disk(&self, index: usize) {
        fs::rename(self.path(index), self.root.path().join("repaired")).unwrap();
        fs::write(self.path(index), "").unwrap();
    }

    fn repair_disk(&self, index: usize) {
        fs::remove_file(self.path(index)).unwrap();
        fs::rename(self.root.path().join("repaired"), self.path(index)).unwrap();
    }

    /// What the first replica knows of its producers, but for its log.
    fn remove_snapshots(&self) {
        for entry in fs::read_dir(self.path(0).join("t-0")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "snapshot") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// The directories with the partition's log.
    fn holding(&self, index: i32) -> Vec<usize> {
        let holds = |disk: &usize| self.path(*disk).join(format!("t-{index}")).is_dir();
        (0..self.count).filter(holds).collect()
    }
}

impl Storage {
    /// Damaged logs that were set aside, as metrics are told.
    fn quarantined(&self) -> usize {
        self.shared.quarantined.load(Ordering::Relaxed)
    }
}

fn id(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId([7; 16]),
        partition: PartitionIndex(index),
    }
}

fn open(storage: &mut Storage, index: i32) -> Result<Arc<Partition>, StorageOpenError> {
    let state = metadata::Partition {
        replicas: vec![ME.0],
        ..metadata::Partition::default()
    };
    open_as(storage, index, &state)
}

fn open_as(
    storage: &mut Storage,
    index: i32,
    state: &metadata::Partition,
) -> Result<Arc<Partition>, StorageOpenError> {
    let state = PartitionImage::from(state);
    let wanted = Wanted {
        id: id(index),
        topic: &"t".into(),
        state: &state,
        isr_timing: Disks::new(1).config(ME.0).isr_timing(),
        me: ME,
    };
    let config = Disks::new(1).config(ME.0);
    let partition = storage.open_partition(
        &wanted,
        config.topic_config(&BTreeMap::new(), crate::config::Dynamic::default(), false),
    )?;
    Ok(Arc::new(partition))
}

/// The run is registered under `epoch`.
fn register(storage: &Storage, epoch: i64) {
    let records: Vec<_> = storage
        .dirs
        .opened()
        .iter()
        .map(|directory| crate::log_dirs::record(directory))
        .collect();
    previous_run::write_all(&records, BrokerEpoch(epoch), Losses::None);
}

/// Ends a run in order, registered under `epoch`.
fn stop(mut storage: Storage, partitions: &[Arc<Partition>], epoch: i64) {
    register(&storage, epoch);
    storage.close(partitions, &[]);
}

#[test]
fn new_replicas_go_where_the_fewest_are_and_are_found_again() {
    let disks = Disks::new(3);
    let mut storage = disks.start().unwrap();
    let partitions: Vec<_> = (0..6)
        .map(|index| open(&mut storage, index).unwrap())
        .collect();
    let held: Vec<_> = (0..6).map(|index| disks.holding(index)).collect();
    assert_eq!(held, [[0], [1], [2], [0], [1], [2]]);
    stop(storage, &partitions, 1);
    drop(partitions);

    fs::rename(disks.path(2).join("t-2"), disks.path(0).join("t-2")).unwrap();
    let mut storage = disks.start().unwrap();
    assert_eq!(storage.last_run().lossless_epoch, 1);
    let moved = open(&mut storage, 2).unwrap();
    assert_eq!(moved.directory().path(), disks.path(0));
    open(&mut storage, 6).unwrap();
    assert_eq!(disks.holding(6), [2], "the moved one counts where it is");
}

#[test]
fn replicas_in_a_directory_that_cannot_be_opened_are_not_made_anew() {
    let disks = Disks::new(2);
    let mut storage = disks.start().unwrap();
    let partitions = [0, 1].map(|index| open(&mut storage, index).unwrap());
    stop(storage, &partitions, 1);
    drop(partitions);

    disks.break_disk(1);
    let mut storage = disks.start().unwrap();
    assert_eq!(
        storage.last_run().lossless_epoch,
        -1,
        "what was on it counts as lost"
    );
    open(&mut storage, 0).unwrap();
    let refused = open(&mut storage, 1).err().unwrap();
    assert!(matches!(refused, StorageOpenError::DirectoryOffline));
    storage.delete_strays(&Image::default(), ME);
    open(&mut storage, 2).unwrap();
    assert_eq!(disks.holding(2), [0], "what is new goes to the other one");
}

#[test]
fn a_log_that_was_made_anew_while_its_disk_was_away_goes_before_the_old_one() {
    let disks = Disks::new(2);
    let mut storage = disks.start().unwrap();
    let partitions = [0, 1].map(|index| open(&mut storage, index).unwrap());
    stop(storage, &partitions, 1);
    drop(partitions);
    disks.break_disk(1);
    let mut storage = disks.start().unwrap();
    storage.delete_strays(&Image::default(), ME);
    let partition = open(&mut storage, 1).unwrap();
    stop(storage, &[partition], 2);

    disks.repair_disk(1);
    let mut storage = disks.start().unwrap();
    let partition = open(&mut storage, 1).unwrap();
    assert_eq!(partition.directory().path(), disks.path(0));
    assert_eq!(disks.holding(1), [0]);
    assert_eq!(storage.last_run().lossless_epoch, -1);
}

#[test]
fn a_replica_that_is_twice_on_disk_stays_offline_until_one_is_removed() {
    let disks = Disks::new(2);
    let mut storage = disks.start().unwrap();
    let partition = open(&mut storage, 0).unwrap();
    stop(storage, &[partition], 1);
    let copy = disks.path(1).join("t-0");
    fs::create_dir(&copy).unwrap();
    let metadata = "partition.metadata";
    fs::copy(
        disks.path(0).join("t-0").join(metadata),
        copy.join(metadata),
    )
    .unwrap();

    let mut storage = disks.start().unwrap();
    let refused = open(&mut storage, 0).err().unwrap();
    assert!(matches!(refused, StorageOpenError::Refused));
    assert_eq!(disks.holding(0), [0, 1], "nothing is deleted");
    drop(storage);
    fs::remove_dir_all(copy).unwrap();
    open(&mut disks.start().unwrap(), 0).unwrap();
}

#[test]
fn the_broker_starts_without_a_disk_but_not_without_the_last_or_its_metadata() {
    let mut disks = Disks::new(2);
    drop(disks.start().unwrap());
    fs::remove_dir_all(disks.path(0)).unwrap();
    fs::write(disks.path(0), "").unwrap();
    let error = disks.start().err().unwrap().to_string();
    assert!(error.contains("the metadata log is in"), "{error}");
    disks.metadata = Some(disks.root.path().join("metadata"));
    drop(disks.start().unwrap());
    fs::remove_dir_all(disks.path(1)).unwrap();
    fs::write(disks.path(1), "").unwrap();
    let error = disks.start().err().unwrap().to_string();
    assert!(
        error.contains("no directory of log.dirs can be used"),
        "{error}"
    );
}

#[test]
fn another_brokers_disk_and_a_copied_one_are_refused() {
    let disks = Disks::new(2);
    drop(disks.start().unwrap());
    let other = Storage::open(&disks.config(2), &RecoveryProgress::default());
    let error = other.err().unwrap().to_string();
    assert!(error.contains("has node.id 1, expected 2"), "{error}");

    let file = "meta.properties";
    fs::copy(disks.path(0).join(file), disks.path(1).join(file)).unwrap();
    let error = disks.start().err().unwrap().to_string();
    assert!(error.contains("remove the copy from log.dirs"), "{error}");
}

#[test]
fn a_replica_that_came_while_the_disks_were_full_stayed_offline() {
    let disk = MemoryFs::new(1);
    let disks = Disks::new(2);
    let mut storage = disks.start_on(disk.clone());
    disk.set_capacity(0);
    let refused = open(&mut storage, 0).err().unwrap();
    assert!(refused.is_full_disk(), "{refused}");
    disk.set_capacity(u64::MAX);
    open(&mut storage, 0).unwrap();
    drop(storage);
    open(&mut disks.start_on(disk), 0).expect("one log is found");
}
