//! Certificates for tests.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, in PEM form.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// For `name` and 127.0.0.1.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 2040)
    }

    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let loopback = SanType::IpAddress([127, 0, 0, 1].into());
        params.subject_alt_names.push(loopback);
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Writes the files of a Kubernetes TLS Secret.
pub(crate) fn write_secret(dir: &Path, issued: &Issued, trusted: &[&Authority]) {
    let authorities: String = trusted
        .iter()
        .map(|authority| authority.pem.as_str())
        .collect();
    std::fs::write(dir.join("tls.crt"), &issued.chain).unwrap();
    std::fs::write(dir.join("tls.key"), &issued.key).unwrap();
    std::fs::write(dir.join("ca.crt"), authorities).unwrap();
}
