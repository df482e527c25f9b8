//! DescribeConfigs: the settings of topics and of this broker, and where each value comes from.
//!
//! Each setting comes with all its synonyms, defaults included: clients that have no
//! IncrementalAlterConfigs read all of them to write all of them back.

use std::collections::{BTreeMap, HashSet};

use broker_core::metadata::Image;
use broker_wire::message::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
    DescribeConfigsSynonym,
};
use broker_wire::message::{DescribeConfigsRequest, DescribeConfigsResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, outcome};
use crate::config::keys::{self, BrokerKey, Kind, TopicKey};
use crate::config::{BrokerConfig, Dynamic, Source};

/// Resources that one request may name.
const RESOURCES_MAX: usize = 10_000;
const TOO_MANY_RESOURCES: &str = "a request may describe 10000 resources; send several";

/// `ConfigResource.Type` of a topic.
pub(super) const TOPIC: i8 = 2;
/// `ConfigResource.Type` of a broker, or with an empty name of the default of all brokers.
pub(super) const BROKER: i8 = 4;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_BROKER: i8 = 2;
const SOURCE_DYNAMIC_DEFAULT: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut seen = HashSet::new();
    let results = request.resources.iter().map(|resource| {
        let is_new = seen.insert((resource.resource_type, resource.resource_name.as_str()));
        let described = if !is_new {
            Err(invalid("the request names the resource twice"))
        } else if seen.len() > RESOURCES_MAX {
            Err(invalid(TOO_MANY_RESOURCES))
        } else {
            describe(ctx, resource, &request)
        };
        let (configs, refusal) = match described {
            Ok(configs) => (configs, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let (error_code, error_message) = outcome(refusal);
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        }
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..DescribeConfigsResponse::default()
    }
}

/// `ConfigSource` of a topic's value.
pub(super) const fn source_code(source: Source) -> i8 {
    match source {
        Source::Topic => SOURCE_TOPIC,
        Source::DynamicBroker(_) => SOURCE_DYNAMIC_BROKER,
        Source::DynamicDefault(_) => SOURCE_DYNAMIC_DEFAULT,
        Source::Broker(_) => SOURCE_STATIC_BROKER,
        Source::Default => SOURCE_DEFAULT,
    }
}

fn invalid(message: impl Into<Str>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn describe(
    ctx: &Context,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = resource.resource_name.as_str();
    let image = ctx.image();
    let describer = Describer {
        config: &ctx.config,
        dynamic: Dynamic::of(&image, ctx.config.id),
        request,
        resource,
    };
    match resource.resource_type {
        TOPIC => match image.topic_by_name(name) {
            Some(topic) => Ok(describer.topic(&topic.config)),
            None => Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("no topic is called {name:?}"),
            )),
        },
        BROKER if name.is_empty() => Ok(describer.all_brokers(&image)),
        BROKER if name == ctx.config.id.to_string() => {
            let mut described = describer.broker();
            described.extend(describer.running_broker());
            Ok(described)
        }
        BROKER => Err(invalid(format!(
            "this is broker {}; ask broker {name:?} for its configuration",
            ctx.config.id
        ))),
        other => Err(invalid(format!(
            "resources of type {other} have no configuration here"
        ))),
    }
}

/// Describes one resource as the request wants it.
struct Describer<'a> {
    config: &'a BrokerConfig,
    dynamic: Dynamic<'a>,
    request: &'a DescribeConfigsRequest,
    resource: &'a DescribeConfigsResource,
}

impl Describer<'_> {
    fn topic(&self, overrides: &BTreeMap<String, String>) -> Vec<DescribeConfigsResourceResult> {
        let keys = keys::TOPIC_KEYS.iter().filter(|key| self.wants(key.name));
        let describe = |key: &TopicKey| {
            let (value, source) = self.config.topic_value(overrides, self.dynamic, key);
            DescribeConfigsResourceResult {
                value: Some(value.into()),
                config_source: source_code(source),
                synonyms: self.synonyms(|| self.topic_synonyms(overrides, key)),
                ..self.entry(key.name, key.kind, key.doc)
            }
        };
        keys.map(describe).collect()
    }

    fn broker(&self) -> Vec<DescribeConfigsResourceResult> {
        let keys = keys::BROKER_KEYS.iter().filter(|key| self.wants(key.name));
        keys.map(|key| self.broker_key(key)).collect()
    }

    /// What has no place in the broker's configuration, only in what is set while it runs.
    fn running_broker(&self) -> Vec<DescribeConfigsResourceResult> {
        let keys = keys::DYNAMIC_BROKER_KEYS.iter();
        let keys = keys.filter(|key| self.wants(key.name));
        keys.map(|key| self.broker_key(key)).collect()
    }

    fn broker_key(&self, key: &BrokerKey) -> DescribeConfigsResourceResult {
        let synonyms = self.broker_synonyms(&[key.name]);
        let first = synonyms.first();
        DescribeConfigsResourceResult {
            value: first.and_then(|first| first.value.clone()),
            read_only: keys::dynamic_broker_key(key.name).is_none(),
            config_source: first.map_or(SOURCE_DEFAULT, |first| first.source),
            synonyms: self.synonyms(|| synonyms.clone()),
            ..self.entry(key.name, key.kind, key.doc)
        }
    }

    /// What is set for all brokers while they run.
    fn all_brokers(&self, image: &Image) -> Vec<DescribeConfigsResourceResult> {
        let set = image.cluster_config.iter();
        let keys = set.filter_map(|(name, value)| Some((keys::dynamic_broker_key(name)?, value)));
        let keys = keys.filter(|(key, _)| self.wants(key.name));
        let describe = |(key, value): (&BrokerKey, &String)| {
            let set = synonym(key.name, value, SOURCE_DYNAMIC_DEFAULT);
            DescribeConfigsResourceResult {
                value: set.value.clone(),
                config_source: SOURCE_DYNAMIC_DEFAULT,
                synonyms: self.synonyms(|| vec![set]),
                ..self.entry(key.name, key.kind, key.doc)
            }
        };
        keys.map(describe).collect()
    }

    fn topic_synonyms(
        &self,
        overrides: &BTreeMap<String, String>,
        key: &TopicKey,
    ) -> Vec<DescribeConfigsSynonym> {
        let own = overrides
            .get(key.name)
            .map(|value| synonym(key.name, value, SOURCE_TOPIC));
        let fallbacks: Vec<_> = key.fallbacks.iter().map(|(name, _)| *name).collect();
        let default = key
            .default
            .map(|default| synonym(key.name, default, SOURCE_DEFAULT));
        own.into_iter()
            .chain(self.broker_synonyms(&fallbacks))
            .chain(default)
            .collect()
    }

    /// What is set for the broker under any of these names, the most specific name first, then
    /// their built-in defaults; each in the unit of its own name.
    fn broker_synonyms(&self, names: &[&'static str]) -> Vec<DescribeConfigsSynonym> {
        let set = names.iter().flat_map(|name| {
            let running = self.dynamic.values(name);
            let running = running.map(|(value, source)| synonym(name, value, source_code(source)));
            let own = self.config.properties().get(*name);
            running.chain(own.map(|value| synonym(name, value, SOURCE_STATIC_BROKER)))
        });
        let defaults = names.iter().filter_map(|name| {
            let value = default_of(name)?;
            Some(synonym(name, value, SOURCE_DEFAULT))
        });
        set.chain(defaults).collect()
    }

    fn wants(&self, name: &str) -> bool {
        match self.resource.configuration_keys.as_deref() {
            None | Some([]) => true,
            Some(keys) => keys.iter().any(|key| key == name),
        }
    }

    fn synonyms(
        &self,
        make: impl FnOnce() -> Vec<DescribeConfigsSynonym>,
    ) -> Vec<DescribeConfigsSynonym> {
        if self.request.include_synonyms {
            make()
        } else {
            Vec::new()
        }
    }

    fn entry(
        &self,
        name: &'static str,
        kind: Kind,
        doc: &'static str,
    ) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult {
            name: name.into(),
            config_type: type_code(kind),
            is_sensitive: kind == Kind::Password,
            documentation: self.request.include_documentation.then(|| doc.into()),
            ..DescribeConfigsResourceResult::default()
        }
    }
}

fn is_secret(name: &str) -> bool {
    keys::broker_key(name).is_some_and(|key| key.kind == Kind::Password)
}

fn default_of(name: &str) -> Option<&'static str> {
    let key = keys::broker_key(name).or_else(|| keys::dynamic_broker_key(name));
    key?.default
}

fn synonym(name: &'static str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: name.into(),
        value: (!is_secret(name)).then(|| value.to_owned().into()),
        source,
    }
}

/// `ConfigDef.Type`.
const fn type_code(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Int { .. } => 3,
        Kind::Long { .. } => 5,
        Kind::Ratio => 6,
        Kind::List | Kind::SomeOf(_) | Kind::ThrottledReplicas => 7,
        Kind::Password => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Properties;

    fn config(more: &[(&str, &str)]) -> BrokerConfig {
        let required = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://127.0.0.1:9092"),
            ("klamm.rpc.token.file", "/tmp/token"),
            ("klamm.cluster.id", "c"),
            ("controller.quorum.voters", "1@127.0.0.1:9095"),
        ];
        let all = required.iter().chain(more);
        let properties: Properties = all
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        BrokerConfig::new(properties).unwrap()
    }

    fn told(result: &DescribeConfigsResourceResult) -> (String, i8, Vec<(String, String, i8)>) {
        let synonyms = result.synonyms.iter().map(|synonym| {
            let value = synonym.value.as_ref().unwrap();
            (synonym.name.to_string(), value.to_string(), synonym.source)
        });
        (
            result.value.as_ref().unwrap().to_string(),
            result.config_source,
            synonyms.collect(),
        )
    }

    fn one_topic_key(
        config: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
        key: &'static str,
    ) -> (String, i8, Vec<(String, String, i8)>) {
        let request = DescribeConfigsRequest {
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let resource = DescribeConfigsResource {
            configuration_keys: Some(vec![key.into(), "no.such.key".into()]),
            ..DescribeConfigsResource::default()
        };
        let described = Describer {
            config,
            dynamic: Dynamic::default(),
            request: &request,
            resource: &resource,
        }
        .topic(overrides);
        assert_eq!(described.len(), 1);
        told(&described[0])
    }

    fn expected(
        value: &str,
        source: i8,
        synonyms: &[(&str, &str, i8)],
    ) -> (String, i8, Vec<(String, String, i8)>) {
        let synonyms = synonyms
            .iter()
            .map(|(name, value, source)| ((*name).to_owned(), (*value).to_owned(), *source));
        (value.to_owned(), source, synonyms.collect())
    }

    #[test]
    fn a_topics_value_comes_with_all_that_it_overrides() {
        let (plain, none) = (config(&[]), BTreeMap::new());
        let default = ("log.retention.hours", "168", 5);
        assert_eq!(
            one_topic_key(&plain, &none, "retention.ms"),
            expected("604800000", 5, &[default])
        );
        let minutes = config(&[("log.retention.minutes", "5")]);
        let set = ("log.retention.minutes", "5", 4);
        assert_eq!(
            one_topic_key(&minutes, &none, "retention.ms"),
            expected("300000", 4, &[set, default])
        );
        let own = BTreeMap::from([("retention.ms".to_owned(), "7".to_owned())]);
        assert_eq!(
            one_topic_key(&minutes, &own, "retention.ms"),
            expected("7", 1, &[("retention.ms", "7", 1), set, default])
        );
    }

    #[test]
    fn what_is_set_while_brokers_run_goes_before_what_is_set_for_all() {
        let config = config(&[]);
        let key = keys::LEADER_THROTTLED_RATE;
        let set = |rate: &str| BTreeMap::from([(key.to_owned(), rate.to_owned())]);
        let image = Image {
            broker_configs: BTreeMap::from([(config.id, set("7"))]),
            cluster_config: set("9"),
            ..Image::default()
        };
        let request = DescribeConfigsRequest {
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let resource = DescribeConfigsResource {
            configuration_keys: Some(vec![key.into()]),
            ..DescribeConfigsResource::default()
        };
        let describer = |dynamic| Describer {
            config: &config,
            dynamic,
            request: &request,
            resource: &resource,
        };
        let unset = describer(Dynamic::default());
        let describer = describer(Dynamic::of(&image, config.id));
        let default = (key, "9223372036854775807", 5);
        assert_eq!(
            told(&describer.running_broker()[0]),
            expected("7", 2, &[(key, "7", 2), (key, "9", 3), default])
        );
        assert_eq!(
            told(&describer.all_brokers(&image)[0]),
            expected("9", 3, &[(key, "9", 3)])
        );
        assert_eq!(
            told(&unset.running_broker()[0]),
            expected("9223372036854775807", 5, &[default])
        );
        assert_eq!(unset.all_brokers(&Image::default()), []);
    }

    #[test]
    fn secrets_are_not_told() {
        let config = config(&[("ssl.keystore.key", "a private key")]);
        let request = DescribeConfigsRequest {
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let resource = DescribeConfigsResource {
            configuration_keys: Some(vec!["ssl.keystore.key".into()]),
            ..DescribeConfigsResource::default()
        };
        let described = Describer {
            config: &config,
            dynamic: Dynamic::default(),
            request: &request,
            resource: &resource,
        }
        .broker();
        let [key] = &described[..] else {
            panic!("{described:?}");
        };
        assert!(key.is_sensitive && key.config_type == 9);
        assert_eq!(key.value, None);
        assert!(key.synonyms.iter().all(|synonym| synonym.value.is_none()));
        assert_eq!(key.config_source, SOURCE_STATIC_BROKER);
    }

    #[test]
    fn all_keys_are_told_with_type_and_on_request_documentation() {
        let config = config(&[("num.partitions", "3")]);
        let request = DescribeConfigsRequest {
            include_documentation: true,
            ..DescribeConfigsRequest::default()
        };
        let resource = DescribeConfigsResource {
            configuration_keys: Some(Vec::new()),
            ..DescribeConfigsResource::default()
        };
        let describer = Describer {
            config: &config,
            dynamic: Dynamic::default(),
            request: &request,
            resource: &resource,
        };
        let broker = describer.broker();
        assert_eq!(broker.len(), keys::BROKER_KEYS.len());
        assert!(broker.iter().all(|entry| entry.documentation.is_some()));
        let dynamic = broker.iter().filter(|entry| !entry.read_only);
        let dynamic: Vec<_> = dynamic.map(|entry| entry.name.to_string()).collect();
        assert!(dynamic.contains(&"log.retention.ms".to_owned()));
        assert!(!dynamic.contains(&"num.partitions".to_owned()));
        let partitions = broker
            .iter()
            .find(|entry| entry.name == "num.partitions")
            .unwrap();
        assert_eq!(
            told(partitions),
            expected("3", 4, &[]),
            "synonyms are not asked for"
        );
        assert_eq!(partitions.config_type, 3);
        let unset = broker
            .iter()
            .find(|entry| entry.name == "broker.rack")
            .unwrap();
        assert_eq!((unset.value.as_ref(), unset.config_source), (None, 5));
        let topic = describer.topic(&BTreeMap::new());
        assert_eq!(topic.len(), keys::TOPIC_KEYS.len());
        assert!(
            topic
                .iter()
                .all(|entry| !entry.read_only && entry.config_type != 0)
        );
    }
}
