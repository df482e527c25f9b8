//! A partition of `__consumer_offsets` that this broker leads, as the coordinator uses it.

use std::ops::Range;
use std::sync::Arc;

use broker_core::group::AppendError;
use broker_core::partition::{self as replica, Acks};
use broker_core::{LeaderEpoch, Offset};
use broker_log::MinOneBatch;
use broker_wire::record::BatchHeader;
use bytes::Bytes;

use super::log::{PartitionLog, ReadError};
use crate::partition::{self, OffsetQuery, Partition, ProducedBatch};

/// How much is read at a time while loading.
const READ_BYTES_MAX: usize = 1 << 20;

/// A partition in one of the epochs in which this broker leads it.
pub struct LedPartition {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
}

impl LedPartition {
    /// `partition` as led since `epoch`.
    #[must_use]
    pub const fn new(partition: Arc<Partition>, epoch: LeaderEpoch) -> Self {
        Self { partition, epoch }
    }
}

impl PartitionLog for LedPartition {
    fn offsets(&self) -> Result<Range<Offset>, ReadError> {
        let start = self
            .partition
            .find_offset(OffsetQuery::Earliest, Some(self.epoch))?;
        let start = start.map_or(Offset(0), |found| found.offset);
        let end = self.partition.epoch_end(Some(self.epoch), self.epoch)?;
        Ok(start..end.map_or(start, |(_, end)| end))
    }

    async fn read(&self, from: Offset) -> Result<Bytes, ReadError> {
        let fetched =
            self.partition
                .read(from, Some(self.epoch), READ_BYTES_MAX, MinOneBatch::Yes)?;
        let Some(records) = fetched.records else {
            return Ok(Bytes::new());
        };
        tokio::task::spawn_blocking(move || records.read_to_bytes())
            .await
            .map_err(|error| ReadError::Storage(error.into()))?
            .map_err(|error| ReadError::Storage(error.into()))
    }

    async fn append(&self, batch: Bytes) -> Result<(), AppendError> {
        let header = BatchHeader::parse(&batch).expect("built by this coordinator");
        let batch = ProducedBatch {
            header,
            bytes: batch.into(),
            leader_epoch: Some(self.epoch),
        };
        let appended = self.partition.append(batch, Acks::All).map_err(refusal)?;
        match appended.acknowledged {
            Some(acknowledged) => acknowledged.await.map_err(|_| AppendError::NotLeader),
            None => Ok(()),
        }
    }
}

fn refusal(error: partition::AppendError) -> AppendError {
    match error {
        partition::AppendError::Refused(replica::AppendError::NotLeader(_))
        | partition::AppendError::Closed => AppendError::NotLeader,
        partition::AppendError::TooLarge { .. }
        | partition::AppendError::Log(broker_log::AppendError::TooLarge { .. }) => {
            AppendError::TooLarge
        }
        partition::AppendError::Refused(_) => AppendError::NotReplicated,
        error @ (partition::AppendError::NoKey { .. }
        | partition::AppendError::Records(_)
        | partition::AppendError::Log(_)) => {
            tracing::error!(%error, "the log refused group records");
            AppendError::NotReplicated
        }
    }
}

impl From<partition::ReadError> for ReadError {
    fn from(error: partition::ReadError) -> Self {
        match error {
            partition::ReadError::Epoch(_) | partition::ReadError::Closed => Self::NotLeader,
            error => Self::Storage(error.into()),
        }
    }
}
