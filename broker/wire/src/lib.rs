//! The Kafka wire protocol: bytes ⇄ structs, and the record batch format v2.
//!
//! * [`record`]: record batches as they lie on the wire and in the log.
//!
//! Nothing here does IO or keeps time. Input from outside never panics, and never makes memory
//! grow beyond the bytes that were received or the limit that the caller names.

pub mod record;

mod varint;
