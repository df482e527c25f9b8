//! Opening every log that is on disk when the broker starts, all directories and cores at work.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use broker_core::{Offset, PartitionIndex, TopicPartition};
use broker_log::{
    Log, OpenError, OpenJob, OpenOptions, PartitionDir, RecoveryProgress, RecoveryReport, open_logs,
};

use super::moving::discard_copy;
use super::opening::{StorageOpenError, delete};
use crate::config::{BrokerConfig, Dynamic};
use crate::log_dirs::{Directory, LogDirs, record};

/// A log that was found, not yet asked for.
pub(super) struct Found {
    pub(super) topic: Arc<str>,
    pub(super) log: Log,
    pub(super) high_watermark: Offset,
    pub(super) directory: Arc<Directory>,
    /// Tells the log from every other one of the replica.
    pub(super) log_id: Option<String>,
    /// Id of the log of which this one takes the place.
    pub(super) replaces: Option<String>,
}

/// A log that is not used.
#[derive(Clone)]
pub(super) enum Refused {
    /// The partition may be copied from its leader.
    Damaged(DamagedLog),
    /// Somebody has to look after it.
    Unusable,
}

/// A log that is damaged or gone.
#[derive(Clone)]
pub(super) struct DamagedLog {
    pub(super) topic: Arc<str>,
    pub(super) directory: Arc<Directory>,
}

impl DamagedLog {
    /// Whether the next start refuses the log without looking into it: it is marked, or gone.
    pub(super) fn stays_refused(&self, id: TopicPartition) -> io::Result<bool> {
        let dir = self.directory.dir();
        let path = dir
            .partition_path(&self.topic, id.partition.0)
            .map_err(io::Error::other)?;
        Ok(!self.directory.fs().exists(&path)? || dir.is_marked_damaged(&path)?)
    }
}

/// What was on the disks.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) logs: BTreeMap<TopicPartition, Found>,
    /// Copies that were being made of logs, to move them.
    pub(super) copies: BTreeMap<TopicPartition, Found>,
    /// Logs that could not be opened.
    pub(super) refused: BTreeMap<TopicPartition, Refused>,
    /// Logs whose files do not tell which topic of that name they are of.
    pub(super) unidentified: BTreeMap<(String, i32), Arc<Directory>>,
}

/// Opens all logs. A directory that fails meanwhile is left out.
pub(super) fn recover_all(
    dirs: &LogDirs,
    config: &BrokerConfig,
    progress: &RecoveryProgress,
) -> Recovered {
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = cores.div_ceil(dirs.opened().len().max(1));
    let by_directory: Vec<_> = std::thread::scope(|scope| {
        let recoveries: Vec<_> = dirs
            .opened()
            .iter()
            .map(|directory| scope.spawn(|| recover(directory, config, threads, progress)))
            .collect();
        let joined = recoveries.into_iter().map(|recovery| recovery.join());
        joined
            .map(|outcome| outcome.expect("recovery does not panic"))
            .collect()
    });
    let mut recovered = Recovered::default();
    for (directory, outcome) in dirs.opened().iter().zip(by_directory) {
        match outcome {
            Ok(outcome) => {
                for (id, found) in outcome.logs {
                    if found.is_ok() {
                        directory.replica_added();
                    }
                    recovered.add(id, found);
                }
                for (id, copy) in outcome.copies {
                    recovered.add_copy(id, copy);
                }
                let unidentified = outcome.unidentified.into_iter();
                recovered
                    .unidentified
                    .extend(unidentified.map(|name| (name, Arc::clone(directory))));
            }
            Err(error) => directory.condition().fail(&error),
        }
    }
    // What a directory gave before it failed is not to be used, and not to be believed next time.
    for directory in dirs.opened().iter().filter(|dir| dir.is_failed()) {
        record(directory).mark_lossy();
    }
    for found in [&mut recovered.logs, &mut recovered.copies] {
        found.retain(|_, found| !found.directory.is_failed());
    }
    recovered
}

impl Recovered {
    fn add(&mut self, id: TopicPartition, found: Result<Found, Refused>) {
        let found = match found {
            Ok(found) => found,
            Err(refused) => {
                let alone = !self.logs.contains_key(&id) && !self.refused.contains_key(&id);
                let refused = if alone { refused } else { Refused::Unusable };
                self.logs.remove(&id);
                self.refused.insert(id, refused);
                return;
            }
        };
        match self.logs.remove(&id) {
            None if self.refused.contains_key(&id) => {
                self.refused.insert(id, Refused::Unusable);
            }
            None => _ = self.logs.insert(id, found),
            Some(other) => match newer(id, other, found) {
                Some(newer) => _ = self.logs.insert(id, newer),
                None => _ = self.refused.insert(id, Refused::Unusable),
            },
        }
    }

    /// Makes the logs in `directory` durable that nobody asked for: after a crash the last run's records
    /// may be in the page cache only. False when the next start has to recover one again.
    pub(super) fn settle(&self, directory: &Arc<Directory>) -> bool {
        let logs = self.logs.values();
        let mut here = logs.filter(|found| Arc::ptr_eq(&found.directory, directory));
        let stays_refused = |(id, refused): (&TopicPartition, &Refused)| match refused {
            Refused::Damaged(log) if Arc::ptr_eq(&log.directory, directory) => {
                log.stays_refused(*id).unwrap_or(false)
            }
            Refused::Damaged(_) => true,
            Refused::Unusable => false,
        };
        self.refused.iter().all(stays_refused)
            && here.all(|found| found.log.checkpoint_handle().sync().is_ok())
    }

    /// A move to another directory was begun while this one was away.
    fn add_copy(&mut self, id: TopicPartition, copy: Found) {
        if let Some(other) = self.copies.insert(id, copy) {
            discard_copy(
                &other.directory,
                other.log.dir(),
                &other.topic,
                id.partition,
            );
        }
    }
}

/// Of two logs of one replica, the one whose directory was in use when the other's was not; the other
/// one is from before its disk failed. In directories that were in use together, the one that replaces
/// the other: the broker stopped before it was removed.
fn newer(id: TopicPartition, a: Found, b: Found) -> Option<Found> {
    let last_used = |found: &Found| record(&found.directory).last_epoch();
    let replaces = |new: &Found, old: &Found| new.replaces.is_some() && new.replaces == old.log_id;
    let (stale, newer) = match last_used(&a).cmp(&last_used(&b)) {
        std::cmp::Ordering::Equal if replaces(&b, &a) => (a, b),
        std::cmp::Ordering::Equal if replaces(&a, &b) => (b, a),
        std::cmp::Ordering::Less => (a, b),
        std::cmp::Ordering::Greater => (b, a),
        std::cmp::Ordering::Equal => {
            tracing::error!(
                first = %a.log.dir().display(), second = %b.log.dir().display(),
                "a replica is in two log directories; it stays offline: remove one of them and restart"
            );
            return None;
        }
    };
    tracing::warn!(
        kept = %newer.log.dir().display(), deleted = %stale.log.dir().display(),
        "a replica was moved, or made anew while its log directory was offline; deleting the old log"
    );
    delete(&stale.directory, &[(&stale.topic, id.partition)]);
    Some(newer)
}

/// What was in one directory.
struct Outcome {
    logs: Opened,
    copies: Vec<(TopicPartition, Found)>,
    unidentified: Vec<(String, i32)>,
}

type Opened = Vec<(TopicPartition, Result<Found, Refused>)>;

/// Whether the logs that are opened were closed when the broker stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    Yes,
    No,
}

fn recover(
    directory: &Arc<Directory>,
    config: &BrokerConfig,
    threads: usize,
    progress: &RecoveryProgress,
) -> Result<Outcome, StorageOpenError> {
    let dir = directory.dir();
    directory
        .read_checkpoints()
        .map_err(StorageOpenError::Checkpoint)?;
    let (identified, others): (Vec<_>, Vec<_>) = dir
        .scan()?
        .into_iter()
        .partition(|found| found.metadata.is_some());
    let unidentified = others
        .into_iter()
        .filter(|found| holds_records(directory, found))
        .map(|found| (found.topic, found.partition))
        .collect();
    let mut marked = Vec::new();
    let mut found = Vec::new();
    for log in identified {
        let is_marked = dir.is_marked_damaged(&log.path);
        match is_marked.map_err(StorageOpenError::Mark)? {
            true => marked.push(log),
            false => found.push(log),
        }
    }
    let clean = dir.clean_shutdown() && directory.checkpoints().are_complete();
    let closed = if clean { Closed::Yes } else { Closed::No };
    let mut logs = open_found(directory, config, found, closed, threads, progress);
    for found in marked {
        tracing::warn!(dir = %found.path.display(), "a log that was found to be damaged stays out of use");
        let refused = Err(damaged(directory, &found.topic));
        logs.extend(id_of(&found).map(|id| (id, refused)));
    }
    let copies = recover_copies(directory, config, threads, progress)?;
    tracing::info!(
        dir = %directory.path().display(), logs = logs.len(), copies = copies.len(), clean,
        "logs opened"
    );
    Ok(Outcome {
        logs,
        copies,
        unidentified,
    })
}

/// Opens copies of logs that are moved here. One that can't be opened is removed.
fn recover_copies(
    directory: &Arc<Directory>,
    config: &BrokerConfig,
    threads: usize,
    progress: &RecoveryProgress,
) -> Result<Vec<(TopicPartition, Found)>, StorageOpenError> {
    let found = directory.dir().scan_future()?;
    // A copy is not closed when a broker stops.
    let opened = open_found(
        directory,
        config,
        found.clone(),
        Closed::No,
        threads,
        progress,
    );
    let copies: Vec<_> = opened
        .into_iter()
        .filter_map(|(id, copy)| Some((id, copy.ok()?)))
        .collect();
    for lost in found {
        if !copies.iter().any(|(_, copy)| copy.log.dir() == lost.path) {
            tracing::warn!(dir = %lost.path.display(), "the copy of a log can't be gone on with and is removed");
            discard_copy(
                directory,
                &lost.path,
                &lost.topic,
                PartitionIndex(lost.partition),
            );
        }
    }
    Ok(copies)
}

fn id_of(found: &PartitionDir) -> Option<TopicPartition> {
    let metadata = found.metadata.as_ref()?;
    Some(TopicPartition {
        topic: metadata.topic_id,
        partition: PartitionIndex(found.partition),
    })
}

fn open_found(
    directory: &Arc<Directory>,
    config: &BrokerConfig,
    found: Vec<PartitionDir>,
    closed: Closed,
    threads: usize,
    progress: &RecoveryProgress,
) -> Opened {
    let defaults = config.topic_config(&BTreeMap::new(), Dynamic::default(), true);
    let disk_failed = record(directory).tells_of_failure();
    let job = |found: &PartitionDir| {
        let name = (found.topic.clone(), found.partition);
        let checkpointed = directory.checkpoints().get(&name);
        OpenJob {
            dir: found.path.clone(),
            config: defaults.log.clone(),
            options: OpenOptions {
                clean_shutdown: closed == Closed::Yes,
                recovery_point: checkpointed.recovery_point,
                log_start: checkpointed.log_start,
                disk_failed,
            },
        }
    };
    let jobs = found.iter().map(job).collect();
    let opened = open_logs(directory.fs(), jobs, threads, progress);
    found
        .into_iter()
        .zip(opened)
        .filter_map(|(found, opened)| Some((id_of(&found)?, take_over(directory, found, opened))))
        .collect()
}

fn damaged(directory: &Arc<Directory>, topic: &str) -> Refused {
    Refused::Damaged(DamagedLog {
        topic: topic.into(),
        directory: Arc::clone(directory),
    })
}

fn holds_records(directory: &Directory, found: &PartitionDir) -> bool {
    let entries = directory.fs().list(&found.path).unwrap_or_default();
    entries.iter().any(|entry| entry.name.ends_with(".log"))
}

/// # Errors
/// [`Refused`] for a log that can't be opened.
fn take_over(
    directory: &Arc<Directory>,
    found: PartitionDir,
    opened: Result<(Log, RecoveryReport), OpenError>,
) -> Result<Found, Refused> {
    let (log, report) = opened.map_err(|error| {
        tracing::error!(
            %error,
            "the replica stays offline until it can be copied from another one that leads; if there is none, \
             move the directory aside, restart, and elect a leader uncleanly to go on without its records"
        );
        match error {
            OpenError::LostDurable { .. } => damaged(directory, &found.topic),
            OpenError::Io { .. } => Refused::Unusable,
        }
    })?;
    if report.bytes_truncated > 0 {
        tracing::warn!(
            topic = found.topic,
            partition = found.partition,
            bytes = report.bytes_truncated,
            "torn tail cut off"
        );
    }
    let name = (found.topic, found.partition);
    let high_watermark = directory.checkpoints().get(&name).high_watermark;
    let metadata = found.metadata;
    Ok(Found {
        topic: name.0.into(),
        log,
        high_watermark,
        directory: Arc::clone(directory),
        log_id: metadata.as_ref().and_then(|found| found.log_id.clone()),
        replaces: metadata.and_then(|found| found.replaces),
    })
}
