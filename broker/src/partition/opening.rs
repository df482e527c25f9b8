//! The logs of this broker: those found at the start are handed out as the metadata asks for them,
//! new ones are made in one of the directories, and those nobody needs are deleted.

mod damaged;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use broker_core::metadata::{Image, PartitionImage, ReplicaHealth};
use broker_core::partition::{Replica, Settings, WaitQueue};
use broker_core::{BrokerId, Offset, PartitionIndex, TopicPartition};
use broker_log::fs::{Fs, RealFs};
use broker_log::{Log, LogDirError, OpenError, OpenOptions, RecoveryProgress, StorageError};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use super::delete_records::FollowerStarts;
use super::moving::{Move, discard_copy, new_log_id};
use super::quarantine::Quarantine;
use super::recovery::{DamagedLog, Found, Recovered, recover_all};
use super::wakers::Wakers;
use super::{Partition, Shared, State, producers};
use crate::config::{BrokerConfig, IsrTiming, TopicConfig};
use crate::log_dirs::{Checkpointed, Directory, LogDirs, LogDirsError, LogName};
use crate::previous_run::LastRun;

/// Replicas that are not here and have a directory all the same. For more of them it is not remembered.
const PREFERRED_MAX: usize = 10_000;

/// A log was not opened.
#[derive(Debug, Error)]
pub enum StorageOpenError {
    #[error(transparent)]
    Dirs(#[from] LogDirsError),
    #[error(transparent)]
    Dir(#[from] LogDirError),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error("can't read a checkpoint: {0}")]
    Checkpoint(io::Error),
    #[error("can't look for the mark of a damaged log: {0}")]
    Mark(io::Error),
    #[error("can't make what was recovered durable: {0}")]
    Sync(#[from] StorageError),
    #[error("can't read the sequences of producers: {0}")]
    Producers(#[from] producers::RebuildError),
    /// It may be in a directory that can't be read.
    #[error("a log directory is offline that may hold it")]
    DirectoryOffline,
    /// See the log of the start.
    #[error("its log was refused when the broker started")]
    Refused,
    #[error("its log was here and is gone; to begin with an empty one, make the directory {}", path.display())]
    Gone { path: PathBuf },
    #[error("{} is missing or damaged: nobody knows which topic of that name the log is of", path.display())]
    Unidentified { path: PathBuf },
}

impl StorageOpenError {
    /// Whether it may be tried again once there is space.
    pub(super) fn is_full_disk(&self) -> bool {
        match self {
            Self::Dir(LogDirError::Io { source, .. })
            | Self::Log(OpenError::Io { source, .. })
            | Self::Checkpoint(source) => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}

/// The log directories, and the logs in them that nobody has asked for yet.
pub struct Storage {
    dirs: Arc<LogDirs>,
    recovered: Recovered,
    /// Where replicas that may come are to be made.
    preferred: BTreeMap<LogName, Arc<Directory>>,
    last_run: LastRun,
    /// The metadata from before the start has been applied: what it asks for now is new.
    settled: bool,
    quarantine: Quarantine,
    pub(super) shared: Arc<Shared>,
}

impl Storage {
    /// Opens the directories and recovers every log in them. Blocks.
    ///
    /// # Errors
    /// [`StorageOpenError`] when the broker can't go on with the directories. A log that can't be
    /// opened is left out and its replica stays offline.
    pub fn open(
        config: &BrokerConfig,
        progress: &RecoveryProgress,
    ) -> Result<Self, StorageOpenError> {
        Self::open_on(&(Arc::new(RealFs) as Arc<dyn Fs>), config, progress)
    }

    pub(super) fn open_on(
        fs: &Arc<dyn Fs>,
        config: &BrokerConfig,
        progress: &RecoveryProgress,
    ) -> Result<Self, StorageOpenError> {
        let dirs = Arc::new(LogDirs::open(config, fs)?);
        let recovered = recover_all(&dirs, config, progress);
        dirs.check_usable()?;
        let last_run = dirs.begin_run();
        let quarantine = Quarantine::find(&dirs);
        let storage = Self {
            dirs,
            recovered,
            preferred: BTreeMap::new(),
            last_run,
            settled: false,
            quarantine,
            shared: Arc::default(),
        };
        storage.count_damaged();
        Ok(storage)
    }

    /// What the directories know of the run that used them last.
    #[must_use]
    pub const fn last_run(&self) -> LastRun {
        self.last_run
    }

    pub(super) const fn dirs(&self) -> &Arc<LogDirs> {
        &self.dirs
    }

    /// Opens a partition: the log found at the start, or a new one.
    pub(super) fn open_partition(
        &mut self,
        wanted: &Wanted<'_>,
        config: TopicConfig,
    ) -> Result<Partition, StorageOpenError> {
        let id = wanted.id;
        let mut found = match self.recovered.logs.remove(&id) {
            Some(found) => found,
            None if self.may_be_offline(wanted) => return Err(StorageOpenError::DirectoryOffline),
            None => {
                let remains = self.look_for_remains(wanted);
                self.count_damaged();
                remains?;
                self.create(wanted, &config)?
            }
        };
        let moving = self.take_copy(id, &found);
        let log = &mut found.log;
        log.set_config(config.log.clone());
        if config.log.flush_messages == Some(1) {
            // What was committed is known from the last run, but not whether a sync was the last thing
            // that happened to it.
            let synced = log.sync_handle().sync()?;
            log.synced(synced);
        }
        let checkpointed = name(wanted.topic, id.partition);
        let checkpointed = found.directory.checkpoints().get(&checkpointed);
        log.resume_compaction(checkpointed.compacted_upto);
        let producers = producers::load(&**found.directory.fs(), log).inspect_err(|error| {
            if error.is_damage() {
                let log = DamagedLog {
                    topic: Arc::clone(wanted.topic),
                    directory: Arc::clone(&found.directory),
                };
                self.refuse(id, log);
            }
        })?;
        let high_watermark = found
            .high_watermark
            .min(log.end_offset())
            .max(log.start_offset());
        let settings = Settings {
            min_insync_replicas: config.min_insync_replicas,
            lag_time_max: wanted.isr_timing.lag_time_max,
            isr_dwell: wanted.isr_timing.dwell,
        };
        Ok(Partition {
            id,
            topic: Arc::clone(wanted.topic),
            state: Mutex::new(State {
                replica: Replica::new(wanted.me, settings, high_watermark, producers),
                log: found.log,
                directory: found.directory,
                moving,
                config,
                isr_timing: wanted.isr_timing,
                replicated: WaitQueue::default(),
                counted: BTreeMap::new(),
                durable: WaitQueue::default(),
                wakers: Wakers::new(id),
                follower_starts: FollowerStarts::default(),
                assigned: None,
                damaged: false,
                disk_full: false,
                closed: false,
            }),
            flushing: AtomicBool::new(false),
            low_watermark_moved: Notify::new(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Whether a replica that was not found may be in a directory that can't be read. A replica that
    /// the metadata knew before the start may have been there; and what is known as offline is not
    /// made anew, because its directory may come back.
    fn may_be_offline(&self, wanted: &Wanted<'_>) -> bool {
        let known_as_offline = wanted.state.health(wanted.me) == ReplicaHealth::Offline;
        self.dirs.any_failed() && (!self.settled || known_as_offline)
    }

    fn create(
        &mut self,
        wanted: &Wanted<'_>,
        config: &TopicConfig,
    ) -> Result<Found, StorageOpenError> {
        let index = wanted.id.partition;
        self.set_aside_namesake(wanted.topic, index);
        self.forget_namesake(wanted);
        self.delete_leftovers(wanted)?;
        let name = name(wanted.topic, index);
        let preferred = self.preferred.get(&name).cloned().into_iter();
        let directories = preferred.filter(|directory| !directory.is_failed());
        let mut refusal = StorageOpenError::DirectoryOffline;
        for directory in directories.chain(self.dirs.for_new_replica()) {
            match create_in(&directory, wanted, config) {
                Ok(found) => {
                    self.preferred.remove(&name);
                    return Ok(found);
                }
                Err(error) if error.is_full_disk() => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    /// Deletes what is under the name of a replica that is new here: the disk did not let an earlier one
    /// be deleted, or made as a whole. Its records must not become those of the new one.
    fn delete_leftovers(&self, wanted: &Wanted<'_>) -> Result<(), StorageOpenError> {
        let (topic, index) = (wanted.topic, wanted.id.partition.0);
        for directory in self.dirs.opened().iter().filter(|dir| !dir.is_failed()) {
            let dir = directory.dir();
            let exists = directory.fs().exists(&dir.partition_path(topic, index)?);
            if exists.map_err(StorageOpenError::Checkpoint)? {
                tracing::warn!(%topic, partition = index, dir = %directory.path().display(), "deleting what is left of a log that was deleted");
                let unique = Uuid::new_v4().simple().to_string();
                let path = dir.delete_partition(topic, index, &unique)?;
                remove_in_background(directory, vec![path]);
            }
        }
        Ok(())
    }

    /// Notes where a replica is to be made, should it come.
    pub(super) fn prefer(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        directory: &Arc<Directory>,
    ) {
        let name = name(topic, partition);
        if self.preferred.len() < PREFERRED_MAX || self.preferred.contains_key(&name) {
            self.preferred.insert(name, Arc::clone(directory));
        }
    }

    /// Goes on with the copy that was being made of a log when the broker stopped.
    fn take_copy(&mut self, id: TopicPartition, original: &Found) -> Option<Move> {
        let copy = self.recovered.copies.remove(&id)?;
        let directory = &copy.directory;
        if copy.replaces.is_some() && copy.replaces == original.log_id {
            let log_id = copy.log_id.unwrap_or_default();
            return Some(Move::resume(directory, log_id, copy.log, &original.log));
        }
        discard_copy(directory, copy.log.dir(), &copy.topic, id.partition);
        None
    }

    /// A topic of the same name was deleted while this broker was away.
    pub(super) fn set_aside_namesake(&mut self, topic: &Arc<str>, partition: PartitionIndex) {
        let logs = &self.recovered.logs;
        let namesake = logs
            .iter()
            .find(|(id, found)| id.partition == partition && found.topic == *topic)
            .map(|(id, _)| *id);
        if let Some(found) = namesake.and_then(|id| self.recovered.logs.remove(&id)) {
            delete(&found.directory, &[(topic, partition)]);
        }
    }

    /// Deletes logs of topics that the metadata no longer has, or has no replica of here. From now on
    /// a replica that is not known is a new one.
    pub(super) fn delete_strays(&mut self, image: &Image, me: BrokerId) {
        self.settled = true;
        self.forget_strays(image, me);
        let is_stray = |id: &TopicPartition| {
            let state = image.partition(*id);
            state.is_none_or(|state| !state.has_replica(me))
        };
        for (id, copy) in self.recovered.copies.extract_if(.., |id, _| is_stray(id)) {
            discard_copy(&copy.directory, copy.log.dir(), &copy.topic, id.partition);
        }
        let known = self.recovered.logs.keys();
        let strays: BTreeSet<_> = known.filter(|id| is_stray(id)).copied().collect();
        for id in strays {
            if let Some(found) = self.recovered.logs.remove(&id) {
                tracing::warn!(topic = %found.topic, partition = %id.partition, "deleting a log that was deleted or moved while this broker was away");
                delete(&found.directory, &[(&found.topic, id.partition)]);
            }
        }
    }

    /// Writes down where recovery starts and what was committed.
    pub(super) fn write_checkpoints(&self, partitions: &[Arc<Partition>]) {
        for directory in self.dirs.opened().iter().filter(|dir| !dir.is_failed()) {
            if let Err(error) = write_checkpoints(directory, partitions) {
                tracing::error!(
                    dir = %directory.path().display(), %error,
                    "checkpoints not written; a crash would cost a longer recovery"
                );
            }
        }
    }

    /// The last checkpoint, and the marks that spare the next start a recovery. `unclean` holds
    /// directories with a log that was not closed.
    pub(super) fn close(&mut self, partitions: &[Arc<Partition>], unclean: &[Arc<Directory>]) {
        self.write_checkpoints(partitions);
        for directory in self.dirs.opened() {
            let clean = !directory.is_failed()
                && !unclean.iter().any(|d| Arc::ptr_eq(d, directory))
                && self.recovered.settle(directory);
            if clean && let Err(error) = directory.dir().mark_clean_shutdown() {
                tracing::warn!(dir = %directory.path().display(), %error, "clean shutdown not recorded; the next start recovers");
            }
        }
    }
}

fn create_in(
    directory: &Arc<Directory>,
    wanted: &Wanted<'_>,
    config: &TopicConfig,
) -> Result<Found, StorageOpenError> {
    let created = create_log(directory, wanted, config);
    if created.is_err() {
        // Else the next start might find two logs of the replica.
        let (topic, index) = (wanted.topic, wanted.id.partition.0);
        let unique = Uuid::new_v4().simple().to_string();
        if let Ok(path) = directory.dir().delete_partition(topic, index, &unique) {
            remove_in_background(directory, vec![path]);
        }
    }
    created
}

fn create_log(
    directory: &Arc<Directory>,
    wanted: &Wanted<'_>,
    config: &TopicConfig,
) -> Result<Found, StorageOpenError> {
    let (topic, index) = (wanted.topic, wanted.id.partition);
    directory
        .forget(&name(topic, index))
        .map_err(StorageOpenError::Checkpoint)?;
    let log_id = new_log_id();
    let dir = directory.dir();
    let path = dir.create_partition(topic, index.0, wanted.id.topic, &log_id)?;
    let options = OpenOptions {
        clean_shutdown: true,
        recovery_point: Offset(0),
        log_start: Offset(0),
        disk_failed: false,
    };
    let (log, _) = Log::open(
        Arc::clone(directory.fs()),
        path,
        config.log.clone(),
        options,
        &RecoveryProgress::default(),
    )?;
    directory.replica_added();
    Ok(Found {
        topic: Arc::clone(topic),
        log,
        high_watermark: Offset(0),
        directory: Arc::clone(directory),
        log_id: Some(log_id),
        replaces: None,
    })
}

/// A replica that the metadata wants here.
pub(super) struct Wanted<'a> {
    pub(super) id: TopicPartition,
    pub(super) topic: &'a Arc<str>,
    pub(super) state: &'a PartitionImage,
    pub(super) isr_timing: IsrTiming,
    pub(super) me: BrokerId,
}

/// Removes partitions' files from a directory: at once out of sight, in the background from the disk.
pub(super) fn delete(directory: &Arc<Directory>, partitions: &[(&str, PartitionIndex)]) {
    if directory.is_failed() {
        // They are strays at the next start.
        return;
    }
    // First, so that a new log of the same name is never held against an old checkpoint.
    let forgotten = directory.write_checkpoints(|checkpoints| {
        for (topic, partition) in partitions {
            checkpoints.forget(&name(topic, *partition));
        }
    });
    if let Err(error) = forgotten {
        tracing::error!(%error, "checkpoints of deleted logs stay");
    }
    let mut renamed = Vec::new();
    for (topic, partition) in partitions {
        let unique = Uuid::new_v4().simple().to_string();
        match directory
            .dir()
            .delete_partition(topic, partition.0, &unique)
        {
            Ok(path) => renamed.push(path),
            Err(error) => {
                tracing::error!(topic, %partition, %error, "can't delete a log")
            }
        }
        directory.replica_removed();
    }
    remove_in_background(directory, renamed);
}

/// Removes directories that are out of sight.
pub(super) fn remove_in_background(directory: &Directory, paths: Vec<PathBuf>) {
    let fs = Arc::clone(directory.fs());
    std::thread::spawn(move || {
        for path in paths {
            remove_dir(&*fs, &path);
        }
    });
}

fn remove_dir(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.remove_dir_all(path) {
        tracing::warn!(dir = %path.display(), %error, "a deleted log stays until the next start");
    }
}

/// Writes down where recovery of the partitions in `directory` starts and what was committed.
fn write_checkpoints(directory: &Arc<Directory>, partitions: &[Arc<Partition>]) -> io::Result<()> {
    let mut checkpointed = Vec::new();
    directory.write_checkpoints(|checkpoints| {
        for partition in partitions {
            let state = partition.state.lock();
            if !Arc::ptr_eq(&state.directory, directory) {
                continue;
            }
            let checkpoint = state.log.checkpoint();
            let offsets = Checkpointed {
                recovery_point: checkpoint.recovery_point,
                log_start: checkpoint.start_offset,
                high_watermark: state.replica.high_watermark(),
                compacted_upto: state.log.compacted_upto(),
            };
            checkpoints.set(name(&partition.topic, partition.id.partition), offsets);
            checkpointed.push((partition, checkpoint));
        }
    })?;
    for (partition, checkpoint) in checkpointed {
        partition.checkpointed(checkpoint);
    }
    Ok(())
}

/// Writes down where the logs of `partitions` start: what was deleted must not come back once somebody
/// counts on it. Blocks.
pub fn write_log_starts(partitions: Vec<Arc<Partition>>) {
    let mut by_directory: Vec<(Arc<Directory>, Vec<Arc<Partition>>)> = Vec::new();
    for partition in partitions {
        let directory = partition.directory();
        let mut known = by_directory.iter_mut();
        match known.find(|(known, _)| Arc::ptr_eq(known, &directory)) {
            Some((_, partitions)) => partitions.push(partition),
            None => by_directory.push((directory, vec![partition])),
        }
    }
    for (directory, partitions) in by_directory {
        if let Err(error) = write_checkpoints(&directory, &partitions) {
            tracing::error!(
                dir = %directory.path().display(), %error,
                "log start offsets not written down; trying again"
            );
        }
    }
}

fn name(topic: &str, partition: PartitionIndex) -> LogName {
    (topic.to_owned(), partition.0)
}
