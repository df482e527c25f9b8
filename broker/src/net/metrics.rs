//! Counters of client traffic, for the metrics endpoint.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Traffic of all listeners since the start.
#[derive(Debug, Default)]
pub struct NetMetrics {
    pub connections_opened: Counter,
    pub connections_closed: Counter,
    /// Closed at once because of `max.connections`.
    pub connections_refused: Counter,
    /// Closed because of the quota of their address.
    pub connections_throttled: Counter,
    pub requests: Counter,
    /// Requests after which a connection was not listened to, because of a quota.
    pub throttled_requests: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    /// Connections closed because of a frame or request that is no Kafka protocol.
    pub malformed_requests: Counter,
    /// Connections closed because of an API or version that is not served.
    pub unsupported_requests: Counter,
    /// Connections closed because the peer was idle or stalled.
    pub timed_out: Counter,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: Counter,
    /// Connections closed because their TLS handshake failed or was not done in time.
    pub tls_handshakes_failed: Counter,
    /// Connections closed because the client spoke TLS to a plaintext listener, or the other way round.
    pub wrong_protocol: Counter,
    /// Connections that broke.
    pub io_errors: Counter,
}

impl NetMetrics {
    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections_opened
            .get()
            .saturating_sub(self.connections_closed.get())
    }
}
