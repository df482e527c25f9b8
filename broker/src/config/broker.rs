//! The typed configuration of one broker process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker_core::group::GroupConfig;
use broker_core::{BrokerId, transaction};

use super::{
    ConfigError, Endpoint, HostPort, Properties, RpcTlsSettings, TlsSettings, keys, properties, tls,
};

/// Named so that it can't be a partition's directory.
const METADATA_DIR: &str = "__cluster_metadata-0";

/// An initial voter of the metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub id: BrokerId,
    pub rpc: HostPort,
}

/// How brokers watch each other.
#[derive(Clone, Copy, Debug)]
pub struct LivenessSettings {
    pub heartbeat_interval: Duration,
    pub session_timeout: Duration,
    pub reconnect_grace: Duration,
    pub election_timeout: Duration,
}

/// One broker's configuration: what needs a type is a field, the rest is read by key.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub id: BrokerId,
    pub rack: Option<String>,
    /// At least one.
    pub log_dirs: Vec<PathBuf>,
    /// Of the metadata log.
    pub metadata_dir: PathBuf,
    pub listeners: Vec<Endpoint>,
    pub advertised_listeners: Vec<Endpoint>,
    /// By the names of the listeners that have TLS.
    pub listener_tls: BTreeMap<String, TlsSettings>,
    pub rpc_listener: HostPort,
    pub rpc_advertised: HostPort,
    pub rpc_token_file: PathBuf,
    /// `None`: gRPC without TLS.
    pub rpc_tls: Option<RpcTlsSettings>,
    pub http_listener: HostPort,
    pub voters: Vec<Voter>,
    pub cluster_id: String,
    properties: Properties,
}

impl BrokerConfig {
    /// Reads `file`, if given, adds `overrides` and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing wrong.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut read = file.map_or_else(|| Ok(Properties::new()), properties::read_file)?;
        properties::add_overrides(&mut read, overrides)?;
        Self::new(read)
    }

    /// Checks `properties` and gives them types.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing wrong.
    pub fn new(properties: Properties) -> Result<Self, ConfigError> {
        properties::check(&properties)?;
        let source = Source(&properties);
        let listeners: Vec<Endpoint> = source.list("listeners")?;
        let advertised_listeners = if properties.contains_key("advertised.listeners") {
            source.list("advertised.listeners")?
        } else {
            listeners.clone()
        };
        check_advertised(&listeners, &advertised_listeners)?;
        let rpc_listener: HostPort = source.parse("klamm.rpc.listener")?;
        let rpc_advertised = match properties.get("klamm.rpc.advertised") {
            Some(_) => source.parse("klamm.rpc.advertised")?,
            None => rpc_listener.clone(),
        };
        let log_dirs = source.log_dirs()?;
        let metadata_parent = source.optional("metadata.log.dir").map(PathBuf::from);
        let metadata_parent = metadata_parent.unwrap_or_else(|| log_dirs[0].clone());
        Ok(Self {
            id: BrokerId(source.parse("node.id")?),
            rack: source.optional("broker.rack").map(str::to_owned),
            log_dirs,
            metadata_dir: metadata_parent.join(METADATA_DIR),
            listener_tls: tls::listeners(&properties, &listeners)?,
            listeners,
            advertised_listeners,
            rpc_listener,
            rpc_advertised,
            rpc_token_file: PathBuf::from(source.required("klamm.rpc.token.file")?),
            rpc_tls: tls::rpc(&properties)?,
            http_listener: source.parse("klamm.http.listener")?,
            voters: source.voters()?,
            cluster_id: source.required("klamm.cluster.id")?.to_owned(),
            properties,
        })
    }

    /// The properties that were set explicitly.
    #[must_use]
    pub const fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Effective value of a key, `None` when it has neither value nor default.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        Source(&self.properties).optional(name)
    }

    /// Effective value of a numeric key that has a default.
    ///
    /// # Panics
    /// If the table has no such key: a programming error.
    #[must_use]
    pub fn number(&self, name: &'static str) -> i64 {
        let value = self
            .value(name)
            .unwrap_or_else(|| panic!("{name} has no default"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not numeric"))
    }

    /// Effective value of a boolean key that has a default.
    #[must_use]
    pub fn flag(&self, name: &'static str) -> bool {
        self.value(name) == Some("true")
    }

    /// Effective value of a key in milliseconds.
    #[must_use]
    pub fn millis(&self, name: &'static str) -> Duration {
        Duration::from_millis(u64::try_from(self.number(name)).unwrap_or(0))
    }

    /// Effective value of a key in bytes or pieces.
    #[must_use]
    pub fn size(&self, name: &'static str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(0)
    }

    #[must_use]
    pub fn liveness(&self) -> LivenessSettings {
        LivenessSettings {
            heartbeat_interval: self.millis("broker.heartbeat.interval.ms"),
            session_timeout: self.millis("broker.session.timeout.ms"),
            reconnect_grace: self.millis("klamm.broker.reconnect.grace.ms"),
            election_timeout: self.millis("controller.quorum.election.timeout.ms"),
        }
    }

    /// Bounds of consumer groups.
    #[must_use]
    pub fn groups(&self) -> GroupConfig {
        GroupConfig {
            initial_rebalance_delay: self.millis("group.initial.rebalance.delay.ms"),
            session_timeout_min: self.millis("group.min.session.timeout.ms"),
            session_timeout_max: self.millis("group.max.session.timeout.ms"),
            group_size_max: self.size("group.max.size"),
            consumer_session_timeout: self.millis("group.consumer.session.timeout.ms"),
            consumer_heartbeat_interval: self.millis("group.consumer.heartbeat.interval.ms"),
            consumer_group_size_max: self.size("group.consumer.max.size"),
            offset_metadata_bytes_max: self.size("offset.metadata.max.bytes"),
            offsets_retention: self.millis("offsets.retention.minutes") * 60_000,
        }
    }

    /// Bounds of transactions.
    #[must_use]
    pub fn transactions(&self) -> transaction::Config {
        transaction::Config {
            timeout_max: self.millis("transaction.max.timeout.ms"),
            id_expiration: self.millis("transactional.id.expiration.ms"),
        }
    }
}

fn check_advertised(listeners: &[Endpoint], advertised: &[Endpoint]) -> Result<(), ConfigError> {
    for endpoint in advertised {
        let text = endpoint.to_string();
        if !listeners
            .iter()
            .any(|listener| listener.name == endpoint.name)
        {
            let reason = format!("listeners has no {}", endpoint.name);
            return Err(ConfigError::bad("advertised.listeners", &text, reason));
        }
        if endpoint.address.host.is_empty() || endpoint.address.host == "0.0.0.0" {
            let reason = "clients need a host name or address; set advertised.listeners";
            return Err(ConfigError::bad("advertised.listeners", &text, reason));
        }
    }
    Ok(())
}

struct Source<'a>(&'a Properties);

impl<'a> Source<'a> {
    fn optional(&self, name: &str) -> Option<&'a str> {
        match self.0.get(name) {
            Some(value) => Some(value),
            None => keys::broker_key(name).and_then(|key| key.default),
        }
    }

    fn required(&self, name: &'static str) -> Result<&'a str, ConfigError> {
        self.optional(name)
            .filter(|value| !value.is_empty())
            .ok_or(ConfigError::Missing(name))
    }

    fn parse<T: std::str::FromStr<Err: ToString>>(
        &self,
        name: &'static str,
    ) -> Result<T, ConfigError> {
        let value = self.required(name)?;
        value
            .parse()
            .map_err(|reason: T::Err| ConfigError::bad(name, value, reason.to_string()))
    }

    fn list<T: std::str::FromStr<Err = String>>(
        &self,
        name: &'static str,
    ) -> Result<Vec<T>, ConfigError> {
        let value = self.required(name)?;
        let items = value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items
            .map(|item| {
                item.parse()
                    .map_err(|why| ConfigError::bad(name, item, why))
            })
            .collect()
    }

    /// In the order given, without repetitions; never empty.
    fn log_dirs(&self) -> Result<Vec<PathBuf>, ConfigError> {
        if !self.0.contains_key("log.dirs")
            && let Some(only) = self.0.get("log.dir")
        {
            return Ok(vec![PathBuf::from(only)]);
        }
        let names = self.required("log.dirs")?.split(',').map(str::trim);
        let dirs: Vec<PathBuf> = names
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .collect();
        for (i, dir) in dirs.iter().enumerate() {
            if let Some(other) = dirs[..i]
                .iter()
                .find(|other| dir.starts_with(other) || other.starts_with(dir))
            {
                let reason = format!("is within {} or the other way round", other.display());
                return Err(ConfigError::bad("log.dirs", &dir.to_string_lossy(), reason));
            }
        }
        if dirs.is_empty() {
            return Err(ConfigError::Missing("log.dirs"));
        }
        Ok(dirs)
    }

    fn voters(&self) -> Result<Vec<Voter>, ConfigError> {
        let voters: Vec<Voter> = self.list("controller.quorum.voters")?;
        if voters.is_empty() {
            return Err(ConfigError::Missing("controller.quorum.voters"));
        }
        Ok(voters)
    }
}

impl std::str::FromStr for Voter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, rpc) = text
            .split_once('@')
            .ok_or("must be of the form id@host:port")?;
        let id = id
            .parse()
            .map_err(|_| format!("{id:?} is not a broker id"))?;
        Ok(Self {
            id: BrokerId(id),
            rpc: rpc.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::Image;

    use super::super::topic::{Dynamic, Source as TopicSource};
    use super::*;

    fn minimal(more: &[(&str, &str)]) -> Result<BrokerConfig, ConfigError> {
        let mut properties: Properties = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://127.0.0.1:9092"),
            ("klamm.rpc.token.file", "/tmp/token"),
            ("klamm.cluster.id", "c"),
            ("controller.quorum.voters", "1@127.0.0.1:9095"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        for (key, value) in more {
            properties.insert((*key).to_owned(), (*value).to_owned());
        }
        BrokerConfig::new(properties)
    }

    #[test]
    fn errors_name_key_value_and_remedy() {
        for (key, value, message) in [
            (
                "log.segment.byte",
                "1",
                "unknown configuration key \"log.segment.byte\"; did you mean \"log.segment.bytes\"?",
            ),
            (
                "num.partitions",
                "0",
                "num.partitions=0: must be between 1 and 2147483647",
            ),
            (
                "auto.create.topics.enable",
                "yes",
                "auto.create.topics.enable=yes: must be true or false",
            ),
            (
                "listeners",
                "127.0.0.1:9092",
                "listeners=127.0.0.1:9092: must be of the form NAME://host:port",
            ),
            (
                "listeners",
                "PLAINTEXT://:9092",
                "advertised.listeners=PLAINTEXT://:9092: clients need a host name or address; set advertised.listeners",
            ),
            (
                "advertised.listeners",
                "EXTERNAL://h:1",
                "advertised.listeners=EXTERNAL://h:1: listeners has no EXTERNAL",
            ),
            (
                "controller.quorum.voters",
                "1=h:1",
                "controller.quorum.voters=1=h:1: must be of the form id@host:port",
            ),
            ("klamm.cluster.id", "", "klamm.cluster.id must be set"),
            ("log.dirs", " , ", "log.dirs must be set"),
            (
                "log.dirs",
                "/a,/b,/a/c",
                "log.dirs=/a/c: is within /a or the other way round",
            ),
        ] {
            let error = minimal(&[(key, value)]).expect_err(key);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_metadata_log_is_in_the_first_log_directory_unless_it_has_its_own() {
        let dirs = |settings: &[(&str, &str)]| {
            let config = minimal(settings).unwrap();
            let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
            let log_dirs: Vec<String> = config.log_dirs.iter().map(text).collect();
            (log_dirs.join(" "), text(&config.metadata_dir))
        };
        for (settings, log_dirs, metadata_parent) in [
            (&[][..], "/var/lib/klamm/data", "/var/lib/klamm/data"),
            (&[("log.dir", "/a")], "/a", "/a"),
            (&[("log.dir", "/a"), ("log.dirs", "/b, /c")], "/b /c", "/b"),
            (
                &[("log.dirs", "/b,/c"), ("metadata.log.dir", "/m")],
                "/b /c",
                "/m",
            ),
        ] {
            let expected = (
                log_dirs.to_owned(),
                format!("{metadata_parent}/__cluster_metadata-0"),
            );
            assert_eq!(dirs(settings), expected, "{settings:?}");
        }
    }

    #[test]
    fn a_topics_value_falls_back_to_the_broker_and_then_to_the_default() {
        let config = minimal(&[("log.retention.minutes", "5")]).unwrap();
        let retention = keys::topic_key("retention.ms").unwrap();
        let none = BTreeMap::new();
        assert_eq!(
            config.topic_value(&none, Dynamic::default(), retention),
            (
                "300000".to_owned(),
                TopicSource::Broker("log.retention.minutes")
            )
        );
        let own = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        assert_eq!(
            config.topic_value(&own, Dynamic::default(), retention),
            ("-1".to_owned(), TopicSource::Topic)
        );
        assert_eq!(
            config
                .topic_config(&own, Dynamic::default(), false)
                .log
                .retention_ms,
            None
        );
        let roll = keys::topic_key("segment.ms").unwrap();
        assert_eq!(
            config.topic_value(&none, Dynamic::default(), roll),
            ("604800000".to_owned(), TopicSource::Default)
        );
    }

    #[test]
    fn what_was_set_while_brokers_run_goes_before_their_configuration() {
        let config = minimal(&[("log.retention.hours", "1")]).unwrap();
        let retention = keys::topic_key("retention.ms").unwrap();
        let set =
            |value: &str| BTreeMap::from([("log.retention.minutes".to_owned(), value.to_owned())]);
        let mut image = Image {
            cluster_config: set("2"),
            ..Image::default()
        };
        let none = BTreeMap::new();
        let value =
            |image: &Image| config.topic_value(&none, Dynamic::of(image, BrokerId(1)), retention);
        let default = TopicSource::DynamicDefault("log.retention.minutes");
        assert_eq!(value(&image), ("120000".to_owned(), default));
        image.broker_configs.insert(BrokerId(2), set("3"));
        assert_eq!(value(&image), ("120000".to_owned(), default));
        image.broker_configs.insert(BrokerId(1), set("4"));
        let own = TopicSource::DynamicBroker("log.retention.minutes");
        assert_eq!(value(&image), ("240000".to_owned(), own));
    }
}
