//! One connection to a broker: one request at a time.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use broker_wire::message::{ApiVersionsRequest, RequestMessage};
use broker_wire::{ApiKey, Str, decode_response, encode_request};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{ClientError, check};
use crate::tls::Tls;

/// No answer is longer.
pub const RESPONSE_BYTES_MAX: usize = 128 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above every time-out that is sent along in a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);
const PREFIX_BYTES: usize = 4;
/// Room for what is read at a time.
const READ_BYTES: usize = 64 << 10;
const API_VERSIONS_VERSION: i16 = 0;

/// A connection in plaintext or in TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

pub(crate) struct Connection {
    address: String,
    stream: Box<dyn Stream>,
    client_id: Str,
    buffer: BytesMut,
    correlation_id: i32,
    /// Lowest and highest version by API key.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// With a handshake if there is `tls`.
    pub(crate) async fn open(
        address: &str,
        client_id: &Str,
        tls: Option<&Tls>,
    ) -> Result<Self, ClientError> {
        let stream = within(CONNECT_TIMEOUT, connect(address, tls)).await;
        let mut connection = Self {
            address: address.to_owned(),
            stream: stream.map_err(|cause| ClientError::Connection {
                address: address.to_owned(),
                cause,
            })?,
            client_id: client_id.clone(),
            buffer: BytesMut::new(),
            correlation_id: 0,
            versions: BTreeMap::new(),
        };
        let request = ApiVersionsRequest::default();
        let answer = connection.send(API_VERSIONS_VERSION, &request).await?;
        check("ApiVersions", answer.error_code, None)?;
        let ranges = answer.api_keys.iter();
        let ranges = ranges.map(|api| (api.api_key, (api.min_version, api.max_version)));
        connection.versions = ranges.collect();
        Ok(connection)
    }

    /// Sends a request and waits for the answer. After an error, or when the call is given up, the
    /// connection is of no more use.
    pub(crate) async fn call<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.check_served(R::API, version)?;
        self.send(version, request).await
    }

    fn check_served(&self, api: ApiKey, version: i16) -> Result<(), ClientError> {
        let served = self.versions.get(&(api as i16));
        if served.is_some_and(|(min, max)| (*min..=*max).contains(&version)) {
            return Ok(());
        }
        Err(ClientError::Unsupported {
            address: self.address.clone(),
            api,
            version,
        })
    }

    async fn send<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let id = self.correlation_id;
        let frame = encode_request(version, id, Some(&self.client_id), request);
        let answer = within(ANSWER_TIMEOUT, self.exchange(&frame)).await;
        let answer = answer.map_err(|cause| self.broken(cause))?;
        let decoded = decode_response::<R>(answer, version);
        let (header, response) = decoded.map_err(|cause| ClientError::Malformed {
            address: self.address.clone(),
            cause,
        })?;
        if header.correlation_id != id {
            let cause = io::Error::new(io::ErrorKind::InvalidData, "the answer to another request");
            return Err(self.broken(cause));
        }
        Ok(response)
    }

    /// Sends a request that is not answered.
    pub(crate) async fn send_only<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        self.check_served(R::API, version)?;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = encode_request(version, self.correlation_id, Some(&self.client_id), request);
        let written = within(ANSWER_TIMEOUT, self.write(&frame)).await;
        written.map_err(|cause| self.broken(cause))
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.write(frame).await?;
        self.fill(PREFIX_BYTES).await?;
        let len = usize::try_from(self.buffer.get_i32()).unwrap_or(usize::MAX);
        if len > RESPONSE_BYTES_MAX {
            let error = format!("an answer of more than {RESPONSE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.fill(len).await?;
        Ok(self.buffer.split_to(len).freeze())
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await?;
        // TLS keeps what the socket did not take.
        self.stream.flush().await
    }

    async fn fill(&mut self, len: usize) -> io::Result<()> {
        while self.buffer.len() < len {
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                let error = "the broker closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        }
        Ok(())
    }

    fn broken(&self, cause: io::Error) -> ClientError {
        ClientError::Connection {
            address: self.address.clone(),
            cause,
        }
    }
}

async fn connect(address: &str, tls: Option<&Tls>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.connect(address, stream).await?),
    })
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(limit, work).await;
    done.unwrap_or_else(|_| {
        let error = format!("nothing within {limit:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, error))
    })
}
