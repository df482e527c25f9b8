//! openraft's log storage: the entries in an [`EntryLog`], vote and purge position in a file of
//! their own.
//!
//! Invariants:
//! * An append is reported after an fsync that began after its write; appends that wait together
//!   share one.
//! * The vote is on disk before [`RaftLogStorage::save_vote`] returns, and never ahead of an
//!   earlier append.
//! * Entries up to the purge position are never returned, whatever the log still holds of them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::codec;
use super::entry_log::{self, EntryLog};
use super::reserve::Reserve;
use super::sealed_file::{self, Magic};
use super::types::{Entry, LogId, TypeConfig, Vote};

/// Holds the vote; there from the moment the directory is made.
pub(crate) const QUORUM_STATE_FILE: &str = "quorum-state";
const QUORUM_STATE_MAGIC: Magic = *b"KLMQRM01";
/// Appends that wait for an fsync before further ones wait for room.
const UNSYNCED_APPENDS_MAX: usize = 1024;
/// Bytes of entries for one follower's request, exceeded by at most one entry.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// See the module's documentation.
pub(crate) struct LogStore {
    reader: LogReader,
    path: PathBuf,
    reserve: Arc<Reserve>,
    unsynced: mpsc::SyncSender<IOFlushed<TypeConfig>>,
}

/// Reads what a [`LogStore`] has written, from any task.
#[derive(Clone)]
pub(crate) struct LogReader {
    log: Arc<Mutex<EntryLog>>,
    state: Arc<Mutex<QuorumState>>,
}

/// What a voter must not forget besides its log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct QuorumState {
    vote: Option<Vote>,
    /// Last entry that only the snapshot holds.
    purged: Option<LogId>,
    /// Entries below were durable when this was written.
    recovery_point: u64,
}

impl LogStore {
    /// Opens the log in `directory`, which is created when missing.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        if let Some(parent) = directory.parent() {
            // Or a power failure takes the directory away with everything that is synced in it.
            std::fs::File::open(parent)?.sync_all()?;
        }
        let path = directory.join(QUORUM_STATE_FILE);
        let state = match sealed_file::read(&path, QUORUM_STATE_MAGIC)? {
            Some(content) => codec::decode(&content).map_err(io::Error::other)?,
            None => QuorumState::default(),
        };
        let start = next_index(state.purged);
        let mut log = EntryLog::open(directory, state.recovery_point, start)?;
        if log.end() < start {
            log.reset(start)?;
        }
        let reader = LogReader {
            log: Arc::new(Mutex::new(log)),
            state: Arc::new(Mutex::new(state)),
        };
        // What a killed process left in the page cache counts as stored from here on.
        sync(&reader.log)?;
        let (unsynced, requests) = mpsc::sync_channel(UNSYNCED_APPENDS_MAX);
        let log = Arc::clone(&reader.log);
        thread::Builder::new()
            .name("metadata-sync".to_owned())
            .spawn(move || sync_appends(&requests, &log))?;
        let reserve = Arc::new(Reserve::open(directory));
        Ok(Self {
            reader,
            path,
            reserve,
            unsynced,
        })
    }

    /// The last entry that was removed in favour of a snapshot.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.reader.state.lock().purged
    }

    async fn store(&self, change: impl FnOnce(&mut QuorumState)) -> io::Result<()> {
        let mut state = self.reader.state.lock().clone();
        change(&mut state);
        let (path, shared) = (self.path.clone(), Arc::clone(&self.reader.log));
        let reserve = Arc::clone(&self.reserve);
        let state = blocking(move || {
            reserve.take();
            let synced = reserve.with_room(|| {
                let handle = shared.lock().checkpoint_handle();
                handle.sync().map_err(entry_log::storage_error)
            })?;
            let mut log = shared.lock();
            log.synced(synced);
            let checkpoint = log.checkpoint();
            state.recovery_point = log.recovery_point();
            drop(log);
            let content = codec::encode(&state);
            reserve.with_room(|| sealed_file::write(&path, QUORUM_STATE_MAGIC, &content))?;
            shared.lock().checkpointed(checkpoint);
            Ok(state)
        })
        .await?;
        *self.reader.state.lock() = state;
        Ok(())
    }
}

/// Makes `directory` ready for [`LogStore::open`].
pub(crate) fn format(directory: &Path) -> io::Result<()> {
    let state = codec::encode(&QuorumState::default());
    sealed_file::write(
        &directory.join(QUORUM_STATE_FILE),
        QUORUM_STATE_MAGIC,
        &state,
    )
}

/// Whether there are entries, votes or snapshots in `directory`.
pub(crate) fn holds_anything(directory: &Path) -> io::Result<bool> {
    let path = directory.join(QUORUM_STATE_FILE);
    if let Some(state) = sealed_file::read(&path, QUORUM_STATE_MAGIC)?
        && state != codec::encode(&QuorumState::default())
    {
        return Ok(true);
    }
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("log" | "checkpoint")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Syncs the log once for all appends that came up since the last time; ends with the store.
fn sync_appends(requests: &mpsc::Receiver<IOFlushed<TypeConfig>>, log: &Mutex<EntryLog>) {
    while let Ok(first) = requests.recv() {
        let group: Vec<_> = std::iter::once(first).chain(requests.try_iter()).collect();
        let result = sync(log);
        for waiting in group {
            waiting.io_completed(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }
}

fn sync(log: &Mutex<EntryLog>) -> io::Result<()> {
    let handle = log.lock().sync_handle();
    let synced = handle.sync().map_err(io::Error::other)?;
    log.lock().synced(synced);
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn next_index(log_id: Option<LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index + 1)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let purged = self.purged();
        let last = self.reader.log.lock().last_log_id()?;
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.max(purged),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.store(|state| state.vote = Some(*vote)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut log = self.reader.log.lock();
            for entry in entries {
                self.reserve.with_room(|| log.append(&entry))?;
            }
        }
        self.unsynced
            .send(callback)
            .map_err(|_| io::Error::other("the metadata log's sync thread has ended"))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let mut log = self.reader.log.lock();
        self.reserve.with_room(|| log.truncate(next_index(last)))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.store(|state| state.purged = Some(upto)).await?;
        let start = upto.index + 1;
        let mut log = self.reader.log.lock();
        self.reserve.with_room(|| {
            if log.end() < start {
                log.reset(start)
            } else {
                log.delete_before(start)
            }
        })
    }
}

impl LogReader {
    fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let first = next_index(self.state.lock().purged);
        let log = self.log.lock();
        let Range { start, end } = bounds(range, first.max(log.start())..log.end());
        if start >= end {
            Ok(Vec::new())
        } else {
            log.read(start..end, bytes_max)
        }
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> io::Result<Vec<Entry>> {
        self.read(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX)
    }
}

/// The part of `range` within `held`.
fn bounds(range: impl RangeBounds<u64>, held: Range<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start.max(held.start)..end.min(held.end)
}

#[cfg(test)]
mod tests;
