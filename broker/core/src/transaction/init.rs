//! InitProducerId with a transactional id: an epoch that fences every earlier producer, after the end of
//! what such a one has left.

use super::{
    Decision, EPOCH_EXHAUSTED, Entry, MEMORY_BYTES_MAX, State, TRANSACTIONAL_IDS_MAX,
    TransactionError, TransactionMetadata, TransactionRecord, TransactionalId, Transactions,
};
use crate::{Duration, ProducerEpoch, ProducerId, Timestamp};

/// Asks for an epoch.
#[derive(Clone, Debug)]
pub struct InitRequest {
    pub id: TransactionalId,
    /// How long a transaction of this producer may last.
    pub timeout: Duration,
    /// What a producer that goes on after an error has (KIP-360).
    pub expected: Option<Producer>,
}

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// What a request for an epoch comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitOutcome {
    Decided(Decision<Producer>),
    /// Ask once more with a producer id that nobody has had.
    NeedsProducerId,
    /// An ongoing transaction is to be aborted first: store this and have the client come again.
    Abort(TransactionRecord),
}

impl Transactions {
    /// `fresh` is an unused producer id, if one was asked for.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn decide_init(
        &self,
        now: Timestamp,
        request: &InitRequest,
        fresh: Option<ProducerId>,
    ) -> Result<InitOutcome, TransactionError> {
        if request.timeout == Duration::ZERO || request.timeout > self.config.timeout_max {
            return Err(TransactionError::InvalidTimeout);
        }
        if self.new.contains(&request.id) {
            return Err(TransactionError::Concurrent);
        }
        let Some(entry) = self.entries.get(&request.id) else {
            return self.decide_first(now, request, fresh);
        };
        if entry.pending {
            return Err(TransactionError::Concurrent);
        }
        let metadata = &entry.metadata;
        if request
            .expected
            .is_some_and(|expected| !metadata.knows(expected))
        {
            return Err(TransactionError::Fenced);
        }
        match metadata.state {
            State::PrepareCommit | State::PrepareAbort => Err(TransactionError::Concurrent),
            State::Ongoing => Ok(InitOutcome::Abort(self.fencing_abort(
                &request.id,
                entry,
                now,
            ))),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                bump(metadata, now, request, fresh)
            }
        }
    }

    fn decide_first(
        &self,
        now: Timestamp,
        request: &InitRequest,
        fresh: Option<ProducerId>,
    ) -> Result<InitOutcome, TransactionError> {
        if self.entries.len() + self.new.len() >= TRANSACTIONAL_IDS_MAX {
            return Err(TransactionError::LimitExceeded);
        }
        let Some(producer_id) = fresh else {
            return Ok(InitOutcome::NeedsProducerId);
        };
        let metadata = TransactionMetadata {
            producer_id,
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(0),
            last_producer_epoch: ProducerEpoch::NONE,
            timeout: request.timeout,
            state: State::Empty,
            partitions: Default::default(),
            updated_at: now,
            started_at: Timestamp(-1),
            client_version: 0,
        };
        if MEMORY_BYTES_MAX < self.memory_bytes + metadata.memory_bytes(&request.id) {
            return Err(TransactionError::LimitExceeded);
        }
        Ok(store(request, metadata))
    }

    /// Aborts what an earlier producer has begun; with the epoch raised, it can add no more to it.
    pub(super) fn fencing_abort(
        &self,
        id: &TransactionalId,
        entry: &Entry,
        now: Timestamp,
    ) -> TransactionRecord {
        let metadata = &entry.metadata;
        let raised = metadata.producer_epoch.0.saturating_add(1);
        TransactionRecord {
            id: id.clone(),
            value: Some(TransactionMetadata {
                producer_epoch: ProducerEpoch(raised),
                last_producer_epoch: ProducerEpoch::NONE,
                ..metadata.at(State::PrepareAbort, now)
            }),
        }
    }
}

impl TransactionMetadata {
    /// Whether a producer that says what it has is the present one, or was until a bump whose answer it
    /// may have missed.
    fn knows(&self, expected: Producer) -> bool {
        let repeats =
            expected.epoch == self.last_producer_epoch && expected.epoch != ProducerEpoch::NONE;
        if expected.id == self.producer_id {
            return expected.epoch == self.producer_epoch || repeats;
        }
        expected.id == self.previous_producer_id
            && repeats
            && self.producer_epoch == ProducerEpoch(0)
    }
}

fn bump(
    metadata: &TransactionMetadata,
    now: Timestamp,
    request: &InitRequest,
    fresh: Option<ProducerId>,
) -> Result<InitOutcome, TransactionError> {
    let present = Producer {
        id: metadata.producer_id,
        epoch: metadata.producer_epoch,
    };
    if request.expected.is_some_and(|expected| expected != present) {
        // It missed the answer to the request that bumped the epoch, or the id.
        return Ok(InitOutcome::Decided(Decision::Answer(present)));
    }
    let last_producer_epoch = request
        .expected
        .map_or(ProducerEpoch::NONE, |expected| expected.epoch);
    let emptied = TransactionMetadata {
        timeout: request.timeout,
        partitions: Default::default(),
        started_at: Timestamp(-1),
        last_producer_epoch,
        next_producer_id: ProducerId::NONE,
        ..metadata.at(State::Empty, now)
    };
    if metadata.producer_epoch.0.saturating_add(1) >= EPOCH_EXHAUSTED.0 {
        let Some(producer_id) = fresh else {
            return Ok(InitOutcome::NeedsProducerId);
        };
        return Ok(store(
            request,
            TransactionMetadata {
                previous_producer_id: metadata.producer_id,
                producer_id,
                producer_epoch: ProducerEpoch(0),
                ..emptied
            },
        ));
    }
    Ok(store(
        request,
        TransactionMetadata {
            producer_epoch: ProducerEpoch(metadata.producer_epoch.0 + 1),
            ..emptied
        },
    ))
}

fn store(request: &InitRequest, metadata: TransactionMetadata) -> InitOutcome {
    let answer = Producer {
        id: metadata.producer_id,
        epoch: metadata.producer_epoch,
    };
    InitOutcome::Decided(Decision::Store {
        record: TransactionRecord {
            id: request.id.clone(),
            value: Some(metadata),
        },
        answer,
    })
}
