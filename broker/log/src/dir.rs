//! A data directory: who it belongs to, which logs it holds, and what was last known of them.
//!
//! Layout, as Kafka's: `meta.properties`, `.lock`, the clean-shutdown marker, four offset
//! checkpoints, and one directory `<topic>-<partition>` for each log with `partition.metadata`; a log
//! that is being moved here is in a directory `<topic>-<partition>.<log id>-future`.

mod future;
mod meta;
mod open_logs;
mod partition_metadata;
mod quarantine;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::TopicId;

use crate::checkpoint::{self, OffsetEntry, replace};
use crate::fs::{FileLock, Fs};

pub use meta::MetaProperties;
pub use open_logs::{OpenJob, open_logs};
pub use partition_metadata::PartitionMetadata;
pub use quarantine::QuarantinedDir;

const LOCK: &str = ".lock";
const CLEAN_SHUTDOWN: &str = ".klamm_clean_shutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const COMPACTED_OFFSETS: &str = "cleaner-offset-checkpoint";
const DELETED_DIR_SUFFIX: &str = "-delete";

/// Longest topic name (Kafka's limit), so that a directory's name fits the file system.
const TOPIC_NAME_LEN_MAX: usize = 249;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogDirError {
    /// A file could not be read or written.
    #[error("cannot use the data directory {}: {source}", dir.display())]
    Io {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the data directory {} is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    /// It belongs to somebody else.
    #[error(
        "the data directory {} has {field} {found}, expected {expected}; \
         check the volume, or remove it to start empty", dir.display()
    )]
    Foreign {
        dir: PathBuf,
        field: &'static str,
        found: String,
        expected: String,
    },
    /// A name cannot be a topic's.
    #[error("{name:?} is not a valid topic name")]
    InvalidTopic { name: String },
    /// The file system takes no name that long.
    #[error("{name:?} is too long for a directory; logs of topics with long names can't be moved")]
    NameTooLong { name: String },
}

/// The directory of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDir {
    pub path: PathBuf,
    pub topic: String,
    pub partition: i32,
    /// `None` when the broker stopped before it was written, or it is damaged.
    pub metadata: Option<PartitionMetadata>,
}

/// Makes a directory and its missing parents, so that a power failure does not take them away with
/// everything that is synced below.
fn create_durably(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor.as_os_str().is_empty() || fs.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    fs.create_dir(path)?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        let here = parent.as_os_str().is_empty();
        fs.sync_dir(if here { Path::new(".") } else { parent })?;
    }
    Ok(())
}

/// A data directory, locked for this process.
pub struct LogDir {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    meta: MetaProperties,
    clean_shutdown: bool,
    _lock: FileLock,
}

impl LogDir {
    /// Opens a data directory, or makes one: then `directory_id` becomes its id.
    ///
    /// Takes the clean-shutdown marker away, so that a crash from now on is noticed.
    pub fn open(
        fs: Arc<dyn Fs>,
        path: &Path,
        cluster_id: &str,
        node_id: i32,
        directory_id: &str,
    ) -> Result<Self, LogDirError> {
        let io_error = |source| LogDirError::Io {
            dir: path.to_owned(),
            source,
        };
        create_durably(&*fs, path).map_err(io_error)?;
        let lock = fs.lock(&path.join(LOCK)).map_err(io_error)?;
        let lock = lock.ok_or_else(|| LogDirError::Locked {
            dir: path.to_owned(),
        })?;
        let meta = match MetaProperties::read(&*fs, path).map_err(io_error)? {
            Some(meta) => meta,
            None => {
                let meta = MetaProperties {
                    cluster_id: cluster_id.to_owned(),
                    node_id,
                    directory_id: directory_id.to_owned(),
                };
                sync_parents(&*fs, path).map_err(io_error)?;
                meta.write(&*fs, path).map_err(io_error)?;
                meta
            }
        };
        let foreign = |field, found: &dyn ToString, expected: &dyn ToString| {
            let (found, expected) = (found.to_string(), expected.to_string());
            Err(LogDirError::Foreign {
                dir: path.to_owned(),
                field,
                found,
                expected,
            })
        };
        if meta.cluster_id != cluster_id {
            return foreign("cluster.id", &meta.cluster_id, &cluster_id);
        }
        if meta.node_id != node_id {
            return foreign("node.id", &meta.node_id, &node_id);
        }
        let clean_shutdown = take_marker(&*fs, path).map_err(io_error)?;
        Ok(Self {
            fs,
            path: path.to_owned(),
            meta,
            clean_shutdown,
            _lock: lock,
        })
    }

    /// What `meta.properties` says.
    pub fn meta(&self) -> &MetaProperties {
        &self.meta
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last process closed every log before it ended.
    pub fn clean_shutdown(&self) -> bool {
        self.clean_shutdown
    }

    /// Marks a clean shutdown, after every log was closed and the checkpoints were written.
    pub fn mark_clean_shutdown(&self) -> io::Result<()> {
        replace(&*self.fs, &self.path.join(CLEAN_SHUTDOWN), b"0\n")
    }

    /// Where the log of a partition is or will be.
    pub fn partition_path(&self, topic: &str, partition: i32) -> Result<PathBuf, LogDirError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty()
            || topic.len() > TOPIC_NAME_LEN_MAX
            || matches!(topic, "." | "..")
            || !topic.chars().all(plain)
        {
            return Err(LogDirError::InvalidTopic {
                name: topic.to_owned(),
            });
        }
        Ok(self.path.join(format!("{topic}-{partition}")))
    }

    /// Makes the directory of a partition durably, with its topic's id. Fine when it exists.
    /// `log_id` tells the log from every other one of the replica.
    pub fn create_partition(
        &self,
        topic: &str,
        partition: i32,
        topic_id: TopicId,
        log_id: &str,
    ) -> Result<PathBuf, LogDirError> {
        let path = self.partition_path(topic, partition)?;
        self.create_log_dir(path, &PartitionMetadata::new(topic_id, log_id))
    }

    fn create_log_dir(
        &self,
        path: PathBuf,
        metadata: &PartitionMetadata,
    ) -> Result<PathBuf, LogDirError> {
        self.fs
            .create_dir(&path)
            .and_then(|()| metadata.write(&*self.fs, &path))
            .and_then(|()| self.fs.sync_dir(&self.path))
            .map_err(|source| LogDirError::Io {
                dir: path.clone(),
                source,
            })?;
        Ok(path)
    }

    /// Takes a partition's directory out of use by renaming it durably, and returns the new path
    /// for [`LogDir::remove_deleted`]. `unique` tells it from earlier ones of that name.
    pub fn delete_partition(
        &self,
        topic: &str,
        partition: i32,
        unique: &str,
    ) -> Result<PathBuf, LogDirError> {
        let path = self.partition_path(topic, partition)?;
        // Cut so that the name fits, as Kafka does.
        let name: String = topic.chars().take(TOPIC_NAME_LEN_MAX - 60).collect();
        let deleted = self
            .path
            .join(format!("{name}-{partition}.{unique}{DELETED_DIR_SUFFIX}"));
        self.fs
            .rename(&path, &deleted)
            .and_then(|()| self.fs.sync_dir(&self.path))
            .map_err(|source| LogDirError::Io { dir: path, source })?;
        Ok(deleted)
    }

    /// Removes what [`LogDir::delete_partition`] renamed; takes long for large logs.
    pub fn remove_deleted(&self, deleted: &Path) -> io::Result<()> {
        self.fs.remove_dir_all(deleted)
    }

    /// The partitions' directories. Removes those that were being deleted.
    pub fn scan(&self) -> Result<Vec<PartitionDir>, LogDirError> {
        let mut found = Vec::new();
        for entry in self.fs.list(&self.path).map_err(|e| self.io_error(e))? {
            if !entry.is_dir {
                continue;
            }
            if entry.name.ends_with(DELETED_DIR_SUFFIX) && entry.name.contains('.') {
                match self.fs.remove_dir_all(&self.path.join(&entry.name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.io_error(error));
                    }
                    _ => continue,
                }
            }
            let Some((topic, partition)) = entry.name.rsplit_once('-') else {
                continue;
            };
            let Ok(partition) = partition.parse() else {
                continue;
            };
            found.push(self.found(&entry.name, topic, partition)?);
        }
        Ok(found)
    }

    fn found(&self, name: &str, topic: &str, partition: i32) -> Result<PartitionDir, LogDirError> {
        let path = self.path.join(name);
        let metadata = PartitionMetadata::read(&*self.fs, &path).map_err(|e| self.io_error(e))?;
        Ok(PartitionDir {
            path,
            topic: topic.to_owned(),
            partition,
            metadata,
        })
    }

    fn io_error(&self, source: io::Error) -> LogDirError {
        LogDirError::Io {
            dir: self.path.clone(),
            source,
        }
    }

    /// Whether all checkpoint files are there, as after the first one was written.
    pub fn has_checkpoints(&self) -> io::Result<bool> {
        for name in [RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS] {
            if !self.fs.exists(&self.path.join(name))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checkpointed recovery points.
    pub fn recovery_points(&self) -> io::Result<Vec<OffsetEntry>> {
        checkpoint::read_offsets(&*self.fs, &self.path.join(RECOVERY_POINTS))
    }

    /// Replaces the checkpoint of [`crate::Log::recovery_point`]s.
    pub fn write_recovery_points(&self, entries: &[OffsetEntry]) -> io::Result<()> {
        checkpoint::write_offsets(&*self.fs, &self.path.join(RECOVERY_POINTS), entries)
    }

    /// Checkpointed log start offsets.
    pub fn log_starts(&self) -> io::Result<Vec<OffsetEntry>> {
        checkpoint::read_offsets(&*self.fs, &self.path.join(LOG_STARTS))
    }

    /// Replaces the checkpoint of [`crate::Log::start_offset`]s.
    pub fn write_log_starts(&self, entries: &[OffsetEntry]) -> io::Result<()> {
        checkpoint::write_offsets(&*self.fs, &self.path.join(LOG_STARTS), entries)
    }

    /// Checkpointed offsets below which logs were compacted.
    pub fn compacted_offsets(&self) -> io::Result<Vec<OffsetEntry>> {
        checkpoint::read_offsets(&*self.fs, &self.path.join(COMPACTED_OFFSETS))
    }

    /// Replaces the checkpoint of [`crate::Log::compacted_upto`].
    pub fn write_compacted_offsets(&self, entries: &[OffsetEntry]) -> io::Result<()> {
        checkpoint::write_offsets(&*self.fs, &self.path.join(COMPACTED_OFFSETS), entries)
    }

    /// Checkpointed high watermarks.
    pub fn high_watermarks(&self) -> io::Result<Vec<OffsetEntry>> {
        checkpoint::read_offsets(&*self.fs, &self.path.join(HIGH_WATERMARKS))
    }

    /// Replaces the checkpoint of high watermarks.
    pub fn write_high_watermarks(&self, entries: &[OffsetEntry]) -> io::Result<()> {
        checkpoint::write_offsets(&*self.fs, &self.path.join(HIGH_WATERMARKS), entries)
    }
}

/// Makes the names durable that lead to a directory. Without it a power failure could take a new one
/// away, whatever was synced inside.
fn sync_parents(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    for parent in path.ancestors().skip(1) {
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        match fs.sync_dir(parent) {
            // Where we may not read, we have made nothing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

fn take_marker(fs: &dyn Fs, dir: &Path) -> io::Result<bool> {
    let marker = dir.join(CLEAN_SHUTDOWN);
    let clean = fs.exists(&marker)?;
    if clean {
        fs.remove(&marker)?;
        fs.sync_dir(dir)?;
    }
    Ok(clean)
}
