//! Connections that a gRPC server accepts, in plaintext or in TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::Either;
use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpIncoming};

use super::Credentials;
use super::tls::HANDSHAKES_MAX;

/// The connections that a server accepts. They send at once: otherwise an answer that follows another
/// waits for the peer's delayed acknowledgement, 40 ms. The server's own `tcp_nodelay` is for the
/// listeners that it opens itself.
pub fn incoming(
    listener: TcpListener,
    credentials: &Credentials,
) -> impl Stream<Item = io::Result<RpcStream>> + use<> {
    let accepted = TcpIncoming::from(listener).with_nodelay(Some(true));
    let Some(tls) = credentials.tls().cloned() else {
        return Either::Left(accepted.map(|tcp| tcp.map(RpcStream::Plain)));
    };
    let shaken = accepted.map(move |tcp| {
        let tls = Arc::clone(&tls);
        async move {
            match tcp {
                Ok(tcp) => {
                    let stream = tls.accept(tcp).await?;
                    Some(Ok(RpcStream::Tls(Box::new(stream))))
                }
                Err(error) => Some(Err(error)),
            }
        }
    });
    let accepted = shaken.buffer_unordered(HANDSHAKES_MAX);
    Either::Right(accepted.flat_map(stream::iter))
}

/// One peer's connection.
pub enum RpcStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for RpcStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for RpcStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for RpcStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, buffers),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
