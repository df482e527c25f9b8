//! gRPC between brokers and from the operator: the credentials of both ends, connections, and the limits
//! on both ends.
//!
//! Invariant: the token is never logged and never part of an error.

mod incoming;
mod tls;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

pub use incoming::{RpcStream, incoming};
use tls::Connector;
pub use tls::RpcTls;

/// Largest gRPC message that is accepted or sent, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Concurrent calls on one connection.
pub const CONNECTION_STREAMS_MAX: u32 = 256;
/// A peer that answers no HTTP/2 ping for this long is disconnected: a machine that is gone is
/// noticed about as fast as a new controller is elected.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1000);
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 4096;
const AUTHORIZATION: &str = "authorization";

/// A connection that carries the token with each call.
pub type Connection = InterceptedService<Channel, Token>;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token file {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the token must have {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} visible ASCII characters")]
    Malformed,
}

/// Why no connection can be made to an address.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is not a host:port address")]
pub struct AddressError {
    pub address: String,
}

/// What a broker shows to others, and asks of them: the cluster's token and, with mutual TLS, its
/// certificate.
#[derive(Clone)]
pub struct Credentials {
    token: Token,
    tls: Option<Arc<RpcTls>>,
}

impl Credentials {
    /// Without `tls`, in plaintext.
    #[must_use]
    pub const fn new(token: Token, tls: Option<Arc<RpcTls>>) -> Self {
        Self { token, tls }
    }

    /// The interceptor for servers: refuses every call without the token.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.token.guard()
    }

    /// `None`: plaintext.
    #[must_use]
    pub const fn tls(&self) -> Option<&Arc<RpcTls>> {
        self.tls.as_ref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_tls = self.tls.is_some();
        f.debug_struct("Credentials")
            .field("tls", &with_tls)
            .finish_non_exhaustive()
    }
}

impl From<Token> for Credentials {
    fn from(token: Token) -> Self {
        Self::new(token, None)
    }
}

/// The bearer token of the cluster. As an [`Interceptor`] it attaches itself to outgoing calls;
/// [`Token::guard`] checks incoming ones.
#[derive(Clone)]
pub struct Token {
    header: MetadataValue<Ascii>,
}

impl Token {
    /// Takes the token from `text`, surrounding white space removed.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let length_ok = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len());
        if !length_ok || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Malformed);
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {text}")
            .parse()
            .map_err(|_| TokenError::Malformed)?;
        header.set_sensitive(true);
        Ok(Self { header })
    }

    /// Reads the token from a file.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::new(&text)
    }

    /// The interceptor for servers: refuses every call without this token.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard {
            token: self.clone(),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert(AUTHORIZATION, self.header.clone());
        Ok(request)
    }
}

/// Lets calls with the right token through.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Token,
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request
            .metadata()
            .get(AUTHORIZATION)
            .map(|value| value.as_bytes());
        let right = self.token.header.as_bytes();
        if bool::from(given.unwrap_or_default().ct_eq(right)) {
            Ok(request)
        } else {
            Err(Status::unauthenticated(
                "the call needs the cluster's bearer token",
            ))
        }
    }
}

/// A connection to `address` (`host:port`) that is dialled at the first call and again after each
/// failure; the host name is resolved at every dial. Needs a Tokio runtime around it.
pub fn connect(address: &str, credentials: &Credentials) -> Result<Connection, AddressError> {
    let endpoint = endpoint(address)?;
    let channel = match &credentials.tls {
        None => endpoint.connect_lazy(),
        Some(tls) => endpoint.connect_with_connector_lazy(Connector(Arc::clone(tls))),
    };
    Ok(InterceptedService::new(channel, credentials.token.clone()))
}

fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let malformed = || AddressError {
        address: address.to_owned(),
    };
    address.rsplit_once(':').ok_or_else(malformed)?;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A server with this module's limits; add services and serve [`incoming`] connections.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const TEXT: &str = "0123456789abcdef";

    fn call(guard: &Guard, header: Option<&str>) -> Result<Request<()>, Status> {
        let mut request = Request::new(());
        if let Some(header) = header {
            let value = header.parse().expect("ascii");
            request.metadata_mut().insert(AUTHORIZATION, value);
        }
        guard.clone().call(request)
    }

    #[test]
    fn guard_lets_only_the_right_token_through() {
        let mut token = Token::new(TEXT).unwrap();
        let guard = token.guard();
        let attached = token.call(Request::new(())).unwrap();
        assert!(guard.clone().call(attached).is_ok());
        for refused in [
            None,
            Some(TEXT),
            Some("Bearer "),
            Some("Bearer 0123456789abcdeX"),
            Some("Bearer 0123456789abcdef0"),
        ] {
            let status = call(&guard, refused).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{refused:?}");
        }
    }

    #[test]
    fn token_text_is_checked_and_never_shown() {
        assert!(Token::new("short").is_err());
        assert!(Token::new("0123456789 abcdef").is_err());
        assert!(Token::new(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_err());
        let token = Token::new(&format!("{TEXT}\n")).unwrap();
        assert!(!format!("{token:?} {:?}", token.guard()).contains(TEXT));
    }

    #[tokio::test]
    async fn answers_to_brokers_do_not_wait_for_delayed_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let credentials = Token::new(TEXT).unwrap().into();
        let mut incoming = pin!(incoming(listener, &credentials));
        let accepted = incoming.next().await.unwrap().unwrap();
        assert!(matches!(accepted, RpcStream::Plain(tcp) if tcp.nodelay().unwrap()));
    }

    #[test]
    fn address_without_port_is_refused() {
        assert!(endpoint("broker-0").is_err());
        assert!(endpoint("broker 0:9091").is_err());
        assert!(endpoint("broker-0.klamm.svc:9091").is_ok());
    }
}
