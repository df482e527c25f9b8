//! The Kafka wire protocol: bytes ⇄ structs, and the record batch format v2.
//!
//! * a [`frame`] is a length and that many bytes; it holds a [`header`] and a message;
//! * [`ApiKey`] is the table of the APIs that are served and their versions;
//! * [`message`] has the requests and responses, one file per API; [`Request`] is any of them;
//! * [`primitive`] is what messages are made of: a [`Decoder`] whose strings and bytes are slices
//!   of the frame, an [`Encoder`] that leaves room for records sent straight from a file;
//! * [`record`] has record batches as they lie on the wire and in the log.
//!
//! Nothing here does IO or keeps time. Input from outside never panics, and never makes memory
//! grow beyond a small multiple of the bytes that were received or the limit that the caller names.

pub mod api;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod message;
pub mod primitive;
pub mod record;

#[cfg(test)]
mod sampler;
pub mod varint;

pub use api::ApiKey;
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader, decode_response, encode_request, encode_response};
pub use message::{Message, Request, RequestMessage};
pub use primitive::{
    DecodeError, Decoder, Encoded, Encoder, External, Float64, Records, Str, Uuid,
};
