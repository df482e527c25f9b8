//! Configuration by Kafka's property names.
//!
//! A file of properties and `--set key=value` overrides become one [`BrokerConfig`]; an unknown key
//! or a bad value is an error that names key, value and remedy. [`keys`] is the only table of what
//! exists; typed values are read from it, and `DescribeConfigs` answers from it.

mod broker;
mod endpoint;
mod hash;
pub mod keys;
mod properties;
mod throttled_replicas;
mod tls;
mod topic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

pub use broker::{BrokerConfig, LivenessSettings, Voter};
pub use endpoint::{Endpoint, HostPort};
pub use throttled_replicas::ThrottledReplicas;
pub use tls::{ClientAuth, RpcTlsSettings, TlsSettings, TlsVersion};
pub use topic::{Dynamic, IsrTiming, Source, TopicConfig};

/// Explicitly set properties, last one wins.
pub type Properties = BTreeMap<String, String>;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("can't read configuration file {path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}:{line}: {text:?} is not of the form key=value")]
    Syntax {
        path: PathBuf,
        line: usize,
        text: String,
    },
    #[error("--set {0:?} is not of the form key=value")]
    Override(String),
    #[error("unknown configuration key {key:?}{}", did_you_mean(.suggestion))]
    UnknownKey {
        key: String,
        suggestion: Option<&'static str>,
    },
    #[error("{key} is not supported: {remedy}")]
    Refused { key: String, remedy: &'static str },
    #[error("{key}={value}: {reason}")]
    BadValue {
        key: String,
        value: String,
        reason: String,
    },
    #[error("{0} must be set")]
    Missing(&'static str),
}

fn did_you_mean(key: &Option<&'static str>) -> String {
    key.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}

impl ConfigError {
    fn bad(key: &str, value: &str, reason: impl Into<String>) -> Self {
        Self::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.into(),
        }
    }
}
