//! Replicas whose log is damaged or gone: never opened again, and made anew as the metadata says.
//!
//! The order, any step of which a crash may follow: the log is marked; the controller takes the
//! replica as one that rebuilds, which it does for one that is neither in sync nor eligible while
//! somebody else leads; the log is set aside; an empty one is made.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_core::metadata::{Image, ReplicaHealth};
use broker_core::{BrokerId, TopicPartition};

use super::super::recovery::{DamagedLog, Refused};
use super::{Storage, StorageOpenError, Wanted, name};
use crate::log_dirs::{Checkpointed, Directory};

impl Storage {
    /// A log that was in use is not to be used any more.
    pub(in crate::partition) fn refuse(&mut self, id: TopicPartition, log: DamagedLog) {
        log.directory.replica_removed();
        self.recovered.refused.insert(id, Refused::Damaged(log));
        self.count_damaged();
    }

    /// Tells metrics how much is damaged, so that they need no lock on the storage.
    pub(super) fn count_damaged(&self) {
        let damaged = self.damaged().len();
        self.shared
            .damaged_offline
            .store(damaged, Ordering::Relaxed);
        let quarantined = self.quarantine.len();
        self.shared
            .quarantined
            .store(quarantined, Ordering::Relaxed);
    }

    /// A replica is wanted here no more.
    pub(in crate::partition) fn forget(&mut self, id: TopicPartition) {
        if let Some(Refused::Damaged(log)) = self.recovered.refused.remove(&id)
            && let Err(error) = self.quarantine.set_aside(id, &log.topic, &log.directory)
        {
            tracing::warn!(topic = %log.topic, partition = %id.partition, %error, "a damaged log that nobody needs stays");
        }
        self.count_damaged();
    }

    /// As [`Storage::forget`], of a replica of an earlier topic of that name: the new log takes the
    /// damaged one's place.
    pub(super) fn forget_namesake(&mut self, wanted: &Wanted<'_>) {
        let refused = self.recovered.refused.iter();
        let mut namesakes = refused.filter_map(|(id, refused)| match refused {
            Refused::Damaged(log) if log.topic == *wanted.topic => Some(*id),
            Refused::Damaged(_) | Refused::Unusable => None,
        });
        let partition = wanted.id.partition;
        if let Some(id) = namesakes.find(|id| id.partition == partition && *id != wanted.id) {
            self.forget(id);
        }
    }

    /// As [`Storage::forget`], of replicas that went while this broker was away.
    pub(super) fn forget_strays(&mut self, image: &Image, me: BrokerId) {
        for id in self.damaged() {
            let state = image.partition(id);
            if state.is_none_or(|state| !state.has_replica(me)) {
                self.forget(id);
            }
        }
    }

    /// Replicas whose log is damaged or gone.
    pub(in crate::partition) fn damaged(&self) -> BTreeSet<TopicPartition> {
        let refused = self.recovered.refused.iter();
        refused
            .filter(|(_, refused)| matches!(refused, Refused::Damaged(_)))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Marks a log that is damaged or gone, so that no start takes it for the one that replaces it.
    /// Durable when it returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(in crate::partition) fn give_up(&self, id: TopicPartition) -> io::Result<()> {
        let Some(Refused::Damaged(log)) = self.recovered.refused.get(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if log.stays_refused(id)? {
            return Ok(());
        }
        let dir = log.directory.dir();
        let path = dir
            .partition_path(&log.topic, id.partition.0)
            .map_err(io::Error::other)?;
        dir.mark_damaged(&path, "given up; see the log of the broker\n")
    }

    /// A replica that was not among the logs that could be opened.
    ///
    /// # Errors
    /// While something is left of its log that must not be replaced yet.
    pub(super) fn look_for_remains(&mut self, wanted: &Wanted<'_>) -> Result<(), StorageOpenError> {
        let id = wanted.id;
        let absence = self.absence(wanted);
        let refused = self.recovered.refused.get(&id);
        let rebuilds = wanted.state.health(wanted.me) == ReplicaHealth::Rebuilding;
        match (refused.cloned(), absence) {
            (None, None) => Ok(()),
            (Some(Refused::Damaged(log)), _) if rebuilds => {
                let topic = &log.topic;
                self.quarantine.set_aside(id, topic, &log.directory)?;
                self.recovered.refused.remove(&id);
                Ok(())
            }
            (Some(_), _) => Err(StorageOpenError::Refused),
            (None, Some((directory, _))) if rebuilds => {
                self.recovered
                    .unidentified
                    .remove(&name(wanted.topic, id.partition));
                Ok(self.quarantine.set_aside(id, wanted.topic, &directory)?)
            }
            (None, Some((directory, error))) => {
                let topic = Arc::clone(wanted.topic);
                let refused = Refused::Damaged(DamagedLog { topic, directory });
                self.recovered.refused.insert(id, refused);
                Err(error)
            }
        }
    }

    /// Why a log is not there that was before: without it the replica must not begin with an empty
    /// one as if it were new.
    fn absence(&self, wanted: &Wanted<'_>) -> Option<(Arc<Directory>, StorageOpenError)> {
        if self.settled {
            return None;
        }
        let name = name(wanted.topic, wanted.id.partition);
        let path_in = |directory: &Directory| {
            let dir = directory.dir();
            dir.partition_path(wanted.topic, wanted.id.partition.0)
                .unwrap_or_default()
        };
        if let Some(directory) = self.recovered.unidentified.get(&name) {
            let path = path_in(directory).join("partition.metadata");
            let error = StorageOpenError::Unidentified { path };
            return Some((Arc::clone(directory), error));
        }
        let is_gone = |directory: &&Arc<Directory>| {
            let path = path_in(directory);
            directory.checkpoints().get(&name) != Checkpointed::default()
                && directory.fs().exists(&path).is_ok_and(|exists| !exists)
        };
        let opened = self.dirs.opened().iter();
        let directory = opened.filter(|dir| !dir.is_failed()).find(is_gone)?;
        let path = path_in(directory);
        Some((Arc::clone(directory), StorageOpenError::Gone { path }))
    }

    /// Removes logs that were set aside once they are not needed any more.
    pub(in crate::partition) fn tidy_quarantine(
        &mut self,
        image: &Image,
        me: BrokerId,
        full: &[Arc<Directory>],
    ) {
        if self.settled {
            self.quarantine.remove_unneeded(image, me);
        }
        full.iter().for_each(|dir| self.quarantine.remove_from(dir));
        self.count_damaged();
    }
}
