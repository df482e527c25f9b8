//! Copies of logs that are moved here from another log directory:
//! `<topic>-<partition>.<log id>-future`, as Kafka's, until they take the place of their originals.

use std::io;
use std::path::{Path, PathBuf};

use super::{DELETED_DIR_SUFFIX, LogDir, LogDirError, PartitionDir, PartitionMetadata};

const FUTURE_DIR_SUFFIX: &str = "-future";
/// Longest name that file systems take.
const NAME_LEN_MAX: usize = 255;

impl LogDir {
    /// Makes the directory of a copy durably. `metadata` must have a log id, which tells it from
    /// earlier ones.
    ///
    /// # Errors
    /// [`LogDirError::NameTooLong`] when the name of the topic leaves no room for what is added.
    pub fn create_future(
        &self,
        topic: &str,
        partition: i32,
        metadata: &PartitionMetadata,
    ) -> Result<PathBuf, LogDirError> {
        self.partition_path(topic, partition)?;
        let id = metadata.log_id.as_deref().unwrap_or_default();
        let name = format!("{topic}-{partition}.{id}{FUTURE_DIR_SUFFIX}");
        if name.len() > NAME_LEN_MAX {
            return Err(LogDirError::NameTooLong { name });
        }
        self.create_log_dir(self.path.join(name), metadata)
    }

    /// Takes a copy out of use by renaming it durably, and returns the new path for
    /// [`LogDir::remove_deleted`].
    pub fn delete_future(&self, path: &Path) -> Result<PathBuf, LogDirError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(FUTURE_DIR_SUFFIX));
        let stem = stem.ok_or_else(|| self.io_error(io::ErrorKind::InvalidInput.into()))?;
        let deleted = self.path.join(format!("{stem}{DELETED_DIR_SUFFIX}"));
        self.fs
            .rename(path, &deleted)
            .and_then(|()| self.fs.sync_dir(&self.path))
            .map_err(|source| self.io_error(source))?;
        Ok(deleted)
    }

    /// The copies, whole or not.
    pub fn scan_future(&self) -> Result<Vec<PartitionDir>, LogDirError> {
        let mut found = Vec::new();
        for entry in self.fs.list(&self.path).map_err(|e| self.io_error(e))? {
            let named = entry
                .name
                .strip_suffix(FUTURE_DIR_SUFFIX)
                .and_then(|name| name.rsplit_once('.'))
                .and_then(|(name, _)| name.rsplit_once('-'))
                .and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)));
            if let (true, Some((topic, partition))) = (entry.is_dir, named) {
                found.push(self.found(&entry.name, topic, partition)?);
            }
        }
        Ok(found)
    }
}
