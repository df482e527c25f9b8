//! AddPartitionsToTxn: from brokers and clients, and the question of partition leaders (KIP-890).

use alloc::vec::Vec;

use super::{
    Decision, PARTITIONS_BYTES_MAX, PARTITIONS_MAX, Producer, State, TransactionError,
    TransactionMetadata, TransactionRecord, TransactionTopicPartition, Transactions,
};
use crate::Timestamp;

impl Transactions {
    /// Makes partitions part of the producer's transaction, which begins with the first ones.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn decide_add(
        &self,
        now: Timestamp,
        id: &str,
        producer: Producer,
        partitions: Vec<TransactionTopicPartition>,
    ) -> Result<Decision<()>, TransactionError> {
        let (id, metadata) = self.owned(id, producer.id, producer.epoch)?;
        match metadata.state {
            State::PrepareCommit | State::PrepareAbort => return Err(TransactionError::Concurrent),
            State::Ongoing if partitions.iter().all(|p| metadata.partitions.contains(p)) => {
                return Ok(Decision::Answer(()));
            }
            State::Ongoing | State::Empty | State::CompleteCommit | State::CompleteAbort => {}
        }
        let mut added = match metadata.state {
            State::Ongoing => metadata.at(State::Ongoing, now),
            _ => TransactionMetadata {
                started_at: now,
                ..metadata.at(State::Ongoing, now)
            },
        };
        added.partitions.extend(partitions);
        let fits = added.partitions.len() <= PARTITIONS_MAX
            && added.partitions_bytes() <= PARTITIONS_BYTES_MAX;
        let record = TransactionRecord {
            id: id.clone(),
            value: Some(added),
        };
        if !fits || !self.has_room_for(&record) {
            return Err(TransactionError::LimitExceeded);
        }
        Ok(Decision::Store { record, answer: () })
    }

    /// Whether a record of this producer may be the first of the transaction in the partition.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn verify(
        &self,
        id: &str,
        producer: Producer,
        partition: &TransactionTopicPartition,
    ) -> Result<(), TransactionError> {
        let (_, metadata) = self.owned(id, producer.id, producer.epoch)?;
        match metadata.state {
            State::PrepareCommit | State::PrepareAbort => Err(TransactionError::Concurrent),
            State::Ongoing if metadata.partitions.contains(partition) => Ok(()),
            _ => Err(TransactionError::NotInTransaction),
        }
    }
}
