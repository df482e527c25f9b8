//! TLS towards Kafka clients.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::{Material, TlsError, Watched, provider};
use crate::config::{ClientAuth, TlsSettings, TlsVersion};

/// The certificates of one listener.
pub type ListenerTls = Watched<ServerConfig>;

impl Watched<ServerConfig> {
    /// Reads the certificates of the listener called `name`.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn listener(name: &str, settings: &TlsSettings) -> Result<Self, TlsError> {
        let TlsSettings {
            client_auth,
            ref versions,
            ..
        } = *settings;
        let versions: Vec<_> = versions.iter().copied().map(supported).collect();
        Self::load(name, settings.pem.clone(), move |material| {
            server_config(material, client_auth, &versions)
        })
    }
}

const fn supported(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        TlsVersion::Tls13 => &rustls::version::TLS13,
    }
}

fn server_config(
    material: Material,
    client_auth: ClientAuth,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let builder = match (client_auth, material.authorities) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (_, None) => return Err(TlsError::NoAuthorities("ssl.truststore.location")),
        (ClientAuth::Requested | ClientAuth::Required, Some(authorities)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
            let verifier = match client_auth {
                ClientAuth::Required => verifier,
                ClientAuth::Requested | ClientAuth::None => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| TlsError::Authorities {
                place: "the truststore".to_owned(),
                reason: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(material.identity))))
}
