//! What a partition refuses, by operation. Mapped to Kafka's codes in `api/error.rs`.

use broker_core::Offset;
use broker_core::partition::{self, EpochError, NotLeader};
use broker_wire::record::RecordError;
use thiserror::Error;

/// A batch was not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    #[error(transparent)]
    Refused(#[from] partition::AppendError),
    #[error("the batch of {bytes} bytes is larger than max.message.bytes={max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("record {index} of the batch has no key, which a compacted topic asks for")]
    NoKey { index: i64 },
    #[error("the records can't be read, which a compacted topic asks for: {0}")]
    Records(#[from] RecordError),
    #[error("the partition moved away")]
    Closed,
    #[error(transparent)]
    Log(#[from] broker_log::AppendError),
}

impl From<NotLeader> for AppendError {
    fn from(error: NotLeader) -> Self {
        Self::Refused(error.into())
    }
}

/// Records were not deleted.
#[derive(Debug, Error)]
pub enum DeleteRecordsError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    #[error("offset {wanted} is not within the log up to its high watermark {high_watermark}")]
    OutOfRange {
        wanted: Offset,
        high_watermark: Offset,
    },
    #[error(transparent)]
    Storage(#[from] broker_log::StorageError),
}

/// Records or offsets were not read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("offset {wanted} is not within {start}..{end}")]
    OutOfRange {
        wanted: Offset,
        start: Offset,
        end: Offset,
    },
    #[error("the new leader does not know the high watermark yet; retry")]
    OffsetNotAvailable,
    #[error("the partition moved away")]
    Closed,
    #[error(transparent)]
    Log(#[from] broker_log::ReadError),
    #[error(transparent)]
    Timestamp(#[from] broker_log::TimestampError),
    #[error(transparent)]
    Damaged(#[from] broker_log::SliceError),
}

impl From<NotLeader> for ReadError {
    fn from(error: NotLeader) -> Self {
        Self::Epoch(error.into())
    }
}
