//! Moves of replicas from one log directory to another (KIP-113): a copy of the log is made in the
//! other directory, follows the log, and takes its place.
//!
//! * `copying`: what is copied next, and the step in which the copy takes the log's place;
//! * `task`: whose turn it is, and how fast.
//!
//! On disk a copy names the id of the log that it replaces. So a start knows which of two logs of a
//! replica stays, for only a whole copy gets the replica's name, and which copies are of a log that is
//! still there; those are gone on with. A log whose copy may have got the name, and that goes on all
//! the same, becomes the one that replaces the copy.

mod copying;
mod task;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::{Offset, PartitionIndex, TopicPartition};
use broker_log::{
    Log, LogDirError, MinOneBatch, OpenError, OpenOptions, PartitionMetadata, ReadError,
    RecoveryProgress,
};
use parking_lot::Mutex;
use thiserror::Error;
use uuid::Uuid;

use super::opening::{Storage, remove_in_background};
use super::{Partition, PartitionManager, State};
use crate::log_dirs::{Directory, DirectoryError};
use copying::Copying;
pub(super) use task::Moves;

/// A replica does not move.
#[derive(Debug, Error)]
pub enum MoveError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the replica is offline")]
    ReplicaOffline,
    /// The directory is remembered for the case that it will be.
    #[error("the replica is not here; should it come it is made in that directory")]
    NotHere,
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("can't read the log that is to be moved: {0}")]
    Read(#[from] ReadError),
    #[error("can't prepare the move: {0}")]
    Io(#[from] io::Error),
}

/// The copy of a replica's log that shall take its place.
pub(super) struct FutureLog {
    pub(super) directory: Arc<Directory>,
    log_id: String,
    /// Locked for the time of a turn, always before the partition.
    copying: Mutex<Copying>,
}

/// A move under way, as the partition knows of it.
pub(super) struct Move {
    pub(super) future: Arc<FutureLog>,
    /// End of the copy.
    pub(super) end: Offset,
    pub(super) size_bytes: u64,
    /// Where the log was cut since the copy was cut last.
    cut_to: Option<Offset>,
}

impl Move {
    fn new(directory: &Arc<Directory>, log_id: String, log: Log) -> Self {
        let (end, size_bytes) = (log.end_offset(), log.size_bytes());
        directory.replica_added();
        let copying = Mutex::new(Copying::new(log));
        Self {
            future: Arc::new(FutureLog {
                directory: Arc::clone(directory),
                log_id,
                copying,
            }),
            end,
            size_bytes,
            cut_to: None,
        }
    }

    /// Goes on with a copy that was found at the start.
    pub(super) fn resume(
        directory: &Arc<Directory>,
        log_id: String,
        copy: Log,
        original: &Log,
    ) -> Self {
        // Of a log that lost its end the copy may hold more, or something else.
        let last_epoch = copy.epochs().latest_before(copy.end_offset());
        let is_prefix = last_epoch.is_none_or(|last| {
            let known = original.end_offset_for_epoch(last);
            known.is_some_and(|(epoch, end)| epoch == last && end >= copy.end_offset())
        });
        Self {
            cut_to: (!is_prefix).then_some(Offset(0)),
            ..Self::new(directory, log_id, copy)
        }
    }

    /// The copy is not wanted any more.
    fn discard(self, topic: &str, partition: PartitionIndex) {
        let directory = &self.future.directory;
        directory.replica_removed();
        if directory.is_failed() {
            return;
        }
        // A turn under way ends first.
        let copying = self.future.copying.lock();
        discard_copy(directory, copying.log.dir(), topic, partition);
    }
}

/// Removes a copy: at once out of sight, in the background from the disk.
pub(super) fn discard_copy(
    directory: &Arc<Directory>,
    path: &Path,
    topic: &str,
    partition: PartitionIndex,
) {
    let deleted =
        forget_copy(directory, topic, partition).and_then(|()| directory.dir().delete_future(path));
    match deleted {
        Ok(path) => remove_in_background(directory, vec![path]),
        Err(error) => {
            tracing::warn!(dir = %path.display(), %error, "the copy of a log stays until a start");
        }
    }
}

/// Unless what is written down is of a log that has come here before.
fn forget_copy(
    directory: &Directory,
    topic: &str,
    partition: PartitionIndex,
) -> Result<(), LogDirError> {
    let log = directory.dir().partition_path(topic, partition.0)?;
    let forgotten = match directory.fs().exists(&log) {
        Ok(false) => directory.forget(&(topic.to_owned(), partition.0)),
        found => found.map(drop),
    };
    forgotten.map_err(|source| LogDirError::Io { dir: log, source })
}

impl State {
    /// The log was cut: the copy has to be, too.
    pub(super) fn note_cut(&mut self, to: Offset) {
        if let Some(moving) = &mut self.moving {
            moving.cut_to = Some(moving.cut_to.map_or(to, |earlier| earlier.min(to)));
        }
    }
}

impl Partition {
    pub(super) fn is_moving(&self) -> bool {
        self.state.lock().moving.is_some()
    }

    /// Gives a move up.
    pub(super) fn cancel_move(&self) {
        let moving = self.state.lock().moving.take();
        if let Some(moving) = moving {
            tracing::info!(
                partition = %self, to = %moving.future.directory.path().display(),
                "the replica is not moved any more"
            );
            moving.discard(&self.topic, self.id.partition);
        }
    }

    /// The replica is out of service; a copy on disk is gone on with when it comes back.
    pub(super) fn interrupt_move(&self) {
        if let Some(moving) = self.state.lock().moving.take() {
            moving.future.directory.replica_removed();
        }
    }

    /// Where a log that starts with this one's first batch begins.
    fn first_batch(&self) -> Result<Offset, ReadError> {
        let state = self.state.lock();
        let (start, end) = (state.log.start_offset(), state.log.end_offset());
        let first = state.log.read(start, end, 1, MinOneBatch::Yes)?;
        Ok(first.map_or(start, |slice| slice.base_offset))
    }

    /// Id of the log; logs from elsewhere get one.
    fn log_id(&self) -> io::Result<String> {
        let (directory, dir) = {
            let state = self.state.lock();
            (Arc::clone(&state.directory), state.log.dir().to_owned())
        };
        let metadata = PartitionMetadata::read(&**directory.fs(), &dir)?;
        if let Some(id) = metadata.and_then(|metadata| metadata.log_id) {
            return Ok(id);
        }
        let id = new_log_id();
        PartitionMetadata::new(self.id.topic, &id).write(&**directory.fs(), &dir)?;
        Ok(id)
    }
}

impl PartitionManager {
    /// Begins to move a replica to the log directory `dir`, or goes on with that; to the directory in
    /// which it is, gives a move up. `id` is `None` for a topic that is not known. Blocks.
    ///
    /// # Errors
    /// [`MoveError`].
    pub fn move_replica(
        &self,
        id: Option<TopicPartition>,
        topic: &str,
        partition: PartitionIndex,
        dir: &Path,
    ) -> Result<(), MoveError> {
        let target = Arc::clone(self.dirs().directory(dir)?);
        if id.is_some_and(|id| self.is_offline(id)) {
            return Err(MoveError::ReplicaOffline);
        }
        // Held to the end: no other move is begun meanwhile.
        let _begins = self.moves.begin();
        let Some(hosted) = id.and_then(|id| self.get(id)) else {
            return Err(self.prefer(topic, partition, &target));
        };
        if Arc::ptr_eq(&hosted.directory(), &target) {
            hosted.cancel_move();
            return Ok(());
        }
        let under_way = {
            let state = hosted.state.lock();
            let to = state.moving.as_ref().map(|moving| &moving.future.directory);
            to.is_some_and(|to| Arc::ptr_eq(to, &target))
        };
        if under_way {
            return Ok(());
        }
        // Waits for a turn of the move, and for the disk.
        hosted.cancel_move();
        // Nothing is opened in the directory while the move begins there.
        let mut storage = self.storage.lock();
        if !self
            .get(hosted.id())
            .is_some_and(|now| Arc::ptr_eq(&now, &hosted))
        {
            return Err(MoveError::NotHere);
        }
        begin(&mut storage, &hosted, &target)?;
        self.moves.add(hosted.id());
        Ok(())
    }

    /// Remembers where to make a replica that is not here.
    fn prefer(&self, topic: &str, partition: PartitionIndex, target: &Arc<Directory>) -> MoveError {
        if let Err(error) = target.dir().partition_path(topic, partition.0) {
            return error.into();
        }
        self.storage.lock().prefer(topic, partition, target);
        MoveError::NotHere
    }
}

fn begin(
    storage: &mut Storage,
    partition: &Arc<Partition>,
    target: &Arc<Directory>,
) -> Result<(), MoveError> {
    let (topic, index) = (partition.topic(), partition.id().partition);
    let log_id = new_log_id();
    let metadata = PartitionMetadata {
        replaces: Some(partition.log_id()?),
        ..PartitionMetadata::new(partition.id().topic, &log_id)
    };
    let first = partition.first_batch()?;
    let config = partition.state.lock().log.config().clone();
    make_way(storage, target, topic, index)?;
    let path = target.dir().create_future(topic, index.0, &metadata)?;
    let options = OpenOptions {
        clean_shutdown: true,
        recovery_point: Offset(0),
        log_start: first,
        disk_failed: false,
    };
    let opened = Log::open(
        Arc::clone(target.fs()),
        path.clone(),
        config,
        options,
        &RecoveryProgress::default(),
    );
    let copy = match opened {
        Ok((copy, _)) => copy,
        Err(error) => {
            discard_copy(target, &path, topic, index);
            return Err(error.into());
        }
    };
    let moving = Move::new(target, log_id, copy);
    let mut state = partition.state.lock();
    if state.closed {
        drop(state);
        moving.discard(topic, index);
        return Err(MoveError::NotHere);
    }
    tracing::info!(
        %partition, from = %state.directory.path().display(), to = %target.path().display(),
        bytes = state.log.size_bytes(), "moving a replica to another log directory"
    );
    state.moving = Some(moving);
    Ok(())
}

/// The name that the copy will get is not to be taken when its time has come.
fn make_way(
    storage: &mut Storage,
    target: &Arc<Directory>,
    topic: &Arc<str>,
    partition: PartitionIndex,
) -> Result<(), MoveError> {
    storage.set_aside_namesake(topic, partition);
    target.forget(&(topic.to_string(), partition.0))?;
    let taken = target.dir().partition_path(topic, partition.0)?;
    if target.fs().exists(&taken)? {
        let deleted = set_aside(target, topic, partition)?;
        remove_in_background(target, vec![deleted]);
    }
    Ok(())
}

/// Takes the log's directory out of sight.
fn set_aside(
    directory: &Directory,
    topic: &str,
    partition: PartitionIndex,
) -> Result<PathBuf, LogDirError> {
    let unique = Uuid::new_v4().simple().to_string();
    let dir = directory.dir();
    dir.delete_partition(topic, partition.0, &unique)
}

pub(super) fn new_log_id() -> String {
    Uuid::new_v4().simple().to_string()
}
