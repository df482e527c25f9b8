//! The quorum's entries in a broker log: one batch with one record for each entry, its offset the
//! entry's index and its leader epoch the entry's term.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use broker_core::Offset;
use broker_log::fs::RealFs;
use broker_log::{
    AppendError, Checkpoint, Log, LogConfig, MinOneBatch, OpenError, OpenOptions, RecoveryProgress,
    StorageError, SyncHandle, Synced,
};
use broker_wire::record::{BatchBuilder, NewRecord, RecordBatch, batches, verify_crc};

use super::codec;
use super::torn_tail;
use super::types::{CommittedLeaderId, Entry, LogId};
use crate::clock;

/// Segments are small, so that the log shrinks soon after a snapshot.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes that are read at a time, exceeded by at most one entry.
const READ_CHUNK_BYTES: usize = 1024 * 1024;

/// See the module's documentation.
pub(crate) struct EntryLog {
    log: Log,
}

impl EntryLog {
    /// Opens the log in `directory`, of which everything below `recovery_point` was durable and
    /// everything below `start` is of no interest.
    pub(crate) fn open(directory: &Path, recovery_point: u64, start: u64) -> io::Result<Self> {
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_ms: u64::MAX,
            retention_ms: None,
            ..LogConfig::default()
        };
        let options = OpenOptions {
            clean_shutdown: false,
            recovery_point: offset(recovery_point),
            log_start: offset(start),
            // Whether it did is not written down anywhere, and the log is short.
            disk_failed: true,
        };
        let checked_from = torn_tail::check(directory, options.recovery_point.0)?;
        let progress = RecoveryProgress::default();
        let fs = Arc::new(RealFs);
        let (log, report) = Log::open(fs, directory.to_owned(), config, options, &progress)
            .map_err(|error| match error {
                OpenError::LostDurable { .. } => damaged(error.to_string()),
                OpenError::Io { .. } => io::Error::other(error),
            })?;
        tracing::info!(?report, "opened the metadata log");
        let log = Self { log };
        log.verify(Offset(checked_from))?;
        Ok(log)
    }

    /// Reads every entry below `end`: one that is damaged is better noticed before its loss matters.
    fn verify(&self, end: Offset) -> io::Result<()> {
        let mut next = self.log.start_offset();
        let end = end.min(self.log.end_offset());
        while next < end {
            let slice = self.log.read(next, end, READ_CHUNK_BYTES, MinOneBatch::Yes);
            let slice = slice.map_err(|error| damaged(error.to_string()))?;
            let slice = slice.ok_or_else(|| damaged(format!("entry {next} is missing")))?;
            let content = slice
                .read_verified()
                .map_err(|error| damaged(error.to_string()))?;
            for batch in batches(&content) {
                let (header, _) = batch.map_err(io::Error::other)?;
                if header.base_offset > next.0 {
                    return Err(damaged(format!("entry {next} is missing")));
                }
                next = Offset(header.next_offset());
            }
        }
        Ok(())
    }

    /// Index of the first entry that is held.
    pub(crate) fn start(&self) -> u64 {
        index(self.log.start_offset())
    }

    /// Index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        index(self.log.end_offset())
    }

    /// The last entry's id, `None` in an empty log.
    pub(crate) fn last_log_id(&self) -> io::Result<Option<LogId>> {
        let end = self.end();
        if end == self.start() {
            return Ok(None);
        }
        Ok(self
            .read(end - 1..end, READ_CHUNK_BYTES)?
            .last()
            .map(|entry| entry.log_id))
    }

    /// Appends `entry` to the page cache. An empty log may begin anywhere.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let LogId { leader_id, index } = entry.log_id;
        if index != self.end() {
            if self.start() != self.end() {
                return Err(damaged(format!(
                    "entry {index} does not follow {}",
                    self.end()
                )));
            }
            self.reset(index)?;
        }
        let term = i32::try_from(leader_id.term).map_err(io::Error::other)?;
        let now = clock::timestamp();
        let mut batch = BatchBuilder::new(offset(index).0).leader_epoch(term);
        let value = codec::encode(&entry.payload);
        batch.append(&NewRecord {
            timestamp: now.0,
            value: Some(&value),
            ..NewRecord::default()
        });
        let batch = batch.build().map_err(io::Error::other)?;
        match self.log.append_as_follower(&batch, now) {
            Err(AppendError::Storage(error)) => Err(storage_error(error)),
            Err(error) => Err(io::Error::other(error)),
            Ok(_) => Ok(()),
        }
    }

    /// The entries of `range`, which are held, as far as they fit into `bytes_max` bytes; at least
    /// one.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = range.start;
        let mut bytes = 0;
        while next < range.end && bytes < bytes_max {
            let chunk = READ_CHUNK_BYTES.min(bytes_max - bytes);
            let (from, upto) = (offset(next), offset(range.end));
            let slice = self.log.read(from, upto, chunk, MinOneBatch::Yes);
            let slice = slice.map_err(io::Error::other)?;
            let slice = slice.ok_or_else(|| damaged(format!("entry {next} is missing")))?;
            let content = slice.read_to_bytes()?;
            for batch in batches(&content) {
                let (_, batch) = batch.map_err(io::Error::other)?;
                let entry = decode(batch)?;
                if entry.log_id.index != next {
                    return Err(damaged(format!("entry {next} is missing")));
                }
                next += 1;
                entries.push(entry);
            }
            bytes += content.len();
        }
        Ok(entries)
    }

    /// Removes the entries from `end` on. Durable when it returns.
    pub(crate) fn truncate(&mut self, end: u64) -> io::Result<()> {
        self.log.truncate_to(offset(end)).map_err(storage_error)
    }

    /// Removes all entries; the next one has index `start`. Durable when it returns.
    pub(crate) fn reset(&mut self, start: u64) -> io::Result<()> {
        self.log
            .truncate_fully_and_start_at(offset(start))
            .map_err(storage_error)
    }

    /// Removes the segments that lie wholly before `start`.
    pub(crate) fn delete_before(&mut self, start: u64) -> io::Result<()> {
        self.log
            .delete_before(offset(start))
            .map_err(storage_error)?
            .remove()
    }

    /// To make all entries so far durable, without a lock on the log.
    pub(crate) fn sync_handle(&self) -> SyncHandle {
        self.log.sync_handle()
    }

    /// As [`EntryLog::sync_handle`], the indexes included.
    pub(crate) fn checkpoint_handle(&self) -> SyncHandle {
        self.log.checkpoint_handle()
    }

    /// Takes note of a finished sync.
    pub(crate) fn synced(&mut self, synced: Synced) {
        self.log.synced(synced);
    }

    /// What is to be stored now; see [`EntryLog::checkpointed`].
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.log.checkpoint()
    }

    /// Takes note that the recovery point of `checkpoint` is stored.
    pub(crate) fn checkpointed(&mut self, checkpoint: Checkpoint) {
        self.log.checkpointed(checkpoint);
    }

    /// Entries below need no check when the log is opened next.
    pub(crate) fn recovery_point(&self) -> u64 {
        index(self.log.recovery_point())
    }
}

fn decode(batch: &[u8]) -> io::Result<Entry> {
    verify_crc(batch).map_err(io::Error::other)?;
    // Entries are not compressed.
    let batch = RecordBatch::open(batch, 0).map_err(io::Error::other)?;
    let header = batch.header();
    let term = u64::try_from(header.partition_leader_epoch).map_err(io::Error::other)?;
    let record = batch
        .records()
        .next()
        .ok_or_else(|| damaged("a batch is empty".to_owned()))?;
    let value = record.map_err(io::Error::other)?.value.unwrap_or_default();
    let payload = codec::decode(value).map_err(io::Error::other)?;
    let log_id = LogId::new(
        CommittedLeaderId::new(term),
        index(Offset(header.base_offset)),
    );
    Ok(Entry { log_id, payload })
}

/// Keeps a full disk apart from failures.
pub(super) fn storage_error(error: StorageError) -> io::Error {
    let kind = match error {
        StorageError::NoSpace => io::ErrorKind::StorageFull,
        StorageError::Failed | StorageError::Io(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the metadata log is damaged: {reason}"),
    )
}

fn offset(index: u64) -> Offset {
    Offset(i64::try_from(index).expect("an index counts entries, of which there are fewer"))
}

fn index(offset: Offset) -> u64 {
    u64::try_from(offset.0).expect("a log's offsets are not negative")
}
