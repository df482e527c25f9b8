//! Topics and configurations.

use std::collections::BTreeMap;

use broker_wire::message::create_partitions::CreatePartitionsTopic;
use broker_wire::message::create_topics::{CreatableTopic, CreatableTopicConfig};
use broker_wire::message::delete_topics::DeleteTopicsRequest;
use broker_wire::message::describe_configs::DescribeConfigsResource;
use broker_wire::message::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use broker_wire::message::{
    CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use broker_wire::{ErrorCode, Str};

use crate::cluster::Cluster;
use crate::error::{ClientError, check};
use crate::offsets::{LogEnd, log_ends};

const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;
const CREATE_PARTITIONS_VERSION: i16 = 2;
const DESCRIBE_CONFIGS_VERSION: i16 = 4;
const ALTER_CONFIGS_VERSION: i16 = 1;
const TIMEOUT_MS: i32 = 30_000;
/// The cluster's own.
const DEFAULT: i32 = -1;

/// A topic to be made.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The cluster's default without.
    pub partitions: Option<i32>,
    /// The cluster's default without.
    pub replicas: Option<i16>,
    /// Keys and values.
    pub configs: Vec<(String, String)>,
}

/// What a configuration belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(i32),
    /// All brokers.
    Cluster,
}

/// A configuration value in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its key.
    pub name: String,
    /// `None` for what is not shown.
    pub value: Option<String>,
    /// Whether it is the default, rather than set for this resource or for all.
    pub is_default: bool,
    /// Whether it can't be changed while brokers run.
    pub read_only: bool,
}

/// A change of a configuration value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Key and value.
    Set(String, String),
    /// The key, which gets back its default.
    Delete(String),
}

impl Cluster {
    /// Makes a topic.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from(name.clone()),
                value: Some(Str::from(value.clone())),
            });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(topic.name.clone()),
                num_partitions: topic.partitions.unwrap_or(DEFAULT),
                replication_factor: topic.replicas.unwrap_or(DEFAULT as i16),
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: TIMEOUT_MS,
            validate_only: false,
        };
        let what = format!("create topic {}", topic.name);
        let answer = self
            .call_controller(CREATE_TOPICS_VERSION, &request)
            .await?;
        answer
            .topics
            .iter()
            .try_for_each(|result| check(&what, result.error_code, result.error_message.as_deref()))
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topic_names: vec![Str::from(topic.to_owned())],
            timeout_ms: TIMEOUT_MS,
            ..DeleteTopicsRequest::default()
        };
        let what = format!("delete topic {topic}");
        let answer = self
            .call_controller(DELETE_TOPICS_VERSION, &request)
            .await?;
        answer
            .responses
            .iter()
            .try_for_each(|result| match result.error_code {
                ErrorCode::UnknownTopicOrPartition => {
                    Err(ClientError::Unknown(format!("topic {topic}")))
                }
                code => check(&what, code, result.error_message.as_deref()),
            })
    }

    /// Gives a topic more partitions. Keys go to other ones from then on.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub async fn add_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::from(topic.to_owned()),
                count,
                assignments: None,
            }],
            timeout_ms: TIMEOUT_MS,
            validate_only: false,
        };
        let what = format!("add partitions to topic {topic}");
        let answer = self
            .call_controller(CREATE_PARTITIONS_VERSION, &request)
            .await?;
        answer
            .results
            .iter()
            .try_for_each(|result| check(&what, result.error_code, result.error_message.as_deref()))
    }

    /// The first and the next offset of partitions, by partition.
    ///
    /// # Errors
    /// When a leader does not answer.
    pub async fn offsets(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, (i64, i64)>, ClientError> {
        let places = || {
            partitions
                .iter()
                .map(|partition| (topic.to_owned(), *partition))
        };
        let starts = log_ends(self, places(), LogEnd::Earliest).await?;
        let ends = log_ends(self, places(), LogEnd::Latest).await?;
        let offsets = starts.into_iter().filter_map(|(place, start)| {
            let end = ends.get(&place)?;
            Some((place.1, (start, *end)))
        });
        Ok(offsets.collect())
    }

    /// The configuration in effect, by key.
    ///
    /// # Errors
    /// When the resource does not exist.
    pub async fn configs(&self, resource: &Resource) -> Result<Vec<Config>, ClientError> {
        /// `DEFAULT_CONFIG` of Kafka's sources.
        const DEFAULT_SOURCE: i8 = 5;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let answer = match resource {
            Resource::Broker(id) => {
                let metadata = self.metadata(Some(&[])).await?;
                let broker = metadata.brokers.get(id);
                let broker = broker.ok_or_else(|| ClientError::Unknown(format!("broker {id}")))?;
                self.call_at(&broker.address, DESCRIBE_CONFIGS_VERSION, &request)
                    .await?
            }
            Resource::Topic(_) | Resource::Cluster => {
                self.call_any(DESCRIBE_CONFIGS_VERSION, &request).await?
            }
        };
        let mut configs = Vec::new();
        for result in answer.results {
            let what = format!("read the configuration of {resource}");
            check(what, result.error_code, result.error_message.as_deref())?;
            configs.extend(result.configs.into_iter().map(|config| Config {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_default: config.config_source == DEFAULT_SOURCE,
                read_only: config.read_only,
            }));
        }
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    /// Changes configuration values, all or none.
    ///
    /// # Errors
    /// When the cluster refuses one of them.
    pub async fn change_configs(
        &self,
        resource: &Resource,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let configs = changes.iter().map(|change| match change {
            ConfigChange::Set(name, value) => AlterableConfig {
                name: Str::from(name.clone()),
                config_operation: SET,
                value: Some(Str::from(value.clone())),
            },
            ConfigChange::Delete(name) => AlterableConfig {
                name: Str::from(name.clone()),
                config_operation: DELETE,
                value: None,
            },
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name(),
                configs: configs.collect(),
            }],
            validate_only: false,
        };
        let what = format!("change the configuration of {resource}");
        let answer = self
            .call_controller(ALTER_CONFIGS_VERSION, &request)
            .await?;
        answer
            .responses
            .iter()
            .try_for_each(|result| check(&what, result.error_code, result.error_message.as_deref()))
    }
}

impl Resource {
    const fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::Cluster => 4,
        }
    }

    /// As the protocol has it: the cluster is a broker without id.
    fn name(&self) -> Str {
        match self {
            Self::Topic(name) => Str::from(name.clone()),
            Self::Broker(id) => Str::from(id.to_string()),
            Self::Cluster => Str::from_static(""),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Cluster => f.write_str("the cluster"),
        }
    }
}
