//! What `__transaction_state` holds of a transactional id.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use crate::{Duration, PartitionIndex, ProducerEpoch, ProducerId, Timestamp};

/// A `transactional.id`, shared by everything that refers to it.
pub type TransactionalId = Arc<str>;

/// A partition by the name of its topic.
pub type TransactionTopicPartition = (Arc<str>, PartitionIndex);

/// Where a transaction stands. The values are those of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum State {
    /// No transaction since the producer's epoch began.
    Empty = 0,
    Ongoing = 1,
    /// Committed; markers are being written.
    PrepareCommit = 2,
    /// Aborted; markers are being written.
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl State {
    /// All of them.
    const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// The state with this value in the records.
    #[must_use]
    pub fn from_value(value: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i8 == value)
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it is decided how the transaction ends, and markers are being written.
    #[must_use]
    pub const fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether no transaction is under way.
    #[must_use]
    pub const fn is_idle(self) -> bool {
        matches!(
            self,
            Self::Empty | Self::CompleteCommit | Self::CompleteAbort
        )
    }

    /// Name in Kafka's answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// Memory for an id without its text and partitions.
const ID_OVERHEAD_BYTES: usize = 256;
/// Bytes in a record for a topic without its name and partitions: two lengths and no tagged fields.
const TOPIC_OVERHEAD_BYTES: usize = 11;
/// Memory for a partition without the name of its topic.
const PARTITION_OVERHEAD_BYTES: usize = 64;

/// One record of `__transaction_state`; no value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    pub id: TransactionalId,
    pub value: Option<TransactionMetadata>,
}

impl TransactionRecord {
    /// Memory that it takes once it is applied.
    pub(super) fn memory_bytes(&self) -> usize {
        let value = self.value.as_ref();
        value.map_or(0, |metadata| metadata.memory_bytes(&self.id))
    }
}

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMetadata {
    pub producer_id: ProducerId,
    /// Before the last change of the id, [`ProducerId::NONE`] if it never did.
    pub previous_producer_id: ProducerId,
    /// Taken over when the transaction is complete, because the epochs of the present one are used up.
    pub next_producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// The epoch from which the present one was bumped at the producer's own request, so that the
    /// request may be repeated; else [`ProducerEpoch::NONE`].
    pub last_producer_epoch: ProducerEpoch,
    pub timeout: Duration,
    pub state: State,
    pub partitions: BTreeSet<TransactionTopicPartition>,
    pub updated_at: Timestamp,
    /// Of the ongoing transaction, -1 without one.
    pub started_at: Timestamp,
    /// Level of `transaction.version` that the client works by, as far as its last request tells.
    pub client_version: i16,
}

impl TransactionMetadata {
    /// A change to `state` at `now`.
    pub(super) fn at(&self, state: State, now: Timestamp) -> Self {
        Self {
            state,
            updated_at: now,
            ..self.clone()
        }
    }

    /// At most what it takes in memory, as if no topic's name were shared.
    pub(super) fn memory_bytes(&self, id: &str) -> usize {
        let partitions = self.partitions.iter();
        let partitions = partitions.map(|(topic, _)| PARTITION_OVERHEAD_BYTES + topic.len());
        ID_OVERHEAD_BYTES + id.len() + partitions.sum::<usize>()
    }

    /// At most what the partitions take in a record, where they are grouped by topic.
    pub(super) fn partitions_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut last: Option<&str> = None;
        for (topic, _) in &self.partitions {
            if last != Some(&**topic) {
                bytes += topic.len() + TOPIC_OVERHEAD_BYTES;
                last = Some(topic);
            }
            bytes += size_of::<i32>();
        }
        bytes
    }
}
