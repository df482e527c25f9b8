//! Damage at rest: logs that are refused, set aside and made anew; checkpoints that are read without.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker_core::Timestamp;
use broker_log::fs::{DirEntry, FileLock, FileMap, FsFile, OpenMode};
use broker_wire::record::{BatchBuilder, NewRecord};

use super::*;

const RECORDS: i64 = 20;

/// The process dies before one of the operations that change something.
struct DyingFs {
    inner: Arc<dyn Fs>,
    left: Arc<AtomicUsize>,
}

struct DyingFile {
    inner: Arc<dyn FsFile>,
    left: Arc<AtomicUsize>,
}

fn spend(left: &AtomicUsize) -> io::Result<()> {
    let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    });
    spent
        .map(drop)
        .map_err(|_| io::Error::other("the process died"))
}

impl Fs for DyingFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        if mode != OpenMode::Existing {
            spend(&self.left)?;
        }
        Ok(Arc::new(DyingFile {
            inner: self.inner.open(path, mode)?,
            left: Arc::clone(&self.left),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.inner.lock(path)
    }
}

impl FsFile for DyingFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.write_at(bytes, position)
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buf, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        spend(&self.left)?;
        self.inner.sync_data()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }

    fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>> {
        self.inner.map(capacity)
    }
}

fn offline() -> metadata::Partition {
    metadata::Partition {
        replicas: vec![ME.0, 2],
        isr: vec![2],
        leader: 2,
        offline: vec![ME.0],
        ..metadata::Partition::default()
    }
}

fn rebuilding() -> metadata::Partition {
    metadata::Partition {
        offline: Vec::new(),
        rebuilding: vec![ME.0],
        ..offline()
    }
}

/// Partition 0 with records that were durable when the broker stopped.
fn with_records() -> Disks {
    let disks = Disks::new(1);
    let mut storage = disks.start().unwrap();
    let partition = open(&mut storage, 0).unwrap();
    for offset in 0..RECORDS {
        let mut batch = BatchBuilder::new(offset).leader_epoch(0);
        batch.append(&NewRecord {
            timestamp: 1,
            value: Some(b"a record"),
            ..NewRecord::default()
        });
        let batch = batch.build().unwrap();
        let mut state = partition.state.lock();
        state.log.append_as_follower(&batch, Timestamp(1)).unwrap();
    }
    partition.close().unwrap();
    stop(storage, &[partition], 1);
    disks
}

fn log_file(disks: &Disks) -> PathBuf {
    disks.path(0).join("t-0/00000000000000000000.log")
}

fn damage(disks: &Disks) {
    let file = fs::OpenOptions::new().write(true).open(log_file(disks));
    file.unwrap().set_len(200).unwrap();
}

fn end(partition: &Partition) -> i64 {
    partition.state.lock().log.end_offset().0
}

#[test]
fn a_damaged_log_is_refused_until_it_is_given_up_and_made_anew_with_the_metadata() {
    let disks = with_records();
    damage(&disks);
    let mut storage = disks.start().unwrap();
    let refused = open_as(&mut storage, 0, &offline()).err().unwrap();
    assert!(matches!(refused, StorageOpenError::Refused), "{refused}");
    assert!(storage.damaged().contains(&id(0)));
    storage.give_up(id(0)).unwrap();
    let partition = open_as(&mut storage, 0, &rebuilding()).unwrap();
    assert_eq!(end(&partition), 0);
    assert_eq!(storage.quarantined(), 1);
    stop(storage, &[partition], 2);

    let mut storage = disks.start().unwrap();
    assert_eq!(storage.quarantined(), 1, "starts leave it alone");
    assert_eq!(storage.damaged(), BTreeSet::new());
    open_as(&mut storage, 0, &rebuilding()).unwrap();
    storage.delete_strays(&Image::default(), ME);
    storage.tidy_quarantine(&Image::default(), ME, &[]);
    assert_eq!(storage.quarantined(), 0, "nobody needs it");
}

#[test]
fn a_log_that_was_refused_was_trusted_after_the_next_clean_stop() {
    let disks = with_records();
    fs::remove_file(disks.path(0).join(".klamm_clean_shutdown")).unwrap();
    damage(&disks);
    for _ in 0..2 {
        let storage = disks.start().unwrap();
        assert!(storage.damaged().contains(&id(0)));
        stop(storage, &[], 2);
    }
}

/// What the metadata says and what is under the log's name fit together after a crash at any step.
#[test]
fn a_crash_at_any_step_never_passes_the_damaged_log_off_as_the_new_one() {
    let mut crashes = 0;
    for operations in 0.. {
        let disks = with_records();
        damage(&disks);
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let mut storage = disks.start_on(DyingFs {
            inner: Arc::new(RealFs),
            left: Arc::clone(&left),
        });
        open_as(&mut storage, 0, &offline()).err().unwrap();
        left.store(operations, Ordering::Relaxed);
        let given_up = storage.give_up(id(0)).is_ok();
        let made = given_up && open_as(&mut storage, 0, &rebuilding()).is_ok();
        drop(storage);

        let mut storage = disks.start().unwrap();
        if given_up {
            let partition = open_as(&mut storage, 0, &rebuilding()).unwrap();
            assert_eq!(end(&partition), 0, "after {operations} operations");
            assert!(storage.quarantined() <= 1);
        } else {
            let refused = open_as(&mut storage, 0, &offline()).err().unwrap();
            assert!(matches!(refused, StorageOpenError::Refused), "{refused}");
        }
        crashes += 1;
        if made {
            break;
        }
    }
    assert!(crashes > 10, "{crashes} steps only");
}

#[test]
fn a_replica_whose_directory_was_deleted_does_not_begin_empty_as_if_it_were_new() {
    for made_by_hand in [false, true] {
        let disks = with_records();
        fs::remove_dir_all(disks.path(0).join("t-0")).unwrap();
        if made_by_hand {
            fs::create_dir(disks.path(0).join("t-0")).unwrap();
            assert_eq!(end(&open(&mut disks.start().unwrap(), 0).unwrap()), 0);
            continue;
        }
        let mut storage = disks.start().unwrap();
        let gone = open_as(&mut storage, 0, &offline()).err().unwrap();
        assert!(matches!(gone, StorageOpenError::Gone { .. }), "{gone}");
        storage.give_up(id(0)).unwrap();
        let partition = open_as(&mut storage, 0, &rebuilding()).unwrap();
        assert_eq!((end(&partition), storage.quarantined()), (0, 0));
    }
}

#[test]
fn a_log_that_does_not_tell_its_topic_is_not_taken_for_a_new_one() {
    for content in [Some(&b"topic_id: \xff\xfe"[..]), Some(b"version: 0"), None] {
        let disks = with_records();
        let file = disks.path(0).join("t-0/partition.metadata");
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let mut storage = disks.start().unwrap();
        let refused = open_as(&mut storage, 0, &offline()).err().unwrap();
        assert!(matches!(refused, StorageOpenError::Unidentified { .. }));
        storage.give_up(id(0)).unwrap();
        let partition = open_as(&mut storage, 0, &rebuilding()).unwrap();
        assert_eq!((end(&partition), storage.quarantined()), (0, 1));
    }
}

#[test]
fn a_new_topic_takes_the_place_of_a_damaged_log_of_that_name() {
    let disks = with_records();
    damage(&disks);
    let mut storage = disks.start().unwrap();
    storage.settled = true;
    let state = PartitionImage::from(&rebuilding());
    let wanted = Wanted {
        id: TopicPartition {
            topic: TopicId([8; 16]),
            partition: PartitionIndex(0),
        },
        topic: &"t".into(),
        state: &state,
        isr_timing: disks.config(ME.0).isr_timing(),
        me: ME,
    };
    let config = disks.config(ME.0);
    let config = config.topic_config(&BTreeMap::new(), crate::config::Dynamic::default(), false);
    let partition = storage.open_partition(&wanted, config).unwrap();
    assert_eq!((end(&partition), storage.quarantined()), (0, 1));
    storage.forget(id(0));
    assert!(log_file(&disks).exists(), "the new log stays");
}

#[test]
fn without_a_checkpoint_or_the_marker_logs_are_recovered_from_their_records() {
    let names = [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
        ".klamm_clean_shutdown",
    ];
    for name in names {
        for content in [Some(&b"0\n1\nt 0 x\n"[..]), Some(b""), Some(b"\xff"), None] {
            let disks = with_records();
            let file = disks.path(0).join(name);
            match content {
                Some(content) => fs::write(&file, content).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let mut storage = disks.start().unwrap();
            let partition = open(&mut storage, 0).unwrap();
            assert_eq!(end(&partition), RECORDS, "{name} {content:?}");
        }
    }
}

#[test]
fn a_log_whose_front_was_deleted_opens_without_the_checkpoint_of_log_starts() {
    for is_checkpointed in [true, false] {
        let disks = with_records();
        let first = log_file(&disks);
        for suffix in ["log", "index", "timeindex"] {
            fs::remove_file(first.with_extension(suffix)).unwrap();
        }
        fs::write(first.with_file_name("00000000000000000020.log"), "").unwrap();
        if !is_checkpointed {
            fs::remove_file(disks.path(0).join("log-start-offset-checkpoint")).unwrap();
        }
        let opened = open_as(&mut disks.start().unwrap(), 0, &offline());
        assert_eq!(
            opened.is_err(),
            is_checkpointed,
            "the front is known to be lost"
        );
    }
}

/// Position of a byte of the record at `offset`.
fn byte_of_record(disks: &Disks, offset: i64) -> u64 {
    let len = fs::metadata(log_file(disks)).unwrap().len();
    let batch_len = len / u64::try_from(RECORDS).unwrap();
    batch_len * u64::try_from(offset + 1).unwrap() - 2
}

fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_leader_looks_at_what_a_follower_refused_and_hands_on_only_what_comes_before() {
    const DAMAGED: i64 = 10;
    let disks = with_records();
    let partition = open(&mut disks.start().unwrap(), 0).unwrap();
    let state = metadata::Partition {
        offline: Vec::new(),
        replicas: vec![ME.0, 2],
        isr: vec![ME.0, 2],
        leader: ME.0,
        ..metadata::Partition::default()
    };
    partition.assign(ME, &Arc::new(PartitionImage::from(&state)));
    assert!(!partition.suspect(Offset(0), 1 << 20), "all is well");
    flip(&log_file(&disks), byte_of_record(&disks, DAMAGED));
    assert!(partition.suspect(Offset(0), 1 << 20));
    assert!(partition.is_damaged());

    let puller = broker_core::partition::Puller {
        broker: BrokerId(2),
        broker_epoch: BrokerEpoch(1),
        stream: 1,
    };
    let pull = |offset| {
        let at = crate::partition::FollowerState {
            leader_epoch: broker_core::LeaderEpoch(0),
            fetch_offset: Offset(offset),
            last_epoch: broker_core::LeaderEpoch(0),
            log_start: Offset(0),
        };
        let pulled = partition.serve_pull(puller, at, 1 << 20);
        let pulled = pulled.unwrap();
        match pulled.content {
            crate::partition::PulledContent::Records(slice) => {
                partition.read_for_follower(&slice, pulled.damaged)
            }
            _ => panic!("no records from {offset}"),
        }
    };
    let records = pull(0).unwrap();
    let last = broker_wire::record::batches(&records).last().unwrap();
    assert_eq!(last.unwrap().0.next_offset(), DAMAGED);
    assert!(pull(DAMAGED).is_err());
    assert!(pull(DAMAGED + 1).is_ok());
}
