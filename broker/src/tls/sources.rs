//! Where certificates and keys come from: files, or the configuration itself.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::TlsError;

/// Files are read to here.
pub(super) const PEM_BYTES_MAX: u64 = 1 << 20;
/// Names of the files in a Kubernetes Secret of type `kubernetes.io/tls`.
const CHAIN_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";
const AUTHORITIES_FILE: &str = "ca.crt";

/// One text with PEM sections.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    File(PathBuf),
    /// The value of the named key of the configuration.
    Text {
        key: String,
        pem: String,
    },
}

/// A certificate with its chain, its private key, and the authorities by which peers are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemSources {
    pub chain: PemSource,
    pub key: PemSource,
    pub authorities: Option<PemSource>,
}

/// What the sources held when they were read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PemContents {
    pub(super) chain: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) authorities: Option<Vec<u8>>,
}

impl PemSource {
    /// The certificate and the key under `location`: a file that holds both, or a directory as a
    /// Kubernetes TLS Secret is mounted.
    #[must_use]
    pub fn keystore(location: &Path) -> (Self, Self) {
        if location.is_dir() {
            let file = |name| Self::File(location.join(name));
            (file(CHAIN_FILE), file(KEY_FILE))
        } else {
            let file = || Self::File(location.to_owned());
            (file(), file())
        }
    }

    /// The authorities under `location`: a file, or `ca.crt` in a directory.
    #[must_use]
    pub fn truststore(location: &Path) -> Self {
        Self::File(if location.is_dir() {
            location.join(AUTHORITIES_FILE)
        } else {
            location.to_owned()
        })
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Text { pem, .. } => Ok(pem.clone().into_bytes()),
            Self::File(path) => read_file(path),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(read)?.take(PEM_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(TlsError::TooLarge {
            place: path.display().to_string(),
        });
    }
    Ok(bytes)
}

/// Names the place; text, which may be a private key, is not shown.
impl fmt::Display for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text { key, .. } => f.write_str(key),
        }
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PemSource({self})")
    }
}

impl PemSources {
    /// The three files of a Kubernetes TLS Secret that is mounted in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        let file = |name| PemSource::File(dir.join(name));
        Self {
            chain: file(CHAIN_FILE),
            key: file(KEY_FILE),
            authorities: Some(file(AUTHORITIES_FILE)),
        }
    }

    pub(super) fn read(&self) -> Result<PemContents, TlsError> {
        Ok(PemContents {
            chain: self.chain.read()?,
            key: self.key.read()?,
            authorities: self.authorities.as_ref().map(PemSource::read).transpose()?,
        })
    }
}
