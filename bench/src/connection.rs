//! One connection to a broker.

use anyhow::{Context as _, Result, ensure};
use broker_wire::message::RequestMessage;
use broker_wire::{Str, decode_response, encode_request};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLIENT_ID: Str = Str::from_static("klamm-bench");
const PREFIX_BYTES: usize = 4;
/// Read at a time, so that many answers, or a large one, take few system calls.
const READ_BYTES: usize = 1 << 20;
/// The same of a connection with one request at a time, of which there may be thousands.
const CALL_READ_BYTES: usize = 4096;
const RESPONSE_BYTES_MAX: usize = 128 << 20;

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    frames: Frames,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("can't connect to {address}"))?;
        stream.set_nodelay(true)?;
        let frames = Frames::of(CALL_READ_BYTES);
        Ok(Self { stream, frames })
    }

    /// Sends a request and waits for the answer.
    pub(crate) async fn call<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response> {
        let frame = encode_request(version, 0, Some(&CLIENT_ID), request);
        self.stream.write_all(&frame).await?;
        let frame = self.frames.next(&mut self.stream).await?;
        let (_, response) = decode_response::<R>(frame, version)?;
        Ok(response)
    }
}

/// The frame of a request, to be sent any number of times.
pub(crate) fn request_frame<R: RequestMessage>(version: i16, request: &R) -> Bytes {
    encode_request(version, 0, Some(&CLIENT_ID), request)
}

/// Cuts answers out of what is read.
pub(crate) struct Frames {
    buffer: BytesMut,
    read_bytes: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self::of(READ_BYTES)
    }
}

impl Frames {
    fn of(read_bytes: usize) -> Self {
        let buffer = BytesMut::new();
        Self { buffer, read_bytes }
    }

    /// The next frame, without its length.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes> {
        self.fill(stream, PREFIX_BYTES).await?;
        let len = usize::try_from(self.buffer.get_i32()).context("a frame of negative length")?;
        ensure!(len <= RESPONSE_BYTES_MAX, "an answer of {len} bytes");
        self.fill(stream, len).await?;
        Ok(self.buffer.split_to(len).freeze())
    }

    async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin), len: usize) -> Result<()> {
        while self.buffer.len() < len {
            let missing = len - self.buffer.len();
            self.buffer.reserve(missing.max(self.read_bytes));
            let read = stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the broker closed the connection");
        }
        Ok(())
    }
}
