//! What was read, as rustls takes it.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::expiry::first_expiry_s;
use super::sources::{PemContents, PemSource, PemSources};
use super::{TlsError, provider};

const ENCRYPTED_KEY: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_KEY_HEADER: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// A certificate chain with its key, and the authorities that verify peers.
pub(crate) struct Material {
    pub(crate) identity: Arc<CertifiedKey>,
    pub(crate) authorities: Option<Arc<RootCertStore>>,
    /// Seconds since 1970
    pub(crate) expiry_s: i64,
}

impl Material {
    /// Takes `contents`, which were read from `sources`.
    pub(super) fn parse(sources: &PemSources, contents: &PemContents) -> Result<Self, TlsError> {
        let chain = certificates(&sources.chain, &contents.chain)?;
        let key = private_key(&sources.key, &contents.key)?;
        let expiry_s = first_expiry_s(&chain);
        let identity =
            CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::KeyPair)?;
        let authorities = match (&sources.authorities, &contents.authorities) {
            (Some(source), Some(pem)) => Some(Arc::new(authorities(source, pem)?)),
            _ => None,
        };
        Ok(Self {
            identity: Arc::new(identity),
            authorities,
            expiry_s,
        })
    }
}

fn certificates(source: &PemSource, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| malformed(source, &error))?;
    if read.is_empty() {
        return Err(TlsError::NoCertificate {
            place: source.to_string(),
        });
    }
    Ok(read)
}

fn private_key(source: &PemSource, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    if has(ENCRYPTED_KEY) || has(ENCRYPTED_KEY_HEADER) {
        return Err(TlsError::EncryptedKey {
            place: source.to_string(),
        });
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            place: source.to_string(),
        },
        error => malformed(source, &error),
    })
}

fn authorities(source: &PemSource, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(source, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authorities {
                place: source.to_string(),
                reason: error.to_string(),
            })?;
    }
    Ok(roots)
}

/// Without what the library shows of the text: it may be a key.
fn malformed(source: &PemSource, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it can't be decoded",
    };
    TlsError::Pem {
        place: source.to_string(),
        reason: reason.to_owned(),
    }
}
