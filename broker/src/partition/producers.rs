//! State of idempotent producers and their transactions across restarts: the newest snapshot that fits
//! the log, and a scan of the batch headers and markers behind it. The log's indexes of aborted
//! transactions are durable as far as the snapshot goes; what follows is entered anew.

mod snapshot;

use std::io;

use broker_core::partition::Producers;
use broker_core::{Offset, Timestamp};
use broker_log::fs::Fs;
use broker_log::{Log, MinOneBatch};
use broker_wire::record::{BATCH_HEADER_LEN, BatchError, BatchHeader, RecordError};
use thiserror::Error;

use super::append::sequence;
use super::transactions::{marker_in, note_if_aborted};
pub(super) use snapshot::Snapshot;
use snapshot::SnapshotDir;

/// More than a marker takes.
const MARKER_BYTES_MAX: usize = 4096;

/// The log could not be read for its producers.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error(transparent)]
    Log(#[from] broker_log::ReadError),
    #[error("can't read the state of producers: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("a transaction's marker can't be read: {0}")]
    Marker(#[from] RecordError),
    #[error(transparent)]
    Storage(#[from] broker_log::StorageError),
}

impl RebuildError {
    /// Whether the log is not what was appended; else the disk did not answer.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Log(broker_log::ReadError::Corrupt { .. }) | Self::Batch(_) | Self::Marker(_) => {
                true
            }
            Self::Log(_) | Self::Storage(_) => false,
            Self::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        }
    }
}

/// Reads the state of a log that was just opened or truncated. Snapshots that do not fit the log,
/// or are damaged, are removed.
pub(super) fn load(fs: &dyn Fs, log: &mut Log) -> Result<Producers, RebuildError> {
    let (start, end) = (log.start_offset(), log.end_offset());
    let dir = log.dir().to_owned();
    let snapshots = SnapshotDir::new(fs, &dir);
    // One from before the start lacks batches that nobody can read any more: a producer would seem
    // to have left some out.
    snapshots.discard(|at| at < start || at > end)?;
    if !log.knows_aborted() {
        tracing::warn!(dir = %dir.display(), "an index of aborted transactions is damaged; reading all of the log");
        snapshots.discard(|_| true)?;
    }
    let mut from = start;
    let mut producers = Producers::default();
    for at in snapshots.list()?.into_iter().rev() {
        if let Some(found) = snapshots.read(at)? {
            producers = found;
            from = at;
            break;
        }
        tracing::warn!(dir = %dir.display(), %at, "a producer snapshot is damaged; using an older one");
        snapshots.discard(|damaged| damaged == at)?;
    }
    log.forget_aborted_from(from)?;
    scan(log, from, &mut producers)?;
    Ok(producers)
}

/// Before a truncation: removes the snapshots of what is about to be cut. Left behind, they would
/// vouch for records that are written there later. Durable when it returns.
pub(super) fn discard_above(fs: &dyn Fs, log: &Log, offset: Offset) -> io::Result<()> {
    SnapshotDir::new(fs, log.dir()).discard(|at| at > offset)
}

/// Before markers are compacted away: removes the snapshots in which a transaction may be ongoing whose
/// end the log would not tell any more. Durable when it returns.
pub(super) fn discard_below(fs: &dyn Fs, log: &Log, offset: Offset) -> io::Result<()> {
    SnapshotDir::new(fs, log.dir()).discard(|at| at < offset)
}

/// Before a log starts over: as [`discard_above`], of all snapshots.
pub(super) fn discard_all(fs: &dyn Fs, log: &Log) -> io::Result<()> {
    SnapshotDir::new(fs, log.dir()).discard(|_| true)
}

fn scan(log: &mut Log, from: Offset, producers: &mut Producers) -> Result<(), RebuildError> {
    let mut next = from;
    while next < log.end_offset() {
        let Some(slice) = log.read(next, log.end_offset(), usize::MAX, MinOneBatch::Yes)? else {
            break;
        };
        let (mut position, end) = (slice.position, slice.position + slice.len as u64);
        while position < end {
            let mut bytes = [0; BATCH_HEADER_LEN];
            slice.file.read_exact_at(&mut bytes, position)?;
            let header = BatchHeader::parse(&bytes)?;
            let base_offset = Offset(header.base_offset);
            let timestamp = Timestamp(header.max_timestamp);
            if let Some(sequence) = sequence(&header) {
                producers.record(&sequence, base_offset, timestamp);
            } else if header.is_control() {
                let len = header.total_len().min(MARKER_BYTES_MAX);
                let mut bytes = vec![0; len];
                slice.file.read_exact_at(&mut bytes, position)?;
                if let Some(marker) = marker_in(&bytes)?
                    && let Some(ended) = producers.end_transaction(&marker, base_offset, timestamp)
                {
                    note_if_aborted(log, &ended)?;
                }
            }
            next = Offset(header.next_offset());
            position += header.total_len() as u64;
        }
    }
    Ok(())
}
