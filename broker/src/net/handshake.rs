//! From an accepted socket to a connection that speaks Kafka's protocol, through TLS where the listener
//! has it. Whoever does not get there within [`HANDSHAKE_TIMEOUT`] is disconnected, and the work of no
//! more than [`HANDSHAKES_MAX`] is done at a time; nobody who is accepted later waits for one that is
//! silent.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::listener::Server;
use super::stream::{Stream, TlsStream};
use crate::api::Peer;
use crate::tls::ListenerTls;

/// Handshakes that have begun, of all listeners; `max.connections` bounds those that have not.
pub(super) const HANDSHAKES_MAX: usize = 256;
/// From the connection to the end of its handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of every connection in TLS: a record with a handshake.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// Why there is no connection.
#[derive(Debug, Error)]
enum HandshakeError {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client speaks no TLS, and this listener does: set security.protocol=SSL there")]
    Plaintext,
    #[error("TLS handshake: {0}")]
    Failed(io::Error),
    #[error("no TLS handshake within {HANDSHAKE_TIMEOUT:?}")]
    TimedOut,
}

/// Shakes hands where the listener has TLS; `None` for a client that was refused.
pub(super) async fn accept(
    server: &Server,
    tcp: TcpStream,
    peer: &Peer,
    tls: Option<&ListenerTls>,
) -> Option<Stream> {
    let Some(tls) = tls else {
        return Some(Stream::Plain(tcp));
    };
    let shaken = timeout(server.limits.handshake, shake_hands(server, tcp, tls)).await;
    let error = match shaken {
        Ok(Ok(stream)) => {
            server.metrics.tls_handshakes.add(1);
            return Some(Stream::Tls(Box::new(stream)));
        }
        Ok(Err(error)) => error,
        Err(_) => HandshakeError::TimedOut,
    };
    match error {
        // A probe that only looks whether the port is open.
        HandshakeError::Closed => return None,
        HandshakeError::Plaintext => server.metrics.wrong_protocol.add(1),
        HandshakeError::Failed(_) | HandshakeError::TimedOut => {
            server.metrics.tls_handshakes_failed.add(1);
        }
    }
    if let Some(suppressed) = server.warnings.admit() {
        tracing::warn!(%peer.host, %peer.listener, reason = %error, suppressed, "connection closed");
    }
    None
}

async fn shake_hands(
    server: &Server,
    tcp: TcpStream,
    tls: &ListenerTls,
) -> Result<TlsStream, HandshakeError> {
    let mut first = [0];
    match tcp.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(HandshakeError::Closed),
        Ok(_) if first[0] != TLS_HANDSHAKE => return Err(HandshakeError::Plaintext),
        Ok(_) => {}
    }
    let _slot = server.handshakes.acquire().await;
    let shaken = TlsStream::accept(tcp, tls.current()).await;
    shaken.map_err(HandshakeError::Failed)
}
