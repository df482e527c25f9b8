//! Commands and responses as bytes: a oneof on its own is no protobuf message, so each travels in
//! an envelope.

use alloc::vec::Vec;

use prost::Message as _;

use super::command::Command;
use super::response::Response;

/// Bytes that are no command or response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeMessageError {
    /// The bytes are no protobuf message of this shape.
    #[error("controller message is malformed: {0}")]
    Malformed(prost::DecodeError),
    /// Empty, or a variant that a newer version has added.
    #[error("controller message is empty or of a kind this version does not know")]
    UnknownKind,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CommandEnvelope {
    #[prost(
        oneof = "Command",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20, 25, 30, 40, 41, 42, 110, 120, 140"
    )]
    command: Option<Command>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseEnvelope {
    #[prost(
        oneof = "Response",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 40, 140"
    )]
    response: Option<Response>,
}

impl Command {
    /// The command as one protobuf message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }

    /// Reads what [`Command::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed or of a kind that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeMessageError> {
        CommandEnvelope::decode(bytes)
            .map_err(DecodeMessageError::Malformed)?
            .command
            .ok_or(DecodeMessageError::UnknownKind)
    }
}

impl Response {
    /// The response as one protobuf message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.encode(&mut bytes);
        bytes
    }

    /// Reads what [`Response::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are malformed or of a kind that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeMessageError> {
        ResponseEnvelope::decode(bytes)
            .map_err(DecodeMessageError::Malformed)?
            .response
            .ok_or(DecodeMessageError::UnknownKind)
    }
}
