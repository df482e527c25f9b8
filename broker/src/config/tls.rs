//! TLS in the configuration: which listeners have it, with Kafka's `ssl.*` keys and their overrides
//! `listener.name.NAME.ssl.*`; and Klamm's own keys for gRPC.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ConfigError, Endpoint, Properties, keys};
use crate::tls::{PemSource, PemSources};

const PROTOCOL_MAP: &str = "listener.security.protocol.map";
const OVERRIDE_PREFIX: &str = "listener.name.";
const SSL_PREFIX: &str = "ssl.";
const RPC_DIR: &str = "klamm.rpc.tls.dir";
const RPC_NAME: &str = "klamm.rpc.tls.name";

/// What a listener asks of its clients' certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Requested,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// TLS of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    pub pem: PemSources,
    pub client_auth: ClientAuth,
    pub versions: Vec<TlsVersion>,
}

/// Mutual TLS between brokers and from the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcTlsSettings {
    /// With `tls.crt`, `tls.key` and `ca.crt`
    pub dir: PathBuf,
    /// The DNS name in the certificates of this cluster's brokers and of its operator
    pub name: String,
}

/// Keys of Kafka that Klamm does not take, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    (
        "inter.broker.listener.name",
        "brokers speak gRPC with each other; klamm.rpc.tls.dir gives it TLS",
    ),
    (
        "security.inter.broker.protocol",
        "brokers speak gRPC with each other; klamm.rpc.tls.dir gives it TLS",
    ),
    (
        "ssl.cipher.suites",
        "the suites are the safe ones of TLS 1.2 and 1.3; choose among versions with ssl.enabled.protocols",
    ),
    (
        "ssl.endpoint.identification.algorithm",
        "it is a setting of clients; remove it here",
    ),
    (
        "ssl.key.password",
        "store the key unencrypted, the output of `openssl pkcs8 -topk8 -nocrypt`, readable by the broker alone",
    ),
    (
        "ssl.keystore.password",
        "keystores are PEM files without a password; see ssl.keystore.location",
    ),
    (
        "ssl.principal.mapping.rules",
        "certificates give clients no name yet; remove it",
    ),
    ("ssl.protocol", "set ssl.enabled.protocols"),
    (
        "ssl.truststore.password",
        "truststores are PEM files without a password; see ssl.truststore.location",
    ),
];
const NOT_PEM: &str = "only PEM is taken; convert it with `openssl pkcs12 -in FILE -out FILE.pem -nodes` \
                       (a JKS first with `keytool -importkeystore -deststoretype PKCS12`)";

/// What to do about a key or value of Kafka that is not taken.
pub(super) fn remedy(key: &str, value: &str) -> Option<&'static str> {
    let key = without_listener(key);
    if matches!(key, "ssl.keystore.type" | "ssl.truststore.type") && value != "PEM" {
        return Some(NOT_PEM);
    }
    let mut refused = REFUSED.iter();
    let (_, remedy) = refused.find(|(name, _)| *name == key)?;
    Some(remedy)
}

/// The key that `listener.name.NAME.` in front of it overrides for one listener; any other as it is.
pub(super) fn without_listener(key: &str) -> &str {
    let of_listener = key.strip_prefix(OVERRIDE_PREFIX);
    let bare = of_listener.and_then(|rest| Some(rest.split_once('.')?.1));
    bare.filter(|bare| bare.starts_with(SSL_PREFIX))
        .unwrap_or(key)
}

/// TLS by the names of the listeners that have it.
pub(super) fn listeners(
    properties: &Properties,
    listeners: &[Endpoint],
) -> Result<BTreeMap<String, TlsSettings>, ConfigError> {
    check_overrides(properties, listeners)?;
    let map = protocol_map(properties)?;
    let mut tls = BTreeMap::new();
    for listener in listeners {
        let name = listener.name.as_str();
        let protocol = match (map.get(name), &map) {
            (Some(protocol), _) => protocol.as_str(),
            // Kafka refuses any other name without an entry.
            (None, map) if map.is_empty() => name,
            (None, _) => {
                let reason = format!("it has no entry for the listener {name}");
                let value = properties.get(PROTOCOL_MAP).map_or("", String::as_str);
                return Err(ConfigError::bad(PROTOCOL_MAP, value, reason));
            }
        };
        match protocol {
            "SSL" => {
                let settings = Listener { properties, name }.settings()?;
                tls.insert(name.to_owned(), settings);
            }
            "SASL_PLAINTEXT" | "SASL_SSL" => {
                let reason =
                    "SASL is not supported yet; use PLAINTEXT, or SSL with ssl.client.auth";
                return Err(ConfigError::bad("listeners", &listener.to_string(), reason));
            }
            _ => {}
        }
    }
    Ok(tls)
}

/// Upper-case names of listeners with those of protocols.
fn protocol_map(properties: &Properties) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(text) = properties.get(PROTOCOL_MAP) else {
        return Ok(BTreeMap::new());
    };
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let bad = |reason| ConfigError::bad(PROTOCOL_MAP, entry, reason);
            let (name, protocol) = entry
                .split_once(':')
                .ok_or_else(|| bad("must be of the form NAME:PROTOCOL"))?;
            let protocol = protocol.trim().to_ascii_uppercase();
            if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&&*protocol) {
                return Err(bad("the protocol must be PLAINTEXT or SSL"));
            }
            Ok((name.trim().to_ascii_uppercase(), protocol))
        })
        .collect()
}

fn check_overrides(properties: &Properties, listeners: &[Endpoint]) -> Result<(), ConfigError> {
    for (key, value) in properties {
        let of_listener = key.strip_prefix(OVERRIDE_PREFIX);
        let Some((name, _)) = of_listener.and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let exists = |listener: &Endpoint| listener.name.eq_ignore_ascii_case(name);
        if !listeners.iter().any(exists) {
            let reason = format!("listeners has no {}", name.to_ascii_uppercase());
            let kind = keys::broker_key(without_listener(key)).map(|key| key.kind);
            let shown = match kind {
                Some(keys::Kind::Password) => "[hidden]",
                _ => value,
            };
            return Err(ConfigError::bad(key, shown, reason));
        }
    }
    Ok(())
}

/// The `ssl.*` settings of one listener.
struct Listener<'a> {
    properties: &'a Properties,
    name: &'a str,
}

impl<'a> Listener<'a> {
    fn settings(&self) -> Result<TlsSettings, ConfigError> {
        let client_auth = match self.get("ssl.client.auth") {
            Some("required") => ClientAuth::Required,
            Some("requested") => ClientAuth::Requested,
            _ => ClientAuth::None,
        };
        let (chain, key) = self.keystore()?;
        let authorities = self.truststore()?;
        if client_auth != ClientAuth::None && authorities.is_none() {
            return Err(ConfigError::Missing("ssl.truststore.location"));
        }
        let versions = self.get("ssl.enabled.protocols").unwrap_or_default();
        let version = |name: &str| match name.trim() {
            "TLSv1.2" => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        Ok(TlsSettings {
            pem: PemSources {
                chain,
                key,
                authorities,
            },
            client_auth,
            versions: versions.split(',').map(version).collect(),
        })
    }

    fn keystore(&self) -> Result<(PemSource, PemSource), ConfigError> {
        let location = self.get("ssl.keystore.location");
        let chain = self.text("ssl.keystore.certificate.chain");
        let key = self.text("ssl.keystore.key");
        match (location, chain, key) {
            (Some(location), None, None) => Ok(PemSource::keystore(Path::new(location))),
            (None, Some(chain), Some(key)) => Ok((chain, key)),
            (None, Some(_), None) => Err(ConfigError::Missing("ssl.keystore.key")),
            (None, None, Some(_)) => Err(ConfigError::Missing("ssl.keystore.certificate.chain")),
            (None, None, None) => Err(ConfigError::Missing("ssl.keystore.location")),
            (Some(location), ..) => Err(ConfigError::bad(
                "ssl.keystore.location",
                location,
                "set it or ssl.keystore.certificate.chain and ssl.keystore.key, not both",
            )),
        }
    }

    fn truststore(&self) -> Result<Option<PemSource>, ConfigError> {
        let location = self.get("ssl.truststore.location");
        match (location, self.text("ssl.truststore.certificates")) {
            (Some(location), Some(_)) => Err(ConfigError::bad(
                "ssl.truststore.location",
                location,
                "set it or ssl.truststore.certificates, not both",
            )),
            (Some(location), None) => Ok(Some(PemSource::truststore(Path::new(location)))),
            (None, text) => Ok(text),
        }
    }

    /// The listener's own value, or that for all, or the default.
    fn get(&self, key: &'static str) -> Option<&'a str> {
        let own = format!("{OVERRIDE_PREFIX}{}.{key}", self.name.to_ascii_lowercase());
        let set = self.properties.get(&own);
        let set = set.or_else(|| self.properties.get(key)).map(String::as_str);
        set.or_else(|| keys::broker_key(key).and_then(|key| key.default))
            .filter(|value| !value.is_empty())
    }

    fn text(&self, key: &'static str) -> Option<PemSource> {
        let pem = reflow(self.get(key)?);
        Some(PemSource::Text {
            key: key.to_owned(),
            pem,
        })
    }
}

/// PEM with its line breaks: a properties file has a value in one line, breaks as `\n` or as spaces.
fn reflow(text: &str) -> String {
    let text = text.replace("\\n", "\n");
    let mut lines = String::new();
    for (number, part) in text.split("-----").enumerate() {
        if number % 2 == 1 {
            lines.push_str(&format!("-----{part}-----\n"));
        } else {
            for word in part.split_whitespace() {
                lines.push_str(word);
                lines.push('\n');
            }
        }
    }
    lines
}

/// Mutual TLS of gRPC, if it is switched on.
pub(super) fn rpc(properties: &Properties) -> Result<Option<RpcTlsSettings>, ConfigError> {
    let set = |key| properties.get(key).filter(|value| !value.is_empty());
    let Some(dir) = set(RPC_DIR) else {
        return match set(RPC_NAME) {
            Some(_) => Err(ConfigError::Missing(RPC_DIR)),
            None => Ok(None),
        };
    };
    let name = set(RPC_NAME).ok_or(ConfigError::Missing(RPC_NAME))?;
    if rustls::pki_types::DnsName::try_from(name.as_str()).is_err() {
        return Err(ConfigError::bad(RPC_NAME, name, "must be a DNS name"));
    }
    Ok(Some(RpcTlsSettings {
        dir: PathBuf::from(dir),
        name: name.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&str, &str)]) -> Result<BTreeMap<String, TlsSettings>, String> {
        let properties: Properties = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let checked = super::super::properties::check(&properties);
        checked.map_err(|error| error.to_string())?;
        let endpoints: Vec<Endpoint> = properties["listeners"]
            .split(',')
            .map(|text| text.parse().unwrap())
            .collect();
        listeners(&properties, &endpoints).map_err(|error| error.to_string())
    }

    #[test]
    fn listeners_have_tls_by_name_or_map_with_settings_of_their_own() {
        let tls = parse(&[
            ("listeners", "PLAINTEXT://h:1,SSL://h:2"),
            ("ssl.keystore.location", "/pem"),
        ]);
        assert_eq!(tls.unwrap().into_keys().collect::<Vec<_>>(), ["SSL"]);
        let plain = parse(&[("listeners", "INTERNAL://h:1,EXTERNAL://h:2")]);
        assert!(plain.unwrap().is_empty());
        let tls = parse(&[
            ("listeners", "IN://h:1,OUT://h:2,TOOLS://h:3"),
            (PROTOCOL_MAP, "in:PLAINTEXT, OUT:SSL, TOOLS:ssl"),
            ("ssl.keystore.location", "/all"),
            ("ssl.truststore.location", "/ca"),
            ("listener.name.tools.ssl.keystore.location", "/tools"),
            ("listener.name.tools.ssl.client.auth", "required"),
            ("listener.name.tools.ssl.enabled.protocols", "TLSv1.3"),
        ])
        .unwrap();
        let file = |path: &str| PemSource::File(PathBuf::from(path));
        let settings = |keystore, client_auth, versions: &[TlsVersion]| TlsSettings {
            pem: PemSources {
                chain: file(keystore),
                key: file(keystore),
                authorities: Some(file("/ca")),
            },
            client_auth,
            versions: versions.to_vec(),
        };
        let both = [TlsVersion::Tls12, TlsVersion::Tls13];
        let expected = [
            ("OUT", settings("/all", ClientAuth::None, &both)),
            (
                "TOOLS",
                settings("/tools", ClientAuth::Required, &both[1..]),
            ),
        ];
        let expected = expected.map(|(name, settings)| (name.to_owned(), settings));
        assert_eq!(tls, BTreeMap::from(expected));
    }

    #[test]
    fn what_can_not_be_done_is_refused_with_what_to_do() {
        let ssl = ("listeners", "SSL://h:1");
        let keystore = ("ssl.keystore.location", "/pem");
        for (settings, message) in [
            (&[ssl][..], "ssl.keystore.location must be set"),
            (
                &[ssl, ("ssl.keystore.key", "k")],
                "ssl.keystore.certificate.chain must be set",
            ),
            (
                &[ssl, keystore, ("ssl.keystore.key", "secret")],
                "set it or ssl.keystore.certificate.chain and ssl.keystore.key, not both",
            ),
            (
                &[ssl, keystore, ("ssl.client.auth", "required")],
                "ssl.truststore.location must be set",
            ),
            (
                &[ssl, keystore, ("ssl.keystore.type", "JKS")],
                "ssl.keystore.type is not supported: only PEM is taken; convert it with",
            ),
            (
                &[ssl, keystore, ("listener.name.ssl.ssl.key.password", "pw")],
                "listener.name.ssl.ssl.key.password is not supported: store the key unencrypted",
            ),
            (
                &[ssl, keystore, ("listener.name.out.ssl.keystore.key", "pw")],
                "listener.name.out.ssl.keystore.key=[hidden]: listeners has no OUT",
            ),
            (
                &[ssl, keystore, ("listener.name.ssl.num.partitions", "3")],
                "unknown configuration key \"listener.name.ssl.num.partitions\"",
            ),
            (
                &[ssl, keystore, (PROTOCOL_MAP, "OUT:SSL")],
                "it has no entry for the listener SSL",
            ),
            (
                &[("listeners", "OUT://h:1"), (PROTOCOL_MAP, "OUT:SASL_SSL")],
                "SASL is not supported yet",
            ),
            (
                &[("listeners", "OUT://h:1"), (PROTOCOL_MAP, "OUT:TLS")],
                "the protocol must be PLAINTEXT or SSL",
            ),
            (
                &[ssl, ("security.inter.broker.protocol", "SSL")],
                "klamm.rpc.tls.dir gives it TLS",
            ),
        ] {
            let error = parse(settings).expect_err(message);
            assert!(error.contains(message), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("pw"),
                "{error}"
            );
        }
    }

    #[test]
    fn pem_in_one_line_gets_its_line_breaks_back() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\nBB==\n-----END CERTIFICATE-----\n";
        for line in [
            "-----BEGIN CERTIFICATE-----AAAA BB==-----END CERTIFICATE-----",
            r"-----BEGIN CERTIFICATE-----\nAAAA\nBB==\n-----END CERTIFICATE-----\n",
            broken,
        ] {
            assert_eq!(reflow(line), broken, "{line}");
            assert_eq!(reflow(&line.repeat(2)), broken.repeat(2), "{line}");
        }
    }

    #[test]
    fn grpc_has_tls_with_a_directory_and_the_name_of_the_cluster() {
        let parse = |settings: &[(&str, &str)]| {
            let settings = settings.iter();
            let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            rpc(&settings.collect()).map_err(|error| error.to_string())
        };
        assert_eq!(parse(&[]), Ok(None));
        let expected = RpcTlsSettings {
            dir: "/tls".into(),
            name: "demo.klamm".to_owned(),
        };
        let set = [(RPC_DIR, "/tls"), (RPC_NAME, "demo.klamm")];
        assert_eq!(parse(&set), Ok(Some(expected)));
        for (settings, message) in [
            (&set[..1], "klamm.rpc.tls.name must be set"),
            (&set[1..], "klamm.rpc.tls.dir must be set"),
            (
                &[set[0], (RPC_NAME, "a b")],
                "klamm.rpc.tls.name=a b: must be a DNS name",
            ),
        ] {
            assert_eq!(parse(settings).unwrap_err(), message);
        }
    }
}
