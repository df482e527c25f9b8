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
use broker_log::{Log, LogConfig, LogDir, OpenOptions, RecoveryProgress};

use super::checkpoints::Checkpoints;
use super::deletion::FollowerStarts;
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
    checkpoints: Checkpoints,
}

impl Storage {
    /// Opens the directory and recovers every log in it.
    pub(crate) fn open(disk: &MemoryFs, me: BrokerId, disk_failed: bool) -> Result<Self, Reason> {
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let directory_id = format!("disk-{me}");
        let path = Path::new("/data");
        let dir =
            LogDir::open(Arc::clone(&fs), path, CLUSTER_ID, me.0, &directory_id).map_err(reason)?;
        let checkpoints = Checkpoints::read(&dir).map_err(reason)?;
        let mut unclaimed = BTreeMap::new();
        for found in dir.scan().map_err(reason)? {
            let checkpointed = checkpoints.get(&found.topic, found.partition);
            let options = OpenOptions {
                clean_shutdown: dir.clean_shutdown(),
                recovery_point: checkpointed.recovery_point,
                log_start: checkpointed.log_start,
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
            checkpoints,
        })
    }

    /// Where they start.
    pub(crate) fn found_starts(&self) -> impl Iterator<Item = (TopicPartition, Offset)> + '_ {
        let logs = self.unclaimed.iter();
        logs.map(|(id, log)| (*id, log.start_offset()))
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
        unique: u64,
    ) -> Result<Hosted, Reason> {
        let topic = image
            .topics
            .get(&id.topic)
            .ok_or("its topic is not known")?;
        let (settings, config) = topic_settings(image, id).ok_or("its topic is not known")?;
        let mut log = match self.unclaimed.remove(&id) {
            Some(log) => log,
            None => self.create(&topic.name, id, &config, unique)?,
        };
        let flushes_every_message = config.flush_messages == Some(1);
        log.set_config(config);
        if flushes_every_message {
            let synced = log.sync_handle().sync().map_err(reason)?;
            log.synced(synced);
        }
        let producers = read_producers(&log).map_err(|_| "can't read its producers")?;
        let checkpointed = self.checkpoints.get(&topic.name, id.partition.0);
        let high_watermark = checkpointed.high_watermark.min(log.end_offset());
        let high_watermark = high_watermark.max(log.start_offset());
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
            told: high_watermark,
            moved: true,
            follower_starts: FollowerStarts::new(),
            abandoned: Vec::new(),
        })
    }

    /// Deletes a partition's files. What can't be deleted is a stray at the next start.
    pub(crate) fn delete(&mut self, topic: &str, id: TopicPartition, unique: u64) {
        // First, so that a new log of the same name is never held against an old checkpoint.
        self.checkpoints.forget(topic, id);
        let _ = self.checkpoints.write(&self.dir);
        let unique = format!("{unique:032x}");
        if let Ok(path) = self.dir.delete_partition(topic, id.partition.0, &unique) {
            let _ = self.dir.remove_deleted(&path);
        }
    }

    /// Deletes logs of replicas that were removed while this broker was away, and returns which.
    pub(crate) fn delete_strays(
        &mut self,
        image: &Image,
        me: BrokerId,
        mut unique: impl FnMut() -> u64,
    ) -> Vec<TopicPartition> {
        let is_stray = |id: &TopicPartition| {
            image
                .partition(*id)
                .is_none_or(|state| !state.has_replica(me))
        };
        let strays: Vec<TopicPartition> = self.unclaimed.keys().copied().filter(is_stray).collect();
        for id in &strays {
            self.unclaimed.remove(id);
            if let Some(topic) = image.topics.get(&id.topic) {
                self.delete(&topic.name, *id, unique());
            }
        }
        strays
    }

    fn create(
        &mut self,
        topic: &str,
        id: TopicPartition,
        config: &LogConfig,
        unique: u64,
    ) -> Result<Log, Reason> {
        self.delete_leftovers(topic, id, unique)?;
        self.checkpoints.forget(topic, id);
        self.checkpoints.write(&self.dir).map_err(reason)?;
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

    /// What a full disk did not let [`Self::delete`] take away.
    fn delete_leftovers(&self, topic: &str, id: TopicPartition, unique: u64) -> Result<(), Reason> {
        let index = id.partition.0;
        let path = self.dir.partition_path(topic, index).map_err(reason)?;
        if self.fs.exists(&path).map_err(reason)? {
            let unique = format!("{unique:032x}");
            let deleted = self.dir.delete_partition(topic, index, &unique);
            let _ = self.dir.remove_deleted(&deleted.map_err(reason)?);
        }
        Ok(())
    }

    /// Writes down where recovery starts and what was committed.
    pub(crate) fn write_checkpoints(
        &mut self,
        hosted: &mut BTreeMap<TopicPartition, Hosted>,
    ) -> bool {
        for hosted in hosted.values() {
            self.checkpoints.note(hosted);
        }
        let written = self.checkpoints.write(&self.dir).is_ok();
        if written {
            for hosted in hosted.values_mut() {
                let checkpoint = hosted.log.checkpoint();
                hosted.log.checkpointed(checkpoint);
            }
        }
        written
    }

    pub(crate) fn mark_clean_shutdown(&self) -> bool {
        self.dir.mark_clean_shutdown().is_ok()
    }
}
