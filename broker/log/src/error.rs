//! What can go wrong, one enum for each kind of operation.

use std::io;
use std::path::PathBuf;

use broker_core::{LeaderEpoch, Offset};
use broker_wire::record::BatchError;

use crate::fs::is_no_space;

/// Why the storage below a log did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk or the quota is full. The log is as it was before and may be tried again.
    #[error("no space left on the device that holds the log")]
    NoSpace,
    /// An earlier failure made the log read-only; the log directory must be replaced.
    #[error("the log failed earlier and is read-only; restart with a healthy disk")]
    Failed,
    /// The operating system refused; the log is read-only from now on.
    #[error("the log's storage failed, it is read-only now: {0}")]
    Io(#[source] io::Error),
}

impl StorageError {
    pub(crate) fn from_io(error: io::Error) -> Self {
        if is_no_space(&error) {
            Self::NoSpace
        } else {
            Self::Io(error)
        }
    }
}

/// Why records were not appended. Unless the storage failed the log is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There was no batch in the buffer.
    #[error("there is no batch to append")]
    Empty,
    /// A batch is malformed or cut short, or its checksum is wrong.
    #[error("invalid batch: {0}")]
    InvalidBatch(#[from] BatchError),
    /// A producer's batch must number its records without gaps.
    #[error("batch of {record_count} records has last offset delta {last_offset_delta}")]
    NotDense {
        /// Records in the batch.
        record_count: i32,
        /// Last offset minus base offset.
        last_offset_delta: i32,
    },
    /// A leader's batch is larger than `segment.bytes`.
    #[error("batch of {len} bytes exceeds segment.bytes, which is {segment_bytes}")]
    TooLarge {
        /// Bytes of the batch.
        len: usize,
        /// The limit.
        segment_bytes: u64,
    },
    /// A follower's batch starts before the end of the log or of the batch before it.
    #[error("batch starts at offset {found}, the log ends at {end}")]
    OutOfOrder {
        /// Where it may start at the earliest.
        end: Offset,
        /// Where it starts.
        found: Offset,
    },
    /// The records are of an older epoch than ones that the log holds.
    #[error("leader epoch {epoch} is older than {latest}, the latest in the log")]
    EpochRegressed {
        /// Epoch of the records.
        epoch: LeaderEpoch,
        /// Latest epoch in the log.
        latest: LeaderEpoch,
    },
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is out of range, the log has {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// Log end offset.
        end: Offset,
    },
    /// The file holds no valid batch where one must be.
    #[error("segment {segment} is corrupt at position {position}: {source}")]
    Corrupt {
        /// Base offset of the segment.
        segment: Offset,
        /// Byte position in its file.
        position: u64,
        /// What is wrong there.
        source: BatchError,
    },
    /// The file could not be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file could not be read or written.
    #[error("cannot open the log in {}: {source}", dir.display())]
    Io {
        /// The log's directory.
        dir: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Records that were once durable are missing or damaged. Nothing was changed: move the
    /// directory aside and let the partition be replicated anew.
    #[error(
        "the log in {} is damaged: valid up to offset {valid_end}, it was durable up to {durable_end}",
        dir.display()
    )]
    LostDurable {
        /// The log's directory.
        dir: PathBuf,
        /// End of the valid records.
        valid_end: Offset,
        /// What had been durable.
        durable_end: Offset,
    },
}
