//! Writes answers to a connection: bytes from memory, records by `sendfile`, or through a buffer of fixed
//! size where the connection has TLS.
//!
//! Small answers are collected until [`Sender::flush`]: those that become ready together, as when the
//! high watermark passes several batches, leave with one system call.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use broker_log::LogSlice;
use broker_wire::primitive::Segment;
use bytes::BytesMut;
use rustix::fs::sendfile;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::listener::Limits;
use super::metrics::NetMetrics;
use super::region::ensure_cached;
use super::stream::Stream;
use crate::api::Reply;

/// Handed to the socket at a time.
const SEND_BYTES_MAX: usize = 1024 * 1024;
/// Collected at most before it is sent.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Read at a time from files that are encrypted on their way, or have no descriptor.
const COPY_BYTES: usize = 64 * 1024;

pub(super) struct Sender<'a> {
    stream: &'a Stream,
    limits: &'a Limits,
    metrics: &'a NetMetrics,
    unsent: BytesMut,
}

impl<'a> Sender<'a> {
    pub(super) fn new(stream: &'a Stream, limits: &'a Limits, metrics: &'a NetMetrics) -> Self {
        Self {
            stream,
            limits,
            metrics,
            unsent: BytesMut::new(),
        }
    }

    /// Sends the whole frame, at the latest with the next [`Sender::flush`].
    ///
    /// # Errors
    /// What broke the connection, [`io::ErrorKind::TimedOut`] for a peer that does not read.
    pub(super) async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let len = reply.frame.wire_len();
        if reply.slices.is_empty() && len <= UNSENT_BYTES_MAX {
            if self.unsent.len() + len > UNSENT_BYTES_MAX {
                self.flush().await?;
            }
            self.unsent.extend_from_slice(&reply.frame.bytes);
            return Ok(());
        }
        self.flush().await?;
        let limit = self.limits.transfer_time_max(len);
        timeout(limit, self.send_segments(reply))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Sends what was collected.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        // Idle connections hold no buffer.
        let unsent = std::mem::take(&mut self.unsent);
        let limit = self.limits.transfer_time_max(unsent.len());
        let send = async {
            self.send_bytes(&unsent, SendFlags::empty()).await?;
            self.flush_stream().await
        };
        timeout(limit, send)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn send_segments(&self, reply: &Reply) -> io::Result<()> {
        let mut segments = reply.frame.segments().peekable();
        while let Some(segment) = segments.next() {
            match segment {
                Segment::Bytes(bytes) => {
                    let more = match segments.peek() {
                        Some(_) => SendFlags::MORE,
                        None => SendFlags::empty(),
                    };
                    self.send_bytes(&bytes, more).await?;
                }
                Segment::External(region) => {
                    let slice = reply.slices.get(region.token as usize);
                    let slice = slice.ok_or_else(|| io::Error::other("a region has no file"))?;
                    self.send_region(slice).await?;
                }
            }
        }
        self.flush_stream().await
    }

    async fn send_bytes(&self, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.progress(self.stream.write(bytes, flags)).await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    async fn flush_stream(&self) -> io::Result<()> {
        let flushed = async { self.stream.flush().await.map(|()| 0) };
        self.progress(flushed).await.map(drop)
    }

    async fn send_region(&self, slice: &LogSlice) -> io::Result<()> {
        ensure_cached(slice).await?;
        match (self.stream.plain(), slice.file.as_fd()) {
            (Some(socket), Some(file)) => self.send_file(socket, file, slice).await,
            _ => self.send_copied(slice).await,
        }
    }

    async fn send_file(
        &self,
        socket: &TcpStream,
        file: BorrowedFd<'_>,
        slice: &LogSlice,
    ) -> io::Result<()> {
        let mut position = slice.position;
        let end = slice.position + slice.len as u64;
        while position < end {
            let count = SEND_BYTES_MAX.min((end - position) as usize);
            let sent = socket.async_io(Interest::WRITABLE, || {
                let mut offset = position;
                Ok(sendfile(socket.as_fd(), file, Some(&mut offset), count)?)
            });
            match self.progress(sent).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                sent => position += sent as u64,
            }
        }
        Ok(())
    }

    async fn send_copied(&self, slice: &LogSlice) -> io::Result<()> {
        let mut buffer = vec![0; slice.len.min(COPY_BYTES)];
        let mut copied = 0;
        while copied < slice.len {
            let len = buffer.len().min(slice.len - copied);
            slice
                .file
                .read_exact_at(&mut buffer[..len], slice.position + copied as u64)?;
            self.send_bytes(&buffer[..len], SendFlags::empty()).await?;
            copied += len;
        }
        Ok(())
    }

    /// Waits for a step of sending, but not longer than a peer may stall.
    async fn progress(&self, step: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
        let sent = timeout(self.limits.stall, step)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        self.metrics.bytes_sent.add(sent);
        Ok(sent)
    }
}
