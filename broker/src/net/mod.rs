//! Clients' connections: frames in, frames and file regions out, within bounds.
//!
//! ```text
//! listener ──► connection ── frame_reader ──► api::Call ──► answers in order ── sender ──►
//!   │ handshake (TLS)            │ memory (all connections)                        │ sendfile
//! ```
//!
//! Bounds: `max.connections` connections; frames of at most `socket.request.max.bytes`; requests
//! of all connections in `klamm.memory.requests.max.bytes`, beyond which sockets are not read; a
//! fixed number of requests in flight on each connection; a number of TLS handshakes at a time; time-outs
//! for peers that stall.

mod connection;
mod frame_reader;
mod handshake;
mod listener;
mod memory;
mod metrics;
mod region;
mod reserved;
mod sender;
mod stream;
#[cfg(test)]
mod tests;

pub use listener::Server;
pub use metrics::NetMetrics;
pub use reserved::ReservedAddress;
