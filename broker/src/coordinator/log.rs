//! What the coordinators need of a partition that this broker leads and their state lives in.

use std::future::Future;
use std::ops::Range;

use broker_core::Offset;
use broker_core::group::AppendError;
use broker_core::partition::{EndMarker, MarkerEpoch, VerificationGuard};
use broker_core::transaction::Producer;
use bytes::Bytes;

use crate::partition::{self, Appended, AppendedMarker};

/// Why it is known where a coordinator's batches are.
pub(super) const NO_REPETITION: &str =
    "a coordinator's batch has no place in a producer's sequence";

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

    /// Appends a record batch and waits until it is committed (acks=all). Returns its offset.
    fn append(&self, batch: Bytes) -> impl Future<Output = Result<Offset, AppendError>> + Send;

    /// To be called before the transaction's coordinator is asked whether it includes the partition;
    /// `None` when there is nothing to ask (KIP-890).
    ///
    /// # Errors
    /// [`partition::AppendError`].
    fn begin_verification(
        &self,
        producer: Producer,
    ) -> Result<Option<VerificationGuard>, partition::AppendError>;

    /// Appends a batch, whose acknowledgement is to be waited for; the first one of a transaction with
    /// the guard of its verification.
    ///
    /// # Errors
    /// [`partition::AppendError`]; nothing was appended.
    fn begin_append(
        &self,
        batch: Bytes,
        guard: Option<VerificationGuard>,
    ) -> Result<Appended, partition::AppendError>;

    /// Appends a marker, whose acknowledgement is to be waited for.
    ///
    /// # Errors
    /// [`partition::AppendError`]; nothing was appended.
    fn append_marker(
        &self,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<AppendedMarker, partition::AppendError>;
}
