//! The newest metadata snapshot on disk: `<index>-<term>.checkpoint` beside the log.
//!
//! Invariants:
//! * A snapshot counts once it is on disk as a whole; only then is its predecessor deleted.
//! * A snapshot never replaces a newer one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec;
use super::reserve::Reserve;
use super::sealed_file::{self, Magic};
use super::types::{LogId, Snapshot, SnapshotMeta};

/// Bytes of a snapshot, on disk and when it is received.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = 512 * 1024 * 1024;
const EXTENSION: &str = "checkpoint";
const MAGIC: Magic = *b"KLMSNP01";

/// See the module's documentation.
pub(crate) struct SnapshotStore {
    directory: PathBuf,
    reserve: Reserve,
    /// Held while a file is written, so that writers take turns.
    newest: Mutex<Option<LogId>>,
    newest_bytes: AtomicU64,
}

impl SnapshotStore {
    /// Looks for the newest snapshot in `directory`.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut paths = checkpoints(directory)?;
        paths.sort();
        let newest = paths.last().map(|path| read(path)).transpose()?.flatten();
        let bytes = newest.as_ref().map_or(0, |newest| newest.snapshot.len());
        Ok(Self {
            directory: directory.to_owned(),
            reserve: Reserve::open(directory),
            newest_bytes: AtomicU64::new(bytes as u64),
            newest: Mutex::new(newest.and_then(|newest| newest.meta.last_log_id)),
        })
    }

    /// Size of the newest snapshot; 0 without one.
    pub(crate) fn newest_bytes(&self) -> u64 {
        self.newest_bytes.load(Ordering::Relaxed)
    }

    /// Position of the newest snapshot.
    pub(crate) fn newest(&self) -> Option<LogId> {
        *self.newest.lock()
    }

    /// Reads the newest snapshot. Blocks.
    pub(crate) fn load(&self) -> io::Result<Option<Snapshot>> {
        let newest = self.newest.lock();
        newest.map_or(Ok(None), |position| read(&self.path(position)))
    }

    /// Stores a snapshot unless there is one as new, and deletes older ones. Blocks.
    pub(crate) fn save(&self, meta: &SnapshotMeta, content: &Bytes) -> io::Result<()> {
        let mut newest = self.newest.lock();
        let Some(position) = meta.last_log_id else {
            return Ok(());
        };
        if newest.is_some_and(|newest| newest >= position) {
            return Ok(());
        }
        let path = self.path(position);
        let file = codec::encode(&(meta, content));
        self.reserve
            .with_room(|| sealed_file::write(&path, MAGIC, &file))?;
        *newest = Some(position);
        self.newest_bytes
            .store(content.len() as u64, Ordering::Relaxed);
        for old in checkpoints(&self.directory)? {
            if old != path {
                fs::remove_file(old)?;
            }
        }
        Ok(())
    }

    fn path(&self, position: LogId) -> PathBuf {
        let (index, term) = (position.index, position.leader_id.term);
        self.directory
            .join(format!("{index:020}-{term:010}.{EXTENSION}"))
    }
}

fn checkpoints(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let Some(file) = sealed_file::read(path, MAGIC)? else {
        return Ok(None);
    };
    let (meta, snapshot) = codec::decode(&file).map_err(io::Error::other)?;
    Ok(Some(Snapshot { meta, snapshot }))
}
