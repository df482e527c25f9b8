//! Opening every log that is on disk when the broker starts, all directories and cores at work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::available_parallelism;

use broker_core::{Offset, PartitionIndex, TopicPartition};
use broker_log::{
    Log, OpenError, OpenJob, OpenOptions, PartitionDir, RecoveryProgress, RecoveryReport, open_logs,
};

use super::opening::{StorageOpenError, delete};
use crate::config::{BrokerConfig, Dynamic};
use crate::log_dirs::{Directory, LogDirs, record};

/// A log that was found, not yet asked for.
pub(super) struct Found {
    pub(super) topic: Arc<str>,
    pub(super) log: Log,
    pub(super) high_watermark: Offset,
    pub(super) directory: Arc<Directory>,
}

/// What was on the disks.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) logs: BTreeMap<TopicPartition, Found>,
    /// Logs that could not be opened.
    pub(super) refused: BTreeSet<TopicPartition>,
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
            Ok(found) => found
                .into_iter()
                .for_each(|(id, found)| recovered.add(id, found)),
            Err(error) => directory.condition().fail(&error),
        }
    }
    // What a directory gave before it failed is not to be used.
    recovered
        .logs
        .retain(|_, found| !found.directory.is_failed());
    recovered
}

impl Recovered {
    fn add(&mut self, id: TopicPartition, found: Option<Found>) {
        let Some(found) = found else {
            self.refused.insert(id);
            return;
        };
        match self.logs.remove(&id) {
            None if self.refused.contains(&id) => {}
            None => _ = self.logs.insert(id, found),
            Some(other) => match newer(id, other, found) {
                Some(newer) => _ = self.logs.insert(id, newer),
                None => _ = self.refused.insert(id),
            },
        }
    }
}

/// Of two logs of one replica, the one whose directory was in use when the other's was not; the other
/// one is from before its disk failed.
fn newer(id: TopicPartition, a: Found, b: Found) -> Option<Found> {
    let last_used = |found: &Found| record(&found.directory).last_epoch();
    let (stale, newer) = match last_used(&a).cmp(&last_used(&b)) {
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
        "a replica was made anew while its log directory was offline; deleting the old log"
    );
    delete(&stale.directory, &[(&stale.topic, id.partition)]);
    Some(newer)
}

type Outcome = Vec<(TopicPartition, Option<Found>)>;

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
    let found: Vec<_> = dir
        .scan()?
        .into_iter()
        .filter(|found| found.topic_id.is_some())
        .collect();
    let defaults = config.topic_config(&BTreeMap::new(), Dynamic::default(), true);
    let job = |found: &PartitionDir| {
        let name = (found.topic.clone(), found.partition);
        let checkpointed = directory.checkpoints().get(&name);
        OpenJob {
            dir: found.path.clone(),
            config: defaults.log.clone(),
            options: OpenOptions {
                clean_shutdown: dir.clean_shutdown(),
                recovery_point: checkpointed.recovery_point,
                log_start: checkpointed.log_start,
            },
        }
    };
    let jobs = found.iter().map(job).collect();
    let opened = open_logs(directory.fs(), jobs, threads, progress);
    let outcome: Outcome = found
        .into_iter()
        .zip(opened)
        .filter_map(|(found, opened)| {
            let id = TopicPartition {
                topic: found.topic_id?,
                partition: PartitionIndex(found.partition),
            };
            Some((id, take_over(directory, found, opened)))
        })
        .collect();
    tracing::info!(
        dir = %directory.path().display(), logs = outcome.len(),
        clean = dir.clean_shutdown(), "logs opened"
    );
    Ok(outcome)
}

/// `None` for a log that can't be opened.
fn take_over(
    directory: &Arc<Directory>,
    found: PartitionDir,
    opened: Result<(Log, RecoveryReport), OpenError>,
) -> Option<Found> {
    let (log, report) = opened
        .inspect_err(|error| tracing::error!(%error, "the replica stays offline"))
        .ok()?;
    if report.bytes_truncated > 0 {
        tracing::warn!(
            topic = found.topic,
            partition = found.partition,
            bytes = report.bytes_truncated,
            "torn tail cut off"
        );
    }
    directory.replica_added();
    let name = (found.topic, found.partition);
    let high_watermark = directory.checkpoints().get(&name).high_watermark;
    Some(Found {
        topic: name.0.into(),
        log,
        high_watermark,
        directory: Arc::clone(directory),
    })
}
