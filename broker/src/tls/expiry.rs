//! When certificates expire.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Seconds since 1970 at which the first certificate of the chain expires; 0 when none of them can be
/// read.
pub(super) fn first_expiry_s(chain: &[CertificateDer<'_>]) -> i64 {
    let expiries = chain.iter().filter_map(|certificate| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let expiry = certificate.tbs_certificate.validity.not_after;
        i64::try_from(expiry.to_unix_duration().as_secs()).ok()
    });
    expiries.min().unwrap_or(0)
}
