//! Damaged logs: marked so that they are never opened again, then set aside while the partition is
//! copied from its leader.
//!
//! The mark comes first: from then on, whatever crashes, the directory is either marked or gone from
//! its name. A new log under that name is never mistaken for the damaged one.

use std::io;
use std::path::{Path, PathBuf};

use broker_core::TopicId;

use super::{LogDir, LogDirError, PartitionMetadata, TOPIC_NAME_LEN_MAX};
use crate::checkpoint::replace;

/// In the directory of a log that is given up.
const DAMAGED_MARK: &str = "damaged";
/// Ends the name of a log that was set aside.
const DAMAGED_DIR_SUFFIX: &str = "-damaged";

/// A damaged log that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedDir {
    pub path: PathBuf,
    /// `None` when the file that tells is damaged, too.
    pub topic_id: Option<TopicId>,
    pub partition: i32,
}

impl LogDir {
    /// Marks the log in `path` durably as one that is not to be opened again. `reason` is for those
    /// who look into it.
    pub fn mark_damaged(&self, path: &Path, reason: &str) -> io::Result<()> {
        replace(&*self.fs, &path.join(DAMAGED_MARK), reason.as_bytes())
    }

    /// Whether the log in `path` was marked by [`LogDir::mark_damaged`].
    pub fn is_marked_damaged(&self, path: &Path) -> io::Result<bool> {
        self.fs.exists(&path.join(DAMAGED_MARK))
    }

    /// Takes a partition's directory out of use by renaming it durably; see [`LogDir::quarantined`].
    /// `unique` tells it from others of that name. `None` when there is no such directory.
    pub fn quarantine_partition(
        &self,
        topic: &str,
        partition: i32,
        unique: &str,
    ) -> Result<Option<PathBuf>, LogDirError> {
        let path = self.partition_path(topic, partition)?;
        // Cut so that the name fits.
        let name: String = topic.chars().take(TOPIC_NAME_LEN_MAX - 60).collect();
        let aside = self
            .path
            .join(format!("{name}-{partition}.{unique}{DAMAGED_DIR_SUFFIX}"));
        let renamed = self.fs.exists(&path).and_then(|exists| {
            if exists {
                self.fs.rename(&path, &aside)?;
                self.fs.sync_dir(&self.path)?;
            }
            Ok(exists)
        });
        match renamed {
            Ok(exists) => Ok(exists.then_some(aside)),
            Err(source) => Err(LogDirError::Io { dir: path, source }),
        }
    }

    /// The logs that were set aside here.
    pub fn quarantined(&self) -> io::Result<Vec<QuarantinedDir>> {
        let mut found = Vec::new();
        for entry in self.fs.list(&self.path)? {
            let log = entry.name.strip_suffix(DAMAGED_DIR_SUFFIX);
            let log = log.and_then(|name| name.rsplit_once('.'));
            let partition = log.and_then(|(log, _)| log.rsplit_once('-')?.1.parse().ok());
            let Some(partition) = partition.filter(|_| entry.is_dir) else {
                continue;
            };
            let path = self.path.join(&entry.name);
            found.push(QuarantinedDir {
                topic_id: PartitionMetadata::read(&*self.fs, &path)?.map(|found| found.topic_id),
                path,
                partition,
            });
        }
        Ok(found)
    }
}
