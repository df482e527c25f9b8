//! Encoding of openraft's own structs, in gRPC payloads and on disk: postcard.
//!
//! Invariant: decoding allocates no more than the input's length asks for and consumes all of it.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes are not an encoding of the type they were read as.
#[derive(Debug, thiserror::Error)]
#[error("malformed {type_name}: {reason}")]
pub(crate) struct DecodeError {
    pub(crate) type_name: &'static str,
    pub(crate) reason: postcard::Error,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    let encoded = postcard::to_stdvec(value);
    Bytes::from(encoded.expect("quorum types have known lengths and a growing vector takes them"))
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let malformed = |reason| DecodeError {
        type_name: short_type_name::<T>(),
        reason,
    };
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(malformed)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(malformed(postcard::Error::DeserializeBadEncoding))
    }
}

fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let head = name.split('<').next().unwrap_or(name);
    head.rsplit("::").next().unwrap_or(head)
}
