//! Accepts connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::handshake::{self, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use super::memory::RequestMemory;
use super::metrics::NetMetrics;
use crate::api::{Context, Peer};
use crate::config::BrokerConfig;
use crate::tls::ListenerTls;
use crate::warnings::Warnings;

/// A peer in the middle of a request or a response must move within this time.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Slower than this, whole requests and responses are given up.
const TRANSFER_BYTES_PER_SECOND_MIN: usize = 16 * 1024;
/// Pause after a failure to accept, such as having no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection beyond the quota of its address is closed after this time at the latest, not at once: a
/// client that connects again immediately would cost more.
const REFUSAL_DELAY_MAX: Duration = Duration::from_secs(1);

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `socket.request.max.bytes`
    pub(super) request_bytes_max: usize,
    /// `connections.max.idle.ms`
    pub(super) idle: Duration,
    /// The longest pause within a request or response.
    pub(super) stall: Duration,
    /// The longest TLS handshake.
    pub(super) handshake: Duration,
}

/// What the connections of all listeners share.
pub struct Server {
    pub(super) context: Arc<Context>,
    pub(super) metrics: Arc<NetMetrics>,
    pub(super) limits: Limits,
    pub(super) memory: Arc<RequestMemory>,
    pub(super) warnings: Warnings,
    pub(super) handshakes: Semaphore,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Serves requests from `context` within the limits of its configuration.
    #[must_use]
    pub fn new(context: Arc<Context>, metrics: Arc<NetMetrics>) -> Self {
        let limits = Limits::new(&context.config);
        let budget = context.config.size("klamm.memory.requests.max.bytes");
        let connections = context
            .config
            .size("max.connections")
            .min(Semaphore::MAX_PERMITS);
        Self {
            memory: RequestMemory::new(budget, limits.request_bytes_max),
            connections: Arc::new(Semaphore::new(connections)),
            warnings: Warnings::default(),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
            context,
            metrics,
            limits,
        }
    }

    /// Accepts connections of the listener called `name`, in TLS if there is any, until `stopped`.
    /// Connections then finish the requests they have read.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        name: Arc<str>,
        tls: Option<Arc<ListenerTls>>,
        stopped: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                () = stopped.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let peer = Peer {
                        host: address.ip().to_canonical().to_string().into(),
                        listener: name.clone(),
                    };
                    self.admit(stream, peer, tls.clone(), stopped.clone());
                }
                Err(error) => {
                    if let Some(suppressed) = self.warnings.admit() {
                        tracing::warn!(%error, suppressed, "a connection was not accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        tls: Option<Arc<ListenerTls>>,
        stopped: CancellationToken,
    ) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.metrics.connections_refused.add(1);
            if let Some(suppressed) = self.warnings.admit() {
                tracing::warn!(%peer.host, suppressed, "max.connections is reached");
            }
            return;
        };
        let image = self.context.image();
        let quotas = &self.context.client_quotas;
        if let Err(wait) = quotas.admit_connection(&image.client_quotas, &peer.host) {
            self.metrics.connections_throttled.add(1);
            tokio::spawn(async move {
                tokio::select! {
                    () = sleep(wait.min(REFUSAL_DELAY_MAX)) => {}
                    () = stopped.cancelled() => {}
                }
                drop((stream, permit));
            });
            return;
        }
        if let Err(error) = configure(&stream) {
            tracing::debug!(%error, %peer.host, "the connection broke at once");
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            server.metrics.connections_opened.add(1);
            let accepted = tokio::select! {
                accepted = handshake::accept(&server, stream, &peer, tls.as_deref()) => accepted,
                () = stopped.cancelled() => None,
            };
            if let Some(stream) = accepted {
                connection::serve(&server, &stream, &peer, &stopped).await;
            }
            server.metrics.connections_closed.add(1);
            drop(permit);
        });
    }
}

impl Limits {
    fn new(config: &BrokerConfig) -> Self {
        let idle = config.millis("connections.max.idle.ms");
        Self {
            request_bytes_max: config.size("socket.request.max.bytes"),
            idle,
            stall: STALL_MAX.min(idle),
            handshake: HANDSHAKE_TIMEOUT.min(idle),
        }
    }

    /// How long `bytes` may take from or to a client.
    pub(super) fn transfer_time_max(&self, bytes: usize) -> Duration {
        self.stall + Duration::from_secs((bytes / TRANSFER_BYTES_PER_SECOND_MIN) as u64)
    }
}

/// Answers leave at once, and peers that vanished are noticed.
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    Ok(rustix::net::sockopt::set_socket_keepalive(stream, true)?)
}
