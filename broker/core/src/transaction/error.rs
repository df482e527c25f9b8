//! Why the coordinator refuses a request.

use thiserror::Error;

/// A request that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    #[error("the producer id is not the one of the transactional id")]
    UnknownProducerId,
    #[error("a newer producer uses the transactional id")]
    Fenced,
    #[error("the last request of the transactional id is still under way; retry")]
    Concurrent,
    #[error("the transaction is not in a state that allows it")]
    InvalidState,
    #[error("the transaction time-out is not between 1 ms and transaction.max.timeout.ms")]
    InvalidTimeout,
    #[error("the partition is not part of the transaction")]
    NotInTransaction,
    #[error("the coordinator has no room for more; retry later")]
    LimitExceeded,
}
