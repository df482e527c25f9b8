//! Certificates for tests: an authority of their own, and files as a Kubernetes TLS Secret has them.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

/// Issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// # Errors
    /// When there is no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Writes `tls.crt` and `tls.key`, valid for `name`, localhost and 127.0.0.1 until the start of
    /// `year`, both of them together as `keystore.pem`, and `ca.crt` with `trusted`.
    ///
    /// # Errors
    /// When the files can't be written.
    pub fn write(&self, dir: &Path, name: &str, year: i32, trusted: &[&Self]) -> Result<()> {
        let key = KeyPair::generate()?;
        let names = [name.to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let loopback = SanType::IpAddress([127, 0, 0, 1].into());
        params.subject_alt_names.push(loopback);
        params.not_after = date_time_ymd(year, 1, 1);
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        let authorities: String = trusted.iter().map(|one| one.pem.as_str()).collect();
        fs::create_dir_all(dir)?;
        fs::write(dir.join("ca.crt"), authorities)?;
        fs::write(dir.join("tls.key"), &key)?;
        fs::write(dir.join("tls.crt"), &chain)?;
        fs::write(dir.join("keystore.pem"), key + &chain)?;
        Ok(())
    }
}
