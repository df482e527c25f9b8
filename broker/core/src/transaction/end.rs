//! EndTxn: the decision, and its completion once the markers are written.

use super::{
    Decision, EPOCH_EXHAUSTED, Producer, State, TransactionError, TransactionMetadata,
    TransactionRecord, TransactionalId, Transactions,
};
use crate::partition::TransactionOutcome;
use crate::{ProducerEpoch, ProducerId, Timestamp};

/// Which rules the client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The epoch stays, whatever the transactions.
    V1,
    /// Every end of a transaction bumps the epoch (KIP-890): what comes late belongs to none.
    V2,
}

/// Asks for the end of a transaction.
#[derive(Clone, Debug)]
pub struct EndRequest {
    pub id: TransactionalId,
    pub producer: Producer,
    pub outcome: TransactionOutcome,
    pub protocol: Protocol,
}

/// What a request for the end comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Answered with what the producer goes on with.
    Decided(Decision<Producer>),
    /// Ask once more with a producer id that nobody has had.
    NeedsProducerId,
}

impl Transactions {
    /// `fresh` is an unused producer id, if one was asked for.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn decide_end(
        &self,
        now: Timestamp,
        request: &EndRequest,
        fresh: Option<ProducerId>,
    ) -> Result<Ended, TransactionError> {
        let (id, entry) = self
            .entries
            .get_key_value(&request.id)
            .ok_or(TransactionError::UnknownProducerId)?;
        let metadata = &entry.metadata;
        let repeated =
            request.protocol == Protocol::V2 && metadata.was_bumped_from(request.producer);
        if metadata.producer_id != request.producer.id && !repeated {
            return Err(TransactionError::UnknownProducerId);
        }
        if metadata.producer_epoch != request.producer.epoch && !repeated {
            return Err(TransactionError::Fenced);
        }
        if entry.pending {
            return Err(TransactionError::Concurrent);
        }
        let outcome = request.outcome;
        match (metadata.state, request.protocol) {
            // It belongs to the transaction before.
            (State::Ongoing, _) if repeated => Err(TransactionError::Fenced),
            (State::Ongoing, _) => prepare(id, metadata, now, request, fresh),
            // A client that has heard of the decision may end the next transaction at once.
            (State::PrepareCommit | State::PrepareAbort, _) => Err(TransactionError::Concurrent),
            (State::CompleteCommit | State::CompleteAbort, Protocol::V1)
                if metadata.state == complete_state(outcome) =>
            {
                Ok(Ended::Decided(Decision::Answer(request.producer)))
            }
            (State::CompleteCommit | State::CompleteAbort, Protocol::V2) if repeated => {
                if metadata.state != complete_state(outcome) {
                    return Err(TransactionError::InvalidState);
                }
                Ok(Ended::Decided(Decision::Answer(metadata.producer())))
            }
            // A client that does not know whether its records were let in aborts all the same.
            (State::Empty | State::CompleteCommit | State::CompleteAbort, Protocol::V2)
                if outcome == TransactionOutcome::Abort =>
            {
                prepare(id, metadata, now, request, fresh)
            }
            _ => Err(TransactionError::InvalidState),
        }
    }

    /// The record that ends a prepared transaction all of whose markers are written; `None` when it is
    /// not in that state any more, or such a record is being stored.
    #[must_use]
    pub fn complete(&self, now: Timestamp, id: &str) -> Option<TransactionRecord> {
        let (id, entry) = self.entries.get_key_value(id)?;
        if entry.pending {
            return None;
        }
        let metadata = &entry.metadata;
        let state = match metadata.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            _ => return None,
        };
        let mut completed = metadata.at(state, now);
        completed.partitions.clear();
        completed.started_at = Timestamp(-1);
        if metadata.next_producer_id != ProducerId::NONE {
            completed.previous_producer_id = metadata.producer_id;
            completed.producer_id = metadata.next_producer_id;
            completed.next_producer_id = ProducerId::NONE;
            completed.producer_epoch = ProducerEpoch(0);
        }
        Some(TransactionRecord {
            id: id.clone(),
            value: Some(completed),
        })
    }
}

impl TransactionMetadata {
    pub(super) const fn producer(&self) -> Producer {
        Producer {
            id: self.producer_id,
            epoch: self.producer_epoch,
        }
    }

    /// Whether the end of a transaction gave `producer`, who may not have heard of it, the present
    /// epoch or id.
    fn was_bumped_from(&self, producer: Producer) -> bool {
        let known =
            |id: ProducerId| id == producer.id && self.last_producer_epoch == producer.epoch;
        let rotated = self.producer_epoch == ProducerEpoch(0) && known(self.previous_producer_id);
        let bumped =
            self.producer_epoch.0 == producer.epoch.0.saturating_add(1) && known(self.producer_id);
        self.client_version >= 2
            && self.state != State::Empty
            && producer.epoch != ProducerEpoch::NONE
            && (bumped || rotated)
    }
}

fn prepare(
    id: &TransactionalId,
    metadata: &TransactionMetadata,
    now: Timestamp,
    request: &EndRequest,
    fresh: Option<ProducerId>,
) -> Result<Ended, TransactionError> {
    let mut prepared = metadata.at(prepared_state(request.outcome), now);
    if metadata.state != State::Ongoing {
        prepared.started_at = now;
    }
    prepared.client_version = 1;
    if request.protocol == Protocol::V2 {
        prepared.client_version = 2;
        prepared.last_producer_epoch = metadata.producer_epoch;
        prepared.producer_epoch = ProducerEpoch(metadata.producer_epoch.0.saturating_add(1));
        if prepared.producer_epoch >= EPOCH_EXHAUSTED {
            let Some(fresh) = fresh else {
                return Ok(Ended::NeedsProducerId);
            };
            prepared.next_producer_id = fresh;
        }
    }
    let answer = match prepared.next_producer_id {
        ProducerId::NONE => prepared.producer(),
        next => Producer {
            id: next,
            epoch: ProducerEpoch(0),
        },
    };
    Ok(Ended::Decided(Decision::Store {
        record: TransactionRecord {
            id: id.clone(),
            value: Some(prepared),
        },
        answer,
    }))
}

const fn prepared_state(outcome: TransactionOutcome) -> State {
    match outcome {
        TransactionOutcome::Commit => State::PrepareCommit,
        TransactionOutcome::Abort => State::PrepareAbort,
    }
}

const fn complete_state(outcome: TransactionOutcome) -> State {
    match outcome {
        TransactionOutcome::Commit => State::CompleteCommit,
        TransactionOutcome::Abort => State::CompleteAbort,
    }
}
