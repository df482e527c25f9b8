//! One turn of a move: a piece of the log is copied, the copy is cut as the log was, saved, or takes
//! the log's place.
//!
//! Whatever waits for a disk happens without the partition's lock, but for the last step: what came
//! since the copy was saved is copied and synced, and the directories are renamed. Nothing is
//! appended meanwhile, so that a crash anywhere in it leaves two whole logs or one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broker_core::Offset;
use broker_log::{
    AppendError, Log, LogDirError, LogSlice, MinOneBatch, PartitionMetadata, ReadError, SliceError,
    StorageError,
};
use thiserror::Error;

use super::super::opening::remove_in_background;
use super::super::producers::{self, Snapshot};
use super::super::{Partition, State};
use super::{FutureLog, new_log_id, set_aside};
use crate::clock;
use crate::log_dirs::{Checkpointed, Directory};

/// Bytes of one turn, of which at least one batch is copied.
const COPY_BYTES_MAX: usize = 4 << 20;
/// Bytes that a crash costs of what was copied.
const SAVE_INTERVAL_BYTES: u64 = 64 << 20;
/// Bytes that are synced under the partition's lock at most, and those of them that are copied there.
const LAST_SYNC_BYTES_MAX: u64 = 8 << 20;
const LAST_COPY_BYTES_MAX: usize = 1 << 20;

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::partition) enum Turn {
    /// The next one has something to do. So many bytes were copied.
    GoesOn(usize),
    /// The disk is full, which may pass.
    Waits,
    /// There is no move any more.
    Ended,
}

/// The copy.
pub(super) struct Copying {
    pub(super) log: Log,
    unsynced_bytes: u64,
    /// Start of the copy in the checkpoint of its directory. What was deleted before the copy takes
    /// its place must not come back.
    saved_start: Option<Offset>,
}

/// What is to be done next.
enum Next {
    Cut(Offset),
    StartOver(Offset),
    Copy { slice: LogSlice, start: Offset },
    Save(Box<Snapshot>, Offset),
    TakePlace,
}

#[derive(Debug, Error)]
pub(super) enum CopyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Slice(#[from] SliceError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    LogDir(#[from] LogDirError),
}

impl CopyError {
    /// What is read without the partition's lock may be cut meanwhile, and others be written there.
    const fn may_be_due_to_a_cut(&self) -> bool {
        match self {
            Self::Slice(_) => true,
            Self::Append(error) => !matches!(error, AppendError::Storage(_)),
            Self::Read(_) | Self::Storage(_) | Self::Io(_) | Self::LogDir(_) => false,
        }
    }

    fn is_full_disk(&self) -> bool {
        match self {
            Self::Storage(error) | Self::Append(AppendError::Storage(error)) => {
                matches!(error, StorageError::NoSpace)
            }
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Read(_) | Self::Slice(_) | Self::Append(_) | Self::LogDir(_) => false,
        }
    }
}

impl Copying {
    pub(super) const fn new(log: Log) -> Self {
        Self {
            log,
            unsynced_bytes: 0,
            saved_start: None,
        }
    }

    fn append(&mut self, slice: &LogSlice) -> Result<usize, CopyError> {
        let bytes = slice.read_verified()?;
        self.log.append_as_follower(&bytes, clock::timestamp())?;
        self.unsynced_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn raise_start(&mut self, start: Offset) -> Result<(), CopyError> {
        if self.log.start_offset() < start.min(self.log.end_offset()) {
            self.log.delete_before(start)?.remove()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let synced = self.log.checkpoint_handle().sync()?;
        self.log.synced(synced);
        self.unsynced_bytes = 0;
        Ok(())
    }
}

impl Partition {
    /// Blocks on the disks.
    pub(super) fn take_turn(&self) -> Turn {
        let future = self
            .state
            .lock()
            .moving
            .as_ref()
            .map(|m| Arc::clone(&m.future));
        let Some(future) = future else {
            return Turn::Ended;
        };
        let outcome = {
            let mut copying = future.copying.lock();
            let outcome = self.advance(&future, &mut copying);
            self.note_progress(&future, &copying.log);
            outcome
        };
        match outcome {
            Ok(turn) => turn,
            Err(error) if error.is_full_disk() => Turn::Waits,
            Err(error) if error.may_be_due_to_a_cut() && self.is_cut(&future) => Turn::GoesOn(0),
            Err(error) => {
                self.end_failed_move(&future, &error);
                Turn::Ended
            }
        }
    }

    fn advance(&self, future: &Arc<FutureLog>, copying: &mut Copying) -> Result<Turn, CopyError> {
        let Some(next) = self.next(future, copying)? else {
            return Ok(Turn::Ended);
        };
        let fs = &**future.directory.fs();
        match next {
            Next::Cut(to) => {
                producers::discard_above(fs, &copying.log, to)?;
                copying.log.truncate_to(to)?;
                self.note_copy_cut(future, to);
            }
            Next::StartOver(at) => {
                producers::discard_all(fs, &copying.log)?;
                copying.log.truncate_fully_and_start_at(at)?;
                copying.saved_start = None;
            }
            Next::Copy { slice, start } => {
                let bytes = copying.append(&slice)?;
                copying.raise_start(start)?;
                if copying.unsynced_bytes >= SAVE_INTERVAL_BYTES {
                    self.save(future, copying)?;
                }
                return Ok(Turn::GoesOn(bytes));
            }
            Next::Save(snapshot, start) => {
                copying.raise_start(start)?;
                self.save(future, copying)?;
                let pending = snapshot.write()?;
                pending.put(&copying.log)?;
                pending.retire_older()?;
            }
            Next::TakePlace => return self.take_place(future, copying),
        }
        Ok(Turn::GoesOn(0))
    }

    /// `None` when the move was given up.
    fn next(
        &self,
        future: &Arc<FutureLog>,
        copying: &mut Copying,
    ) -> Result<Option<Next>, CopyError> {
        let state = self.state.lock();
        let Some(cut_to) = state.cut_of_move_to(future) else {
            return Ok(None);
        };
        copying.log.set_config(state.log.config().clone());
        let copy_end = copying.log.end_offset();
        if let Some(to) = cut_to {
            return Ok(Some(Next::Cut(to)));
        }
        copying.log.adopt_aborted(&state.log)?;
        let (start, end) = (state.log.start_offset(), state.log.end_offset());
        let from = copy_end.max(start);
        let slice = state
            .log
            .read(from, end, COPY_BYTES_MAX, MinOneBatch::Yes)?;
        Ok(Some(match slice {
            Some(slice) if slice.base_offset == copy_end => Next::Copy { slice, start },
            Some(slice) if slice.base_offset > copy_end && copy_end >= start => {
                Next::Copy { slice, start }
            }
            // Retention was faster, or the log starts within a batch.
            Some(slice) => Next::StartOver(slice.base_offset),
            None if copy_end < end => Next::StartOver(end),
            None if copying.is_saved(start) => Next::TakePlace,
            None => {
                let fs = future.directory.fs();
                let snapshot = Snapshot::take(fs, &copying.log, state.replica.producers());
                Next::Save(Box::new(snapshot), start)
            }
        }))
    }

    /// Makes the copy durable, and what the next start has to know of it.
    fn save(&self, future: &FutureLog, copying: &mut Copying) -> Result<(), CopyError> {
        copying.sync()?;
        let checkpoint = copying.log.checkpoint();
        let checkpointed = Checkpointed {
            recovery_point: checkpoint.recovery_point,
            log_start: checkpoint.start_offset,
            high_watermark: self.high_watermark().min(copying.log.end_offset()),
            compacted_upto: copying.log.compacted_upto(),
        };
        let name = (self.topic.to_string(), self.id.partition.0);
        future
            .directory
            .write_checkpoints(|checkpoints| checkpoints.set(name, checkpointed))?;
        copying.saved_start = Some(checkpoint.start_offset);
        copying.log.checkpointed(checkpoint);
        Ok(())
    }

    /// The copy becomes the log, unless more has come than is to be copied under the lock.
    fn take_place(
        &self,
        future: &Arc<FutureLog>,
        copying: &mut Copying,
    ) -> Result<Turn, CopyError> {
        let mut state = self.state.lock();
        if state.cut_of_move_to(future) != Some(None) || !copying.is_saved(state.log.start_offset())
        {
            return Ok(Turn::GoesOn(0));
        }
        let (from, end) = (copying.log.end_offset(), state.log.end_offset());
        let rest = state
            .log
            .read(from, end, LAST_COPY_BYTES_MAX, MinOneBatch::Yes)?;
        let bytes = match rest {
            Some(slice) => copying.append(&slice)?,
            None => 0,
        };
        if copying.log.end_offset() != end {
            return Ok(Turn::GoesOn(bytes));
        }
        copying.log.adopt_epochs(state.log.epochs());
        copying.log.adopt_aborted(&state.log)?;
        copying.log.set_config(state.log.config().clone());
        copying.sync()?;
        let path = future
            .directory
            .dir()
            .partition_path(&self.topic, self.id.partition.0)?;
        if let Err(error) = copying.log.take_place_of(&state.log, path) {
            if !matches!(error, StorageError::NoSpace) {
                self.stay(&state, future);
            }
            return Err(error.into());
        }
        std::mem::swap(&mut state.log, &mut copying.log);
        let from = std::mem::replace(&mut state.directory, Arc::clone(&future.directory));
        state.moving = None;
        state.disk_full = false;
        state.became_durable();
        // Before anything is appended: two logs of which one has more are not to be found.
        let old = set_aside(&from, &self.topic, self.id.partition);
        drop(state);
        tracing::info!(
            partition = %self, from = %from.path().display(),
            to = %future.directory.path().display(), "replica moved to another log directory"
        );
        self.remove_old(&from, old);
        Ok(Turn::Ended)
    }

    /// The log goes on although its copy may have the replica's name by now, on a disk that failed:
    /// should that come back, the log is to stay.
    fn stay(&self, state: &State, future: &FutureLog) {
        let metadata = PartitionMetadata {
            replaces: Some(future.log_id.clone()),
            ..PartitionMetadata::new(self.id.topic, &new_log_id())
        };
        let dir = state.log.dir();
        if let Err(error) = metadata.write(&**state.directory.fs(), dir) {
            tracing::error!(
                partition = %self, dir = %dir.display(), %error,
                "a copy of the log may replace it at the next start; it takes no more writes"
            );
            state.log.give_up(&error);
        }
    }

    fn remove_old(&self, from: &Arc<Directory>, old: Result<PathBuf, LogDirError>) {
        from.replica_removed();
        match old {
            Ok(path) => {
                let name = (self.topic.to_string(), self.id.partition.0);
                if let Err(error) = from.forget(&name) {
                    tracing::warn!(%error, "the checkpoint of a log that was moved away stays");
                }
                remove_in_background(from, vec![path]);
            }
            Err(error) => {
                tracing::warn!(%error, "a log that was moved away stays until the next start");
            }
        }
    }

    fn note_progress(&self, future: &Arc<FutureLog>, copy: &Log) {
        if let Some(moving) = &mut self.state.lock().moving
            && Arc::ptr_eq(&moving.future, future)
        {
            moving.end = copy.end_offset();
            moving.size_bytes = copy.size_bytes();
        }
    }

    fn note_copy_cut(&self, future: &Arc<FutureLog>, to: Offset) {
        if let Some(moving) = &mut self.state.lock().moving
            && Arc::ptr_eq(&moving.future, future)
            && moving.cut_to == Some(to)
        {
            moving.cut_to = None;
        }
    }

    fn is_cut(&self, future: &Arc<FutureLog>) -> bool {
        let state = self.state.lock();
        state.cut_of_move_to(future).flatten().is_some()
            && !future.directory.is_failed()
            && !state.directory.is_failed()
    }

    /// A failure of the original's disk has its own consequences. A failure of the copy's costs only
    /// the copy.
    fn end_failed_move(&self, future: &Arc<FutureLog>, error: &CopyError) {
        if self.is_failed() {
            return;
        }
        tracing::error!(
            partition = %self, to = %future.directory.path().display(), %error,
            "a replica can't be moved; it stays where it is"
        );
        if matches!(error, CopyError::Slice(_)) {
            let copied = self.state.lock().moving.as_ref().map(|moving| moving.end);
            if let Some(copied) = copied {
                self.suspect(copied, COPY_BYTES_MAX);
            }
        }
        let moving = {
            let mut state = self.state.lock();
            let is_this = state.cut_of_move_to(future).is_some();
            is_this.then(|| state.moving.take()).flatten()
        };
        if let Some(moving) = moving {
            moving.discard(&self.topic, self.id.partition);
        }
    }
}

impl Copying {
    /// Whether little remains to be done under the partition's lock.
    fn is_saved(&self, start: Offset) -> bool {
        self.saved_start == Some(start)
            && self.log.start_offset() == start
            && self.unsynced_bytes <= LAST_SYNC_BYTES_MAX
    }
}

impl State {
    /// Where a copy has to be cut; `None` when it is not wanted any more.
    fn cut_of_move_to(&self, future: &Arc<FutureLog>) -> Option<Option<Offset>> {
        let moving = self.moving.as_ref().filter(|_| !self.closed)?;
        Arc::ptr_eq(&moving.future, future).then_some(moving.cut_to)
    }
}
