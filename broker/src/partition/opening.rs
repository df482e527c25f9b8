//! The data directory: recovers all logs at the start, then creates, hands out and deletes them as
//! the metadata asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::available_parallelism;

use broker_core::metadata::Image;
use broker_core::partition::{Producers, Replica, WaitQueue};
use broker_core::{BrokerId, Offset, PartitionIndex, TopicPartition};
use broker_log::fs::{Fs, RealFs};
use broker_log::{
    Log, LogDir, LogDirError, OffsetEntry, OpenError, OpenJob, OpenOptions, RecoveryProgress,
    open_logs,
};
use parking_lot::Mutex;
use thiserror::Error;
use uuid::Uuid;

use super::wakers::Wakers;
use super::{Partition, State, producers};
use crate::config::{BrokerConfig, IsrTiming, TopicConfig};

/// A log was not opened.
#[derive(Debug, Error)]
pub enum StorageOpenError {
    #[error(transparent)]
    Dir(#[from] LogDirError),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error("can't read a checkpoint: {0}")]
    Checkpoint(std::io::Error),
    #[error("can't read the sequences of producers: {0}")]
    Producers(#[from] producers::RebuildError),
}

/// The data directory and the logs that nobody has asked for yet.
pub struct Storage {
    fs: Arc<dyn Fs>,
    dir: LogDir,
    unclaimed: BTreeMap<TopicPartition, (Arc<str>, Log)>,
    checkpoints: Checkpoints,
    pub(super) records_given_up: Arc<AtomicU64>,
}

/// What the checkpoint files hold, by topic name and partition. Logs that are not open keep their
/// entries: what once was durable must not look like a torn tail at the next start.
#[derive(Debug, Default)]
struct Checkpoints {
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
}

type Offsets = BTreeMap<(String, i32), Offset>;

impl Checkpoints {
    fn read(dir: &LogDir) -> Result<Self, StorageOpenError> {
        Ok(Self {
            recovery_points: by_partition(dir.recovery_points())?,
            log_starts: by_partition(dir.log_starts())?,
            high_watermarks: by_partition(dir.high_watermarks())?,
        })
    }

    /// The start offsets go first: a recovery point may be that of a log whose front was deleted.
    fn write(&self, dir: &LogDir) -> std::io::Result<()> {
        dir.write_log_starts(&entries(&self.log_starts))?;
        dir.write_recovery_points(&entries(&self.recovery_points))?;
        dir.write_high_watermarks(&entries(&self.high_watermarks))
    }

    fn forget(&mut self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        self.recovery_points.remove(&key);
        self.log_starts.remove(&key);
        self.high_watermarks.remove(&key);
    }
}

impl Storage {
    /// Opens the directory and recovers every log in it, all cores at work. Blocks.
    ///
    /// # Errors
    /// [`StorageOpenError`] when the directory is not usable. A log that can't be opened is left out
    /// and its replica stays offline.
    pub fn open(
        config: &BrokerConfig,
        progress: &RecoveryProgress,
    ) -> Result<Self, StorageOpenError> {
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let directory_id = Uuid::new_v4().to_string();
        let dir = LogDir::open(
            Arc::clone(&fs),
            &config.data_dir,
            &config.cluster_id,
            config.id.0,
            &directory_id,
        )?;
        let checkpoints = Checkpoints::read(&dir)?;
        let unclaimed = recover(&fs, &dir, &checkpoints, config, progress)?;
        Ok(Self {
            fs,
            dir,
            unclaimed,
            checkpoints,
            records_given_up: Arc::default(),
        })
    }

    /// Whether the broker closed all its logs before it stopped last.
    #[must_use]
    pub fn was_closed_cleanly(&self) -> bool {
        self.dir.clean_shutdown()
    }

    /// Opens a partition: the log found at the start, or a new one.
    pub(super) fn open_partition(
        &mut self,
        id: TopicPartition,
        topic: &Arc<str>,
        config: TopicConfig,
        isr_timing: IsrTiming,
        me: BrokerId,
    ) -> Result<Partition, StorageOpenError> {
        let mut log = match self.unclaimed.remove(&id) {
            Some((_, log)) => log,
            None => self.create(id, topic, &config)?,
        };
        log.set_config(config.log.clone());
        let dir = log.dir().to_owned();
        let producers: Producers = producers::load(&dir, &log)?;
        producers::forget(&dir);
        let checkpointed = self
            .checkpoints
            .high_watermarks
            .get(&(topic.to_string(), id.partition.0));
        let high_watermark = checkpointed
            .copied()
            .unwrap_or_default()
            .min(log.end_offset())
            .max(log.start_offset());
        let settings = State::settings(&config, isr_timing);
        Ok(Partition {
            id,
            topic: Arc::clone(topic),
            state: Mutex::new(State {
                replica: Replica::new(me, settings, high_watermark, producers),
                log,
                config,
                isr_timing,
                replicated: WaitQueue::default(),
                counted: BTreeMap::new(),
                durable: WaitQueue::default(),
                wakers: Wakers::new(id),
                closed: false,
            }),
            flushing: AtomicBool::new(false),
            records_given_up: Arc::clone(&self.records_given_up),
        })
    }

    fn create(
        &mut self,
        id: TopicPartition,
        topic: &Arc<str>,
        config: &TopicConfig,
    ) -> Result<Log, StorageOpenError> {
        self.set_aside_namesake(topic, id.partition);
        let path = self.dir.create_partition(topic, id.partition.0, id.topic)?;
        self.checkpoints.forget(topic, id.partition.0);
        let options = OpenOptions {
            clean_shutdown: true,
            recovery_point: Offset(0),
            log_start: Offset(0),
        };
        let fs = Arc::clone(&self.fs);
        let (log, _) = Log::open(
            fs,
            path,
            config.log.clone(),
            options,
            &RecoveryProgress::default(),
        )?;
        Ok(log)
    }

    /// A topic of the same name was deleted while this broker was away.
    fn set_aside_namesake(&mut self, topic: &Arc<str>, partition: PartitionIndex) {
        let namesake = self
            .unclaimed
            .iter()
            .find(|(id, (name, _))| id.partition == partition && name == topic)
            .map(|(id, _)| *id);
        if let Some(id) = namesake {
            self.unclaimed.remove(&id);
            self.delete(&[(Arc::clone(topic), partition)]);
        }
    }

    /// Deletes logs of topics that the metadata no longer has, or has no replica of here.
    pub(super) fn delete_strays(&mut self, image: &Image, me: BrokerId) {
        let strays: Vec<_> = self
            .unclaimed
            .keys()
            .filter(|id| {
                image
                    .partition(**id)
                    .is_none_or(|state| !state.has_replica(me))
            })
            .copied()
            .collect();
        let mut deleted = Vec::new();
        for id in strays {
            if let Some((topic, _)) = self.unclaimed.remove(&id) {
                tracing::warn!(%topic, partition = %id.partition, "deleting a log that was deleted or moved while this broker was away");
                deleted.push((topic, id.partition));
            }
        }
        self.delete(&deleted);
    }

    /// Removes partitions' files: at once out of sight, in the background from the disk.
    pub(super) fn delete(&mut self, partitions: &[(Arc<str>, PartitionIndex)]) {
        if partitions.is_empty() {
            return;
        }
        // First, so that a new log of the same name is never held against an old checkpoint.
        if let Err(error) = self.forget_checkpoints(partitions) {
            tracing::error!(%error, "checkpoints of deleted logs stay");
        }
        let mut renamed = Vec::new();
        for (topic, partition) in partitions {
            let unique = Uuid::new_v4().simple().to_string();
            match self.dir.delete_partition(topic, partition.0, &unique) {
                Ok(path) => renamed.push(path),
                Err(error) => {
                    tracing::error!(topic = %topic, %partition, %error, "can't delete a log")
                }
            }
        }
        let fs = Arc::clone(&self.fs);
        std::thread::spawn(move || {
            for path in renamed {
                if let Err(error) = fs.remove_dir_all(&path) {
                    tracing::warn!(dir = %path.display(), %error, "a deleted log stays until the next start");
                }
            }
        });
    }

    fn forget_checkpoints(
        &mut self,
        partitions: &[(Arc<str>, PartitionIndex)],
    ) -> std::io::Result<()> {
        for (topic, partition) in partitions {
            self.checkpoints.forget(topic, partition.0);
        }
        self.checkpoints.write(&self.dir)
    }

    /// Writes down where recovery starts and what was committed.
    pub(super) fn write_checkpoints(&mut self, partitions: &[Arc<Partition>]) {
        let mut checkpointed = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let state = partition.state.lock();
            let checkpoint = state.log.checkpoint();
            let key = (partition.topic.to_string(), partition.id.partition.0);
            let Checkpoints {
                recovery_points,
                log_starts,
                high_watermarks,
            } = &mut self.checkpoints;
            recovery_points.insert(key.clone(), checkpoint.recovery_point);
            log_starts.insert(key.clone(), checkpoint.start_offset);
            high_watermarks.insert(key, state.replica.high_watermark());
            checkpointed.push(checkpoint);
        }
        if let Err(error) = self.checkpoints.write(&self.dir) {
            tracing::error!(%error, "checkpoints not written; a crash would cost a longer recovery");
            return;
        }
        for (partition, checkpoint) in partitions.iter().zip(checkpointed) {
            partition.state.lock().log.checkpointed(checkpoint);
        }
    }

    /// The last checkpoint, and the mark that spares the next start a recovery.
    pub(super) fn close(&mut self, partitions: &[Arc<Partition>], clean: bool) {
        self.write_checkpoints(partitions);
        // Logs that nobody asked for were recovered and not written to since.
        if clean && let Err(error) = self.dir.mark_clean_shutdown() {
            tracing::warn!(%error, "clean shutdown not recorded; the next start recovers");
        }
    }
}

fn recover(
    fs: &Arc<dyn Fs>,
    dir: &LogDir,
    checkpoints: &Checkpoints,
    config: &BrokerConfig,
    progress: &RecoveryProgress,
) -> Result<BTreeMap<TopicPartition, (Arc<str>, Log)>, StorageOpenError> {
    let of = |offsets: &Offsets, key: &(String, i32)| offsets.get(key).copied().unwrap_or_default();
    let defaults = config.topic_config(&BTreeMap::new(), true);
    let found: Vec<_> = dir
        .scan()?
        .into_iter()
        .filter(|found| found.topic_id.is_some())
        .collect();
    let jobs = found
        .iter()
        .map(|found| {
            let key = (found.topic.clone(), found.partition);
            OpenJob {
                dir: found.path.clone(),
                config: defaults.log.clone(),
                options: OpenOptions {
                    clean_shutdown: dir.clean_shutdown(),
                    recovery_point: of(&checkpoints.recovery_points, &key),
                    log_start: of(&checkpoints.log_starts, &key),
                },
            }
        })
        .collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let mut logs = BTreeMap::new();
    for (found, opened) in found
        .into_iter()
        .zip(open_logs(fs, jobs, threads, progress))
    {
        let Some(topic) = found.topic_id else {
            continue;
        };
        let id = TopicPartition {
            topic,
            partition: PartitionIndex(found.partition),
        };
        match opened {
            Ok((log, report)) => {
                if report.bytes_truncated > 0 {
                    tracing::warn!(
                        topic = found.topic,
                        partition = found.partition,
                        bytes = report.bytes_truncated,
                        "torn tail cut off"
                    );
                }
                let name: Arc<str> = found.topic.into();
                logs.insert(id, (name, log));
            }
            Err(error) => tracing::error!(%error, "the replica stays offline"),
        }
    }
    tracing::info!(
        logs = logs.len(),
        clean = dir.clean_shutdown(),
        "logs opened"
    );
    Ok(logs)
}

fn entries(offsets: &Offsets) -> Vec<OffsetEntry> {
    let entry = |((topic, partition), offset): (&(String, i32), &Offset)| OffsetEntry {
        topic: topic.clone(),
        partition: *partition,
        offset: *offset,
    };
    offsets.iter().map(entry).collect()
}

fn by_partition(entries: std::io::Result<Vec<OffsetEntry>>) -> Result<Offsets, StorageOpenError> {
    let entries = entries.map_err(StorageOpenError::Checkpoint)?;
    Ok(entries
        .into_iter()
        .map(|entry| ((entry.topic, entry.partition), entry.offset))
        .collect())
}
