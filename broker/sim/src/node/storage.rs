//! The data directory of one process. Mirrors `broker/src/partition/opening.rs` and
//! `broker/src/previous_run.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::partition::{Replica, WaitQueue};
use broker_core::{BrokerEpoch, BrokerId, Offset, PartitionIndex, TopicPartition};
use broker_log::fs::Fs;
use broker_log::fs::memory::MemoryFs;
use broker_log::{Log, LogConfig, LogDir, OffsetEntry, OpenOptions, RecoveryProgress};

use super::hosted::{Hosted, topic_settings};
use super::pull::read_producers;

const CLUSTER_ID: &str = "sim";

/// What disks say about the run that used them last: its registration's epoch, and the same if all
/// that it acknowledged is still there, else -1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastRun {
    pub(crate) epoch: BrokerEpoch,
    pub(crate) lossless_epoch: BrokerEpoch,
}

type ByPartition = BTreeMap<(String, i32), Offset>;

/// Why a directory or a log was not opened, for the trace.
pub(crate) type Reason = String;

fn reason(error: impl Display) -> Reason {
    error.to_string()
}

/// See the module's documentation.
pub(crate) struct Storage {
    fs: Arc<dyn Fs>,
    dir: LogDir,
    unclaimed: BTreeMap<TopicPartition, Log>,
    high_watermarks: ByPartition,
}

impl Storage {
    /// Opens the directory and recovers every log in it.
    pub(crate) fn open(disk: &MemoryFs, me: BrokerId, disk_failed: bool) -> Result<Self, Reason> {
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let directory_id = format!("disk-{me}");
        let path = Path::new("/data");
        let dir =
            LogDir::open(Arc::clone(&fs), path, CLUSTER_ID, me.0, &directory_id).map_err(reason)?;
        let recovery_points = by_partition(dir.recovery_points())?;
        let log_starts = by_partition(dir.log_starts())?;
        let high_watermarks = by_partition(dir.high_watermarks())?;
        let mut unclaimed = BTreeMap::new();
        for found in dir.scan().map_err(reason)? {
            let key = (found.topic.clone(), found.partition);
            let options = OpenOptions {
                clean_shutdown: dir.clean_shutdown(),
                recovery_point: recovery_points.get(&key).copied().unwrap_or_default(),
                log_start: log_starts.get(&key).copied().unwrap_or_default(),
                disk_failed,
            };
            let Some(topic) = found.metadata.map(|metadata| metadata.topic_id) else {
                continue;
            };
            let id = TopicPartition {
                topic,
                partition: PartitionIndex(found.partition),
            };
            let config = LogConfig {
                segment_bytes: 2048,
                segment_index_bytes: 512,
                ..LogConfig::default()
            };
            let progress = RecoveryProgress::default();
            let opened = Log::open(Arc::clone(&fs), found.path, config, options, &progress);
            unclaimed.insert(id, opened.map_err(reason)?.0);
        }
        Ok(Self {
            fs,
            dir,
            unclaimed,
            high_watermarks,
        })
    }

    pub(crate) fn was_closed_cleanly(&self) -> bool {
        self.dir.clean_shutdown()
    }

    /// The logs that were found, before anybody asked for them.
    pub(crate) fn found(&self) -> impl Iterator<Item = (TopicPartition, Offset)> + '_ {
        self.unclaimed
            .iter()
            .map(|(id, log)| (*id, log.end_offset()))
    }

    /// Makes the logs durable that nobody has asked for.
    pub(crate) fn sync_unclaimed(&self) -> bool {
        let mut logs = self.unclaimed.values();
        logs.all(|log| log.checkpoint_handle().sync().is_ok())
    }

    /// Opens a partition: the log found at the start, or a new one.
    pub(crate) fn open_partition(
        &mut self,
        id: TopicPartition,
        image: &Image,
        me: BrokerId,
    ) -> Result<Hosted, Reason> {
        let topic = image
            .topics
            .get(&id.topic)
            .ok_or("its topic is not known")?;
        let (settings, config) = topic_settings(image, id).ok_or("its topic is not known")?;
        let mut log = match self.unclaimed.remove(&id) {
            Some(log) => log,
            None => self.create(&topic.name, id, &config)?,
        };
        let flushes_every_message = config.flush_messages == Some(1);
        log.set_config(config);
        if flushes_every_message {
            let synced = log.sync_handle().sync().map_err(reason)?;
            log.synced(synced);
        }
        let producers = read_producers(&log).map_err(|_| "can't read its producers")?;
        let key = (topic.name.to_string(), id.partition.0);
        let checkpointed = self.high_watermarks.get(&key).copied().unwrap_or_default();
        let high_watermark = checkpointed.min(log.end_offset()).max(log.start_offset());
        Ok(Hosted {
            id,
            topic: Arc::clone(&topic.name),
            replica: Replica::new(me, settings, high_watermark, producers),
            log,
            min_insync_replicas: settings.min_insync_replicas,
            replicas: 0,
            replicated: WaitQueue::default(),
            counted: BTreeMap::new(),
            durable: WaitQueue::default(),
            flushing: false,
            cut_short_at: None,
            verified: Offset(0),
            moved: true,
            abandoned: Vec::new(),
        })
    }

    /// Deletes a partition's files. What can't be deleted is a stray at the next start.
    pub(crate) fn delete(&mut self, topic: &str, id: TopicPartition, unique: u64) {
        let key = (topic.to_owned(), id.partition.0);
        self.high_watermarks.remove(&key);
        let unique = format!("{unique:032x}");
        if let Ok(path) = self.dir.delete_partition(topic, id.partition.0, &unique) {
            let _ = self.dir.remove_deleted(&path);
        }
    }

    /// Deletes logs of replicas that were removed while this broker was away.
    pub(crate) fn delete_strays(
        &mut self,
        image: &Image,
        me: BrokerId,
        mut unique: impl FnMut() -> u64,
    ) {
        let is_stray = |id: &TopicPartition| {
            image
                .partition(*id)
                .is_none_or(|state| !state.has_replica(me))
        };
        let strays: Vec<TopicPartition> = self.unclaimed.keys().copied().filter(is_stray).collect();
        for id in strays {
            self.unclaimed.remove(&id);
            if let Some(topic) = image.topics.get(&id.topic) {
                self.delete(&topic.name, id, unique());
            }
        }
    }

    fn create(&self, topic: &str, id: TopicPartition, config: &LogConfig) -> Result<Log, Reason> {
        let made = self
            .dir
            .create_partition(topic, id.partition.0, id.topic, "log");
        let options = OpenOptions {
            clean_shutdown: true,
            recovery_point: Offset(0),
            log_start: Offset(0),
            disk_failed: false,
        };
        let progress = RecoveryProgress::default();
        let path = made.map_err(reason)?;
        let opened = Log::open(
            Arc::clone(&self.fs),
            path,
            config.clone(),
            options,
            &progress,
        );
        opened.map(|(log, _)| log).map_err(reason)
    }

    /// Writes down where recovery starts and what was committed.
    pub(crate) fn write_checkpoints<'a>(&self, hosted: impl Iterator<Item = &'a Hosted>) -> bool {
        let (mut recovery, mut marks) = (Vec::new(), Vec::new());
        for partition in hosted {
            let entry = |offset| OffsetEntry {
                topic: partition.topic.to_string(),
                partition: partition.id.partition.0,
                offset,
            };
            recovery.push(entry(partition.log.recovery_point()));
            marks.push(entry(partition.replica.high_watermark()));
        }
        let written = self.dir.write_recovery_points(&recovery);
        written
            .and_then(|()| self.dir.write_high_watermarks(&marks))
            .is_ok()
    }

    pub(crate) fn mark_clean_shutdown(&self) -> bool {
        self.dir.mark_clean_shutdown().is_ok()
    }
}

fn by_partition(entries: std::io::Result<Vec<OffsetEntry>>) -> Result<ByPartition, Reason> {
    let entries = entries.map_err(reason)?.into_iter();
    Ok(entries
        .map(|entry| ((entry.topic, entry.partition), entry.offset))
        .collect())
}
