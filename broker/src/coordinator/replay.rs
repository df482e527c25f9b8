//! Reads what a coordinator keeps in a partition into memory, when this broker becomes its leader.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use broker_core::{Offset, PartitionIndex};
use broker_wire::record::{BatchError, BatchHeader, RecordBatch, RecordError, batches};
use tokio::time::sleep;

use super::log::{PartitionLog, ReadError};

/// Largest batch after decompression.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// How often a new leader looks whether its high watermark has caught up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(20);
/// Pause before a partition that could not be read is tried again.
const RETRY_BACKOFF: Duration = Duration::from_secs(1);

/// Why a partition could not be read into memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error("record at offset {offset}: {source}")]
    Record {
        offset: Offset,
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What the records of a partition make.
pub(crate) trait Replayed: Send {
    /// Takes in what `batch` holds from the offset `from` on.
    ///
    /// # Errors
    /// [`ReplayError`].
    fn apply_batch(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        from: Offset,
    ) -> Result<(), ReplayError>;
}

/// Reads until it succeeds, each time into what `empty` gives.
pub(crate) async fn replay<S: Replayed>(
    partition: PartitionIndex,
    log: &impl PartitionLog,
    empty: impl Fn() -> S + Send,
) -> S {
    loop {
        match replay_once(log, empty()).await {
            Ok(state) => return state,
            Err(ReplayError::Read(ReadError::NotLeader)) => {}
            Err(error) => tracing::error!(%partition, %error, "the coordinator cannot be loaded"),
        }
        sleep(RETRY_BACKOFF).await;
    }
}

/// All that was in the log when this broker became leader must be in memory before it serves, also
/// what it does not yet know to be committed: an earlier leader may have acknowledged it.
async fn replay_once<S: Replayed>(log: &impl PartitionLog, mut state: S) -> Result<S, ReplayError> {
    let Range {
        start: mut next,
        end,
    } = log.offsets()?;
    while next < end {
        let read = log.read(next).await?;
        let reached = apply(&mut state, &read, next)?;
        if reached == next {
            sleep(CATCH_UP_INTERVAL).await;
        }
        next = reached;
    }
    Ok(state)
}

/// Applies the records from `from` on and returns where to go on.
pub(crate) fn apply(
    state: &mut impl Replayed,
    read: &[u8],
    from: Offset,
) -> Result<Offset, ReplayError> {
    let mut next = from;
    for batch in batches(read) {
        let (header, bytes) = match batch {
            Ok(batch) => batch,
            // The read may end in the middle of a batch.
            Err(BatchError::Truncated { .. }) if next > from => break,
            Err(error) => return Err(error.into()),
        };
        state.apply_batch(&header, bytes, next)?;
        next = next.max(Offset(header.next_offset()));
    }
    Ok(next)
}

/// Has `apply` take offset, key and value of every record with a key from the offset `from` on.
pub(crate) fn for_each_record<E: Into<Box<dyn Error + Send + Sync>>>(
    batch: &[u8],
    from: Offset,
    mut apply: impl FnMut(Offset, &[u8], Option<&[u8]>) -> Result<(), E>,
) -> Result<(), ReplayError> {
    for record in RecordBatch::open(batch, DECOMPRESSED_BYTES_MAX)?.records() {
        let record = record?;
        let offset = Offset(record.offset);
        if let Some(key) = record.key.filter(|_| offset >= from) {
            apply(offset, key, record.value).map_err(|error| ReplayError::Record {
                offset,
                source: error.into(),
            })?;
        }
    }
    Ok(())
}
