//! Certificates: where they are read from, what is made of them, and how new ones are taken while the
//! broker runs.
//!
//! ```text
//! PemSources ──► PemContents ──► Material ──► ServerConfig of a listener, or both ends of gRPC
//!      └───────── Watched: read again every second ─────────┘
//! ```
//!
//! Invariants: what can't be used never replaces what is in use; private keys are never logged and
//! never part of an error.

mod expiry;
mod listener;
mod material;
mod sources;
#[cfg(test)]
pub(crate) mod testing;
mod watched;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use thiserror::Error;

pub use listener::ListenerTls;
pub(crate) use material::Material;
pub use sources::{PemSource, PemSources};
pub use watched::{CertificateStatus, Watched};

/// Why certificates can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("can't read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{place} is larger than {} bytes", sources::PEM_BYTES_MAX)]
    TooLarge { place: String },
    #[error("{place} is not in PEM form: {reason}")]
    Pem { place: String, reason: String },
    #[error("{place} has no certificate in PEM form")]
    NoCertificate { place: String },
    #[error("{place} has no private key in PEM form")]
    NoKey { place: String },
    #[error(
        "the private key in {place} is encrypted; store it as the output of \
         `openssl pkcs8 -topk8 -nocrypt`, readable by the broker alone"
    )]
    EncryptedKey { place: String },
    #[error("certificate and private key can't be used together: {0}")]
    KeyPair(rustls::Error),
    #[error("the certificates of {place} can't be used as authorities: {reason}")]
    Authorities { place: String, reason: String },
    #[error("{0} is needed to verify the certificates of peers")]
    NoAuthorities(&'static str),
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// The implementation of the algorithms.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
