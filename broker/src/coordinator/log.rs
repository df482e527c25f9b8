//! What the coordinator needs of a partition of `__consumer_offsets` that this broker leads.

use std::future::Future;
use std::ops::Range;

use broker_core::Offset;
use broker_core::group::AppendError;
use bytes::Bytes;

/// Why the partition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Somebody else leads the partition now.
    #[error("this broker no longer leads the partition")]
    NotLeader,
    /// The log could not be read.
    #[error("reading the log failed: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One partition, as its leader in one epoch sees it.
pub trait PartitionLog: Send + Sync + 'static {
    /// The offsets in the log, committed or not.
    ///
    /// # Errors
    /// [`ReadError`].
    fn offsets(&self) -> Result<Range<Offset>, ReadError>;

    /// Committed record batches from the one with `from` on, some hundred KiB of them; empty if
    /// nothing at or after `from` is committed yet.
    fn read(&self, from: Offset) -> impl Future<Output = Result<Bytes, ReadError>> + Send;

    /// Appends a record batch and waits until it is committed (acks=all).
    fn append(&self, batch: Bytes) -> impl Future<Output = Result<(), AppendError>> + Send;
}
