//! Arguments for brokers with TLS.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use klamm_client::Tls;

#[derive(Args)]
pub(crate) struct TlsArguments {
    /// Connect with TLS; PEM file with the authorities of the brokers' certificates
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file with a certificate to show, for brokers that ask for one
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl TlsArguments {
    /// `None`: plaintext.
    pub(crate) fn read(&self) -> Result<Option<Tls>> {
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some((chain.as_path(), key.as_path())),
            (None, None) => None,
            _ => anyhow::bail!("--tls-cert and --tls-key belong together"),
        };
        match &self.tls_ca {
            Some(authorities) => Ok(Some(Tls::new(authorities, identity)?)),
            None if identity.is_some() => {
                anyhow::bail!("--tls-ca has to say whose certificates brokers may show")
            }
            None => Ok(None),
        }
    }
}
