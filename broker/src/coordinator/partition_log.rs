//! A partition that this broker leads, as the coordinators use it.

use std::ops::Range;
use std::sync::Arc;

use broker_core::group::AppendError;
use broker_core::partition::{self as replica, Acks, EndMarker, MarkerEpoch, VerificationGuard};
use broker_core::transaction::Producer;
use broker_core::{LeaderEpoch, Offset};
use broker_log::MinOneBatch;
use broker_wire::record::BatchHeader;
use bytes::Bytes;

use super::log::{NO_REPETITION, PartitionLog, ReadError};
use crate::partition::{
    self, Appended, AppendedMarker, Isolation, OffsetQuery, Partition, ProducedBatch,
};

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
        let start = self.partition.find_offset(
            OffsetQuery::Earliest,
            Some(self.epoch),
            Isolation::ReadUncommitted,
        )?;
        let start = start.map_or(Offset(0), |found| found.offset);
        let end = self.partition.epoch_end(Some(self.epoch), self.epoch)?;
        Ok(start..end.map_or(start, |(_, end)| end))
    }

    async fn read(&self, from: Offset) -> Result<Bytes, ReadError> {
        let fetched = self.partition.read(
            from,
            Some(self.epoch),
            Isolation::ReadUncommitted,
            READ_BYTES_MAX,
            MinOneBatch::Yes,
        )?;
        let Some(records) = fetched.records else {
            return Ok(Bytes::new());
        };
        tokio::task::spawn_blocking(move || records.read_to_bytes())
            .await
            .map_err(|error| ReadError::Storage(error.into()))?
            .map_err(|error| ReadError::Storage(error.into()))
    }

    async fn append(&self, batch: Bytes) -> Result<Offset, AppendError> {
        let appended = self.begin_append(batch, None).map_err(refusal)?;
        if let Some(acknowledged) = appended.acknowledged {
            acknowledged.await.map_err(|_| AppendError::NotLeader)?;
        }
        Ok(appended.base_offset.expect(NO_REPETITION))
    }

    fn begin_verification(
        &self,
        producer: Producer,
    ) -> Result<Option<VerificationGuard>, partition::AppendError> {
        let begun = self.partition.begin_verification(producer);
        begun.map_err(partition::AppendError::from)
    }

    fn begin_append(
        &self,
        batch: Bytes,
        guard: Option<VerificationGuard>,
    ) -> Result<Appended, partition::AppendError> {
        let batch = ProducedBatch {
            header: BatchHeader::parse(&batch).expect("built by this coordinator"),
            bytes: batch.into(),
            leader_epoch: Some(self.epoch),
            guard,
        };
        self.partition.append(batch, Acks::All)
    }

    fn append_marker(
        &self,
        marker: &EndMarker,
        epoch: MarkerEpoch,
    ) -> Result<AppendedMarker, partition::AppendError> {
        self.partition
            .append_marker(marker, epoch, Some(self.epoch))
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
