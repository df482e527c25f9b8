//! One client's connection, in plaintext or in TLS, for a reader and a writer in one task.
//!
//! TLS is a state machine between socket and task, without buffers of its own: what is written is
//! encrypted up to [`ENCRYPTED_BYTES_MAX`] ahead of the socket, and nothing is read from the socket
//! while decrypted bytes wait.

use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use bytes::BufMut;
use parking_lot::Mutex;
use rustix::net::{SendFlags, send};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Encrypted bytes that wait for the socket, in each direction of a connection.
const ENCRYPTED_BYTES_MAX: usize = 64 * 1024;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Waits until [`Stream::try_read`] may have something.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.readable().await,
            Self::Tls(tls) => tls.readable().await,
        }
    }

    /// Reads what is there; 0 at the end, [`io::ErrorKind::WouldBlock`] when nothing is.
    pub(super) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read_buf(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes some of `bytes`. Through TLS they may wait until [`Stream::flush`].
    pub(super) async fn write(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => {
                let flags = flags | SendFlags::NOSIGNAL;
                let send = || Ok(send(tcp.as_fd(), bytes, flags)?);
                tcp.async_io(Interest::WRITABLE, send).await
            }
            Self::Tls(tls) => tls.write(bytes).await,
        }
    }

    /// Everything that was written is with the socket.
    pub(super) async fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush().await,
        }
    }

    /// The socket, if bytes may be sent to it as they are.
    pub(super) const fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }

    /// Tells the peer that nothing more comes, if that can be said at once.
    pub(super) fn close(&self) {
        if let Self::Tls(tls) = self {
            tls.close();
        }
    }
}

/// A connection in TLS, after its handshake.
pub(super) struct TlsStream {
    tcp: TcpStream,
    session: Mutex<ServerConnection>,
}

impl TlsStream {
    /// Shakes hands. Has no time limit.
    ///
    /// # Errors
    /// What the peer did wrong, which it was told, or what broke the connection.
    pub(super) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        let stream = Self {
            tcp,
            session: Mutex::new(session),
        };
        while stream.session.lock().is_handshaking() {
            let received = stream
                .tcp
                .async_io(Interest::READABLE, || stream.receive())
                .await?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            stream.flush().await?;
        }
        Ok(stream)
    }

    async fn readable(&self) -> io::Result<()> {
        let waits = has_plaintext(&mut self.session.lock());
        if waits {
            return Ok(());
        }
        self.tcp.readable().await
    }

    fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        if let Some(read) = take(&mut self.session.lock(), buffer) {
            return Ok(read);
        }
        // No more than one turn: what has no data, such as an alert, must not occupy the thread.
        self.tcp.try_io(Interest::READABLE, || self.receive())?;
        let read = take(&mut self.session.lock(), buffer);
        read.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Takes from the socket what it has; 0 at the end. What has to be answered is, if it can be at
    /// once.
    fn receive(&self) -> io::Result<usize> {
        let mut session = self.session.lock();
        let received = session.read_tls(&mut Socket(&self.tcp))?;
        let processed = session.process_new_packets();
        let sent = self.drain(&mut session);
        if let Err(error) = processed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(received),
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let write = || {
            let mut session = self.session.lock();
            self.drain(&mut session)?;
            let taken = session.writer().write(bytes)?;
            match self.drain(&mut session) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(taken),
            }
        };
        self.tcp.async_io(Interest::WRITABLE, write).await
    }

    async fn flush(&self) -> io::Result<()> {
        let drain = || self.drain(&mut self.session.lock());
        match drain() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.tcp.async_io(Interest::WRITABLE, drain).await
            }
            drained => drained,
        }
    }

    fn close(&self) {
        let mut session = self.session.lock();
        session.send_close_notify();
        // The connection ends with or without it.
        let _ = self.drain(&mut session);
    }

    /// Hands encrypted bytes to the socket until none are left.
    fn drain(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut Socket(&self.tcp))?;
        }
        Ok(())
    }
}

fn has_plaintext(session: &mut ServerConnection) -> bool {
    let waiting = session.reader().fill_buf().map(|_| ());
    !matches!(waiting, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Takes decrypted bytes; `Some(0)` at the end. A peer that goes without saying so in TLS ends its
/// connection like any other: frames tell whether something is missing.
fn take(session: &mut ServerConnection, buffer: &mut impl BufMut) -> Option<usize> {
    let mut reader = session.reader();
    let len = match reader.fill_buf() {
        Ok(bytes) => {
            let len = bytes.len().min(buffer.remaining_mut());
            buffer.put_slice(&bytes[..len]);
            len
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(_) => 0,
    };
    reader.consume(len);
    Some(len)
}

/// A socket as rustls reads and writes it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
