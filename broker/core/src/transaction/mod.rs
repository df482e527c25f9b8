//! The transaction coordinator (KIP-98, KIP-360, KIP-890): the transactional ids of one partition of
//! `__transaction_state`.
//!
//! [`Transactions`] decides and applies: a `decide_*` method turns a request into a record to store and
//! the answer to give once it is stored, and changes nothing; [`Transactions::apply`] is the only one
//! that changes what is known, live and while loading. Between the two the id is *pending*: the shell
//! calls [`Transactions::begin`] before it stores a record and [`Transactions::give_up`] if it can't,
//! and nothing else is decided for the id meanwhile.
//!
//! Whoever gets a transaction into [`State::PrepareCommit`] or [`State::PrepareAbort`] has the markers
//! written into all of its partitions, again and again until every one has it, and then stores what
//! [`Transactions::complete`] says.
//!
//! Invariants (tests in `properties.rs`): what was decided stays decided: a prepared commit is never
//! followed by an abort of the same epoch, and the other way round; an id's epoch never falls under one
//! producer id; two producers never share producer id and epoch.

mod end;
mod error;
mod expiry;
mod init;
mod partitions;
#[cfg(test)]
mod properties;
mod record;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

pub use end::{EndRequest, Ended, Protocol};
pub use error::TransactionError;
pub use expiry::RECORDS_MAX;
pub use init::{InitOutcome, InitRequest, Producer};
pub use record::{
    State, TransactionMetadata, TransactionRecord, TransactionTopicPartition, TransactionalId,
};

use crate::partition::{EndMarker, MarkerEpoch, TransactionOutcome};
use crate::{CoordinatorEpoch, Duration, ProducerEpoch, ProducerId};

/// Transactional ids in one partition; beyond it no further one is taken.
pub const TRANSACTIONAL_IDS_MAX: usize = 200_000;
/// Partitions in one transaction.
pub const PARTITIONS_MAX: usize = 100_000;
/// Bytes that the partitions of one transaction take in its record: half of what a batch may have by
/// default, so that whatever becomes of the transaction can be stored, too.
pub const PARTITIONS_BYTES_MAX: usize = 512 * 1024;
/// Memory for the ids and partitions of one partition of `__transaction_state`; beyond it nothing is
/// added.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Bytes of a transactional id.
pub const TRANSACTIONAL_ID_BYTES_MAX: usize = i16::MAX as usize;
/// Producer epochs from here on are not given to clients: they are left for fencing.
const EPOCH_EXHAUSTED: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// Settings of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `transaction.max.timeout.ms`.
    pub timeout_max: Duration,
    /// `transactional.id.expiration.ms`.
    pub id_expiration: Duration,
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// Nothing is to be stored.
    Answer(T),
    /// Answer once the record is stored.
    Store {
        record: TransactionRecord,
        answer: T,
    },
}

/// A prepared transaction, whose markers are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    pub id: TransactionalId,
    pub marker: EndMarker,
    pub marker_epoch: MarkerEpoch,
    pub partitions: Vec<TransactionTopicPartition>,
}

#[derive(Clone, Debug)]
struct Entry {
    metadata: TransactionMetadata,
    /// A record of the id is being stored.
    pending: bool,
}

/// All transactional ids of one partition, as its leader in one epoch knows them.
#[derive(Clone, Debug)]
pub struct Transactions {
    config: Config,
    epoch: CoordinatorEpoch,
    entries: BTreeMap<TransactionalId, Entry>,
    /// Ids whose first record is being stored.
    new: BTreeSet<TransactionalId>,
    /// Of the entries, and of the records that are being stored.
    memory_bytes: usize,
}

impl Transactions {
    #[must_use]
    pub const fn new(config: Config, epoch: CoordinatorEpoch) -> Self {
        Self {
            config,
            epoch,
            entries: BTreeMap::new(),
            new: BTreeSet::new(),
            memory_bytes: 0,
        }
    }

    /// Takes over a stored record: all of them, in order, while loading; afterwards each when it is
    /// stored, which ends that its id is pending.
    pub fn apply(&mut self, record: &TransactionRecord) {
        if !self.end_pending(&record.id) {
            self.memory_bytes += record.memory_bytes();
        }
        let previous = match &record.value {
            Some(metadata) => {
                let entry = Entry {
                    metadata: metadata.clone(),
                    pending: false,
                };
                self.entries.insert(record.id.clone(), entry)
            }
            None => self.entries.remove(&record.id),
        };
        if let Some(previous) = previous {
            self.memory_bytes -= previous.metadata.memory_bytes(&record.id);
        }
    }

    /// `record` is about to be stored.
    pub fn begin(&mut self, record: &TransactionRecord) {
        match self.entries.get_mut(&record.id) {
            Some(entry) => entry.pending = true,
            None => _ = self.new.insert(record.id.clone()),
        }
        self.memory_bytes += record.memory_bytes();
    }

    /// `record` was not stored, and never will be.
    pub fn give_up(&mut self, record: &TransactionRecord) {
        if self.end_pending(&record.id) {
            self.memory_bytes -= record.memory_bytes();
        }
    }

    /// Returns whether a record of the id was being stored.
    fn end_pending(&mut self, id: &str) -> bool {
        let entry = self.entries.get_mut(id);
        let was_pending = entry.is_some_and(|entry| core::mem::take(&mut entry.pending));
        self.new.remove(id) || was_pending
    }

    /// Whether there is room for a record beside what it replaces.
    fn has_room_for(&self, record: &TransactionRecord) -> bool {
        self.memory_bytes + record.memory_bytes() <= MEMORY_BYTES_MAX
    }

    /// Prepared transactions, to be asked for after loading.
    pub fn all_prepared(&self) -> impl Iterator<Item = Prepared> + '_ {
        self.entries.keys().filter_map(|id| self.prepared(id))
    }

    /// What is to be written for a transaction that was decided; `None` when it is not in that state.
    #[must_use]
    pub fn prepared(&self, id: &str) -> Option<Prepared> {
        let (id, entry) = self.entries.get_key_value(id)?;
        let metadata = &entry.metadata;
        let outcome = match metadata.state {
            State::PrepareCommit => TransactionOutcome::Commit,
            State::PrepareAbort => TransactionOutcome::Abort,
            _ => return None,
        };
        Some(Prepared {
            id: id.clone(),
            marker: EndMarker {
                producer_id: metadata.producer_id,
                producer_epoch: metadata.producer_epoch,
                coordinator_epoch: self.epoch,
                outcome,
            },
            marker_epoch: match metadata.client_version {
                2.. => MarkerEpoch::Raised,
                _ => MarkerEpoch::Any,
            },
            partitions: metadata.partitions.iter().cloned().collect(),
        })
    }

    /// What is known of an id.
    #[must_use]
    pub fn describe(&self, id: &str) -> Option<&TransactionMetadata> {
        self.entries.get(id).map(|entry| &entry.metadata)
    }

    /// All ids.
    pub fn list(&self) -> impl Iterator<Item = (&TransactionalId, &TransactionMetadata)> {
        self.entries.iter().map(|(id, entry)| (id, &entry.metadata))
    }

    /// The entry that a request of its producer may change now.
    fn owned(
        &self,
        id: &str,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<(&TransactionalId, &TransactionMetadata), TransactionError> {
        let (id, entry) = self
            .entries
            .get_key_value(id)
            .ok_or(TransactionError::UnknownProducerId)?;
        let metadata = &entry.metadata;
        if metadata.producer_id != producer_id {
            return Err(TransactionError::UnknownProducerId);
        }
        if metadata.producer_epoch != epoch {
            return Err(TransactionError::Fenced);
        }
        if entry.pending {
            return Err(TransactionError::Concurrent);
        }
        Ok((id, metadata))
    }
}
