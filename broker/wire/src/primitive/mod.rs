//! The protocol's primitive types and how they are read and written.
//!
//! Every type has two forms on the wire: from an API's first flexible version on (KIP-482),
//! lengths are unsigned varints one larger than the length (0 is null) and structs end with
//! tagged fields; before that, lengths are `i16` for strings and `i32` for the rest (-1 is null).

mod decoder;
mod encoder;
mod float64;
mod records;
mod str;
mod uuid;
mod wire;

pub use decoder::{DecodeError, Decoder};
pub use encoder::{Encoded, Encoder, External, Segment};
pub use float64::Float64;
pub use records::Records;
pub use str::Str;
pub use uuid::Uuid;
pub(crate) use wire::{Version, Wire};
