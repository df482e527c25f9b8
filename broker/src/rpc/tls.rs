//! Mutual TLS of gRPC. Both ends show a certificate that one of the authorities in `ca.crt` issued and
//! that bears the cluster's name, so that neither a certificate of another authority nor one of another
//! cluster under the same authority gets in. Addresses are not part of it: a broker may be reached by any.
//!
//! New certificates are for new connections.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::config::RpcTlsSettings;
use crate::tls::{CertificateStatus, Material, PemSources, TlsError, Watched, provider};
use crate::warnings::Warnings;

/// Handshakes of peers that connect at the same time; more wait to be accepted.
pub(super) const HANDSHAKES_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// The name of gRPC among listeners.
const LISTENER: &str = "rpc";
const HTTP2: &[u8] = b"h2";

/// The certificates of this broker for gRPC, and whom it lets in.
pub struct RpcTls {
    name: ServerName<'static>,
    ends: Arc<Watched<Ends>>,
    refused: AtomicU64,
    warnings: Warnings,
}

/// Both ends of a connection.
struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl RpcTls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn load(settings: &RpcTlsSettings) -> Result<Self, TlsError> {
        Self::from_dir(&settings.dir, &settings.name)
    }

    fn from_dir(dir: &Path, name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|InvalidDnsNameError| rustls::Error::General("not a DNS name".to_owned()))?;
        let member = name.clone();
        let build = move |material| ends(material, &member);
        let ends = Watched::load(LISTENER, PemSources::in_dir(dir), build)?;
        Ok(Self {
            name,
            ends: Arc::new(ends),
            refused: AtomicU64::new(0),
            warnings: Warnings::default(),
        })
    }

    /// Takes newer certificates, for ever.
    pub async fn watch(&self) {
        Arc::clone(&self.ends).watch().await;
    }

    #[must_use]
    pub fn certificate(&self) -> &Arc<CertificateStatus> {
        self.ends.status()
    }

    /// Connections that ended because one end does not believe the other.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// `None` for a peer that was refused.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Option<server::TlsStream<TcpStream>> {
        let peer = tcp.peer_addr().ok()?;
        let acceptor = TlsAcceptor::from(Arc::clone(&self.ends.current().server));
        let shaken = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        shaken.inspect_err(|error| self.note(&peer, error)).ok()
    }

    async fn connect(&self, address: &str) -> io::Result<client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.ends.current().client));
        let shaken = connector.connect(self.name.clone(), tcp).await;
        shaken.inspect_err(|error| self.note(&address, error))
    }

    /// Tells of a handshake that failed because one end does not believe the other; a connection that
    /// only broke is tried again and tells nothing.
    fn note(&self, peer: &dyn fmt::Display, error: &io::Error) {
        if error.kind() != io::ErrorKind::InvalidData {
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = self.warnings.admit() {
            tracing::warn!(%peer, %error, suppressed, "no gRPC connection: certificates");
        }
    }
}

fn ends(material: Material, name: &ServerName<'static>) -> Result<Ends, TlsError> {
    let Material {
        identity,
        authorities,
        ..
    } = material;
    let authorities = authorities.ok_or(TlsError::NoAuthorities("ca.crt"))?;
    check_own_name(&identity.cert, name)?;
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), provider());
    let chain = chain.build().map_err(|error| TlsError::Authorities {
        place: "ca.crt".to_owned(),
        reason: error.to_string(),
    })?;
    let identity = Arc::new(SingleCertAndKey::from(identity));
    let members = Arc::new(Members {
        chain,
        name: name.clone(),
    });
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(members)
        .with_cert_resolver(Arc::clone(&identity) as _);
    server.alpn_protocols = vec![HTTP2.to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities)
        .with_client_cert_resolver(identity);
    client.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Ends {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}

/// A broker that nobody else would let in says so itself.
fn check_own_name(
    chain: &[CertificateDer<'static>],
    name: &ServerName<'_>,
) -> Result<(), rustls::Error> {
    let own = chain
        .first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    verify_server_name(&ParsedCertificate::try_from(own)?, name)
}

/// Verifies the certificates of those who connect.
#[derive(Debug)]
struct Members {
    chain: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Dials peers for gRPC.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<RpcTls>);

impl Service<Uri> for Connector {
    type Response = TokioIo<client::TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let address = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(TokioIo::new(tls.connect(address.as_str()).await?))
        })
    }
}

#[cfg(test)]
mod tests;
