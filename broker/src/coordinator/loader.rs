//! Reads a partition of `__consumer_offsets` into memory when this broker becomes its leader.

use std::ops::Range;
use std::time::{Duration, Instant};

use broker_core::Offset;
use broker_core::group::{GroupConfig, Groups};
use broker_wire::record::{BatchError, RecordBatch, RecordError, batches};
use tokio::time::sleep;

use super::codec::{self, DecodeError};
use super::log::{PartitionLog, ReadError};
use super::shard::Shard;

/// Largest batch after decompression.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// How often a new leader looks whether its high watermark has caught up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(20);
/// Pause before a partition that could not be read is tried again.
const RETRY_BACKOFF: Duration = Duration::from_secs(1);

/// Why a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error("record at offset {offset}: {source}")]
    Record { offset: Offset, source: DecodeError },
}

/// Loads until it succeeds or the shard resigns.
pub(super) async fn run(shard: &Shard, log: &impl PartitionLog, config: &GroupConfig) {
    let load = async {
        loop {
            let started = Instant::now();
            match load(log, config).await {
                Ok(groups) => {
                    let elapsed_ms = started.elapsed().as_millis();
                    let groups_loaded = groups.list().count();
                    tracing::info!(partition = %shard.partition, groups_loaded, elapsed_ms, "groups loaded");
                    return shard.serve(groups);
                }
                Err(LoadError::Read(ReadError::NotLeader)) => {}
                Err(error) => {
                    tracing::error!(partition = %shard.partition, %error, "groups cannot be loaded");
                }
            }
            sleep(RETRY_BACKOFF).await;
        }
    };
    shard.resigned.run_until_cancelled(load).await;
}

/// All that was in the log when this broker became leader must be in memory before it serves, also
/// what it does not yet know to be committed: an earlier leader may have acknowledged it.
async fn load(log: &impl PartitionLog, config: &GroupConfig) -> Result<Groups, LoadError> {
    let mut groups = Groups::new(config.clone());
    let Range {
        start: mut next,
        end,
    } = log.offsets()?;
    while next < end {
        let read = log.read(next).await?;
        let reached = apply(&read, next, &mut groups)?;
        if reached == next {
            sleep(CATCH_UP_INTERVAL).await;
        }
        next = reached;
    }
    Ok(groups)
}

/// Applies the records from `from` on and returns where to go on.
fn apply(read: &[u8], from: Offset, groups: &mut Groups) -> Result<Offset, LoadError> {
    let mut next = from;
    for batch in batches(read) {
        let (header, bytes) = match batch {
            Ok(batch) => batch,
            // The read may end in the middle of a batch.
            Err(BatchError::Truncated { .. }) if next > from => break,
            Err(error) => return Err(error.into()),
        };
        if !header.is_control() {
            let batch = RecordBatch::open(bytes, DECOMPRESSED_BYTES_MAX)?;
            for record in batch.records() {
                let record = record?;
                let offset = Offset(record.offset);
                let Some(key) = record.key.filter(|_| offset >= next) else {
                    continue;
                };
                let decoded = codec::decode(key, record.value)
                    .map_err(|source| LoadError::Record { offset, source })?;
                if let Some(record) = decoded {
                    groups.apply(&record);
                }
            }
        }
        next = next.max(Offset(header.next_offset()));
    }
    Ok(next)
}
