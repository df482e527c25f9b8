//! Cuts a connection's bytes into frames.
//!
//! A frame beyond the first chunk gets a buffer of its own, which grows as bytes arrive: memory
//! follows what was sent, not what was announced, and the finished frame shares its buffer with
//! nothing else, so that records can be patched in place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use broker_wire::frame::{FrameError, frame_len};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use super::handshake::TLS_HANDSHAKE;
use super::listener::Limits;
use super::memory::{RequestMemory, Reservation};
use super::metrics::NetMetrics;
use super::stream::Stream;

const PREFIX_LEN: usize = 4;
/// Read at first: whole small requests. Not counted in the shared memory; `max.connections` bounds
/// it.
const CHUNK_BYTES: usize = 4096;
/// How much larger than what has arrived the buffer of a large frame may be: of a frame of 64 KiB no
/// more than the first chunk is copied.
const GROWTH: usize = 16;

/// A complete request and its share of the memory.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) reservation: Reservation,
}

/// Why no frame follows.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the client speaks TLS, and this listener does not: connect to one with TLS")]
    Tls,
    #[error("the client was silent for {0:?}")]
    Idle(Duration),
    #[error("the client was too slow with a request")]
    Stalled,
}

pub(super) struct FrameReader<'a> {
    stream: &'a Stream,
    limits: &'a Limits,
    memory: &'a Arc<RequestMemory>,
    metrics: &'a NetMetrics,
    /// Bytes that were read and belong to no frame yet.
    buffer: BytesMut,
    /// When the frame being read must be complete.
    frame_deadline: Instant,
}

impl<'a> FrameReader<'a> {
    pub(super) fn new(
        stream: &'a Stream,
        limits: &'a Limits,
        memory: &'a Arc<RequestMemory>,
        metrics: &'a NetMetrics,
    ) -> Self {
        Self {
            stream,
            limits,
            memory,
            metrics,
            buffer: BytesMut::new(),
            frame_deadline: Instant::now(),
        }
    }

    /// The next frame, without its length prefix.
    pub(super) async fn next(&mut self) -> Result<Frame, ReadError> {
        let len = self.prefix().await?;
        let mut reservation = self.memory.reservation();
        if self.buffer.len() >= len {
            let bytes = self.buffer.split_to(len).freeze();
            if self.buffer.is_empty() {
                // Idle connections hold no buffer.
                self.buffer = BytesMut::new();
            }
            return Ok(Frame { bytes, reservation });
        }
        self.frame_deadline = Instant::now() + self.limits.transfer_time_max(len);
        self.reserve_chunk();
        self.fill(len.min(CHUNK_BYTES)).await?;
        if len > CHUNK_BYTES {
            self.fill_large(len, &mut reservation).await?;
        }
        let bytes = std::mem::take(&mut self.buffer).freeze();
        Ok(Frame { bytes, reservation })
    }

    /// Reads the length of the next frame.
    async fn prefix(&mut self) -> Result<usize, ReadError> {
        while self.buffer.len() < PREFIX_LEN {
            let Limits { idle, stall, .. } = *self.limits;
            if self.buffer.is_empty() {
                self.readable(idle, ReadError::Idle(idle)).await?;
            } else {
                self.readable(stall, ReadError::Stalled).await?;
            }
            self.reserve_chunk();
            let room = self.buffer.capacity() - self.buffer.len();
            self.read(room)?;
        }
        let prefix = *self.buffer.first_chunk().expect("filled above");
        let len = match frame_len(prefix, self.limits.request_bytes_max) {
            Err(_) if is_client_hello(prefix) => return Err(ReadError::Tls),
            len => len?,
        };
        self.buffer.advance(PREFIX_LEN);
        Ok(len)
    }

    /// Makes room for a chunk without keeping the memory of earlier frames.
    fn reserve_chunk(&mut self) {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.max(self.buffer.len()));
        chunk.extend_from_slice(&self.buffer);
        self.buffer = chunk;
    }

    /// Reads the rest of a frame into a buffer that is at most [`GROWTH`] times as large as what has
    /// arrived.
    async fn fill_large(
        &mut self,
        len: usize,
        reservation: &mut Reservation,
    ) -> Result<(), ReadError> {
        let mut reserved = 0;
        while self.buffer.len() < len {
            let received = self.buffer.len();
            let capacity = len.min(received * GROWTH);
            let asked_at = Instant::now();
            reservation.grow((capacity - reserved) as u32).await;
            // Waiting for memory is not the client's fault.
            self.frame_deadline += asked_at.elapsed();
            reserved = capacity;
            self.buffer.reserve(capacity - received);
            self.fill(capacity).await?;
        }
        Ok(())
    }

    /// Reads until the buffer has `len` bytes, and not one more.
    async fn fill(&mut self, len: usize) -> Result<(), ReadError> {
        while self.buffer.len() < len {
            let left = self
                .frame_deadline
                .saturating_duration_since(Instant::now());
            self.readable(left.min(self.limits.stall), ReadError::Stalled)
                .await?;
            self.read(len - self.buffer.len())?;
        }
        Ok(())
    }

    /// Waits for bytes; after `limit`, `too_late` has come.
    async fn readable(&self, limit: Duration, too_late: ReadError) -> Result<(), ReadError> {
        timeout(limit, self.stream.readable())
            .await
            .map_err(|_| too_late)??;
        Ok(())
    }

    /// Reads what is there, at most `bytes_max` bytes.
    fn read(&mut self, bytes_max: usize) -> Result<(), ReadError> {
        match self
            .stream
            .try_read(&mut (&mut self.buffer).limit(bytes_max))
        {
            Ok(0) => Err(ReadError::Closed),
            Ok(read) => {
                self.metrics.bytes_received.add(read);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a client begins with TLS: the type of the record and its version, 3.1 to 3.3.
const fn is_client_hello(prefix: [u8; PREFIX_LEN]) -> bool {
    prefix[0] == TLS_HANDSHAKE && prefix[1] == 3
}
