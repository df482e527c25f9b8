//! What goes wrong, and what to do about it. Every message is complete: there is nothing behind it to
//! be asked for.

use std::io;
use std::time::Duration;

use broker_wire::record::{BuildError, RecordError};
use broker_wire::{ApiKey, DecodeError, ErrorCode};
use thiserror::Error;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No broker of the bootstrap list, or of the metadata, takes a connection.
    #[error(
        "no broker answers at {addresses} ({cause}); check the address, and that a broker listens there"
    )]
    Unreachable {
        /// All that were tried.
        addresses: String,
        /// Of the last one.
        cause: io::Error,
    },
    /// A connection broke, or a broker took too long.
    #[error("connection to {address}: {cause}")]
    Connection {
        /// The broker's.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The broker is older or newer than this client.
    #[error("the broker at {address} does not serve {api} in version {version}")]
    Unsupported {
        /// The broker's.
        address: String,
        /// What was to be asked.
        api: ApiKey,
        /// In which version.
        version: i16,
    },
    /// What came is no answer to what was asked.
    #[error("the answer of {address} is malformed: {cause}")]
    Malformed {
        /// The broker's.
        address: String,
        /// Where it fails.
        cause: DecodeError,
    },
    /// The broker answered with an error.
    #[error("{what}: {code:?}{}", detail(.message.as_deref()))]
    Refused {
        /// What was to be done.
        what: String,
        /// Kafka's code for it.
        code: ErrorCode,
        /// What the broker adds.
        message: Option<String>,
    },
    /// No broker did it in time; it may have happened all the same.
    #[error("{what}: not done within {limit:?}; last error: {last}")]
    TimedOut {
        /// What was to be done.
        what: String,
        /// How long it was tried.
        limit: Duration,
        /// Why it was tried again.
        last: String,
    },
    /// The topic or partition does not exist.
    #[error("{0} does not exist")]
    Unknown(String),
    /// What is given makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A batch can't be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A batch can't be read.
    #[error("{place}: {cause}")]
    Record {
        /// Topic and partition.
        place: String,
        /// What is wrong with it.
        cause: RecordError,
    },
}

fn detail(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(" ({message})"))
}

impl ClientError {
    /// An answer with an error code.
    pub(crate) fn refused(what: impl Into<String>, code: ErrorCode, message: Option<&str>) -> Self {
        Self::Refused {
            what: what.into(),
            code,
            message: message.map(str::to_owned),
        }
    }

    /// Whether the same may succeed a moment later, with newer metadata.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => code.retriable(),
            _ => false,
        }
    }
}

/// `Ok` for no error.
pub(crate) fn check(
    what: impl Into<String>,
    code: ErrorCode,
    message: Option<&str>,
) -> Result<(), ClientError> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::refused(what, code, message)),
    }
}
