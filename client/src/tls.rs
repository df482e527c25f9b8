//! TLS to brokers: which authorities are believed, and the certificate that is shown.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::ClientError;

/// How brokers are verified, and what they are shown. Brokers' certificates have to bear the host names
/// or addresses by which they are reached.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Believes brokers whose certificates the authorities in the PEM file `authorities` issued.
    /// `identity` has PEM files with a certificate chain and its private key for brokers that ask.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when a file can't be read or used.
    pub fn new(authorities: &Path, identity: Option<(&Path, &Path)>) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots
                .add(authority)
                .map_err(|error| unusable(authorities, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientError::Invalid(error.to_string()))?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key);
                let private = private.map_err(|error| malformed(key, &error))?;
                config
                    .with_client_auth_cert(certificates(chain)?, private)
                    .map_err(|error| unusable(chain, &error))?
            }
        };
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Shakes hands with the broker at `address`, `HOST:PORT`.
    pub(crate) async fn connect(
        &self,
        address: &str,
        tcp: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, tcp).await
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| malformed(file, &error))?;
    if read.is_empty() {
        return Err(malformed(file, &pem::Error::NoItemsFound));
    }
    Ok(read)
}

/// Without what the library shows of the text: it may be a key.
fn malformed(file: &Path, error: &pem::Error) -> ClientError {
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it has no such section; give PEM, unencrypted".to_owned(),
        _ => "it is no PEM".to_owned(),
    };
    ClientError::Invalid(format!("can't use {}: {reason}", file.display()))
}

fn unusable(file: &Path, error: &rustls::Error) -> ClientError {
    ClientError::Invalid(format!("can't use {}: {error}", file.display()))
}
