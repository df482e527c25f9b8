//! Why the coordinator does not do what it is asked for, as Kafka's error codes.

use broker_core::transaction::TransactionError;
use broker_wire::ErrorCode;
use thiserror::Error;

/// A request that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("another broker coordinates the transactional id")]
    NotCoordinator,
    #[error("the transactional ids are being loaded")]
    Loading,
    #[error("the record could not be stored; retry")]
    NotStored,
    #[error("the metadata of the coordinator does not have the partition yet; retry")]
    UnknownPartition,
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl Refused {
    /// The code for clients of the newest version of an API.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::NotStored | Self::UnknownPartition => ErrorCode::CoordinatorNotAvailable,
            Self::Transaction(error) => match error {
                TransactionError::UnknownProducerId => ErrorCode::InvalidProducerIdMapping,
                TransactionError::Fenced => ErrorCode::ProducerFenced,
                TransactionError::Concurrent => ErrorCode::ConcurrentTransactions,
                TransactionError::InvalidState => ErrorCode::InvalidTxnState,
                TransactionError::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
                TransactionError::NotInTransaction => ErrorCode::TransactionAbortable,
                TransactionError::LimitExceeded => ErrorCode::CoordinatorNotAvailable,
            },
        }
    }
}
