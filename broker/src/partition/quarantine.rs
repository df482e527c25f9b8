//! Damaged logs that were set aside, at most one of each replica here. One is removed when the copy
//! that replaces it is in sync, when the replica is no longer wanted here, and when its disk is full.

use std::path::PathBuf;
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{BrokerId, PartitionIndex, TopicPartition};
use broker_log::LogDirError;
use uuid::Uuid;

use super::opening::remove_in_background;
use crate::log_dirs::{Directory, LogDirs};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Quarantine {
    copies: Vec<Copy>,
}

struct Copy {
    /// `None` when its files do not tell.
    id: Option<TopicPartition>,
    directory: Arc<Directory>,
    path: PathBuf,
}

impl Quarantine {
    /// What earlier runs set aside.
    pub(super) fn find(dirs: &LogDirs) -> Self {
        let mut copies = Vec::new();
        for directory in dirs.opened().iter().filter(|dir| !dir.is_failed()) {
            let found = directory.dir().quarantined().unwrap_or_default();
            copies.extend(found.into_iter().map(|found| Copy {
                id: found.topic_id.map(|topic| TopicPartition {
                    topic,
                    partition: PartitionIndex(found.partition),
                }),
                directory: Arc::clone(directory),
                path: found.path,
            }));
        }
        Self { copies }
    }

    /// Sets the log in `directory` aside, which was marked as damaged or is gone, and forgets what
    /// was written down of it.
    ///
    /// # Errors
    /// When the disk refuses; nothing but the marked log is under its name then.
    pub(super) fn set_aside(
        &mut self,
        id: TopicPartition,
        topic: &str,
        directory: &Arc<Directory>,
    ) -> Result<(), LogDirError> {
        let index = id.partition.0;
        // The new log must not be held against what was durable of this one.
        let forgotten = directory.write_checkpoints(|checkpoints| {
            checkpoints.forget(&(topic.to_owned(), index));
        });
        forgotten.map_err(|source| LogDirError::Io {
            dir: directory.path().to_owned(),
            source,
        })?;
        self.remove(|copy| copy.id == Some(id));
        let unique = Uuid::new_v4().simple().to_string();
        let aside = directory
            .dir()
            .quarantine_partition(topic, index, &unique)?;
        if let Some(path) = aside {
            tracing::warn!(
                topic, partition = index, aside = %path.display(),
                "a damaged log is set aside and copied anew from the leader; it is removed once the copy is in sync"
            );
            self.copies.push(Copy {
                id: Some(id),
                directory: Arc::clone(directory),
                path,
            });
        }
        Ok(())
    }

    /// Removes what `image` says is not needed any more.
    pub(super) fn remove_unneeded(&mut self, image: &Image, me: BrokerId) {
        self.remove(|copy| {
            let state = copy.id.and_then(|id| image.partition(id));
            state.is_none_or(|state| !state.has_replica(me) || state.isr.contains(&me))
        });
    }

    /// Makes room on a disk that is full.
    pub(super) fn remove_from(&mut self, directory: &Arc<Directory>) {
        self.remove(|copy| Arc::ptr_eq(&copy.directory, directory));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.copies.len()
    }

    fn remove(&mut self, unneeded: impl Fn(&Copy) -> bool) {
        for copy in self.copies.extract_if(.., |copy| unneeded(copy)) {
            if !copy.directory.is_failed() {
                tracing::info!(dir = %copy.path.display(), "removing a damaged log that was set aside");
                remove_in_background(&copy.directory, vec![copy.path]);
            }
        }
    }
}
