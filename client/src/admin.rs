//! Topics, groups and configurations.

use std::collections::BTreeMap;

use broker_wire::message::create_partitions::CreatePartitionsTopic;
use broker_wire::message::create_topics::{CreatableTopic, CreatableTopicConfig};
use broker_wire::message::delete_topics::DeleteTopicsRequest;
use broker_wire::message::describe_configs::DescribeConfigsResource;
use broker_wire::message::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use broker_wire::message::{
    CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    IncrementalAlterConfigsRequest, ListGroupsRequest, OffsetFetchRequest,
};
use broker_wire::{ErrorCode, Str};

use crate::assignment::decode_assignment;
use crate::cluster::{Cluster, retry};
use crate::error::{ClientError, check};
use crate::offsets::log_ends;

const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;
const CREATE_PARTITIONS_VERSION: i16 = 2;
const LIST_GROUPS_VERSION: i16 = 4;
const DESCRIBE_GROUPS_VERSION: i16 = 5;
const OFFSET_FETCH_VERSION: i16 = 7;
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

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, …
    pub state: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Where it is connected from.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<(String, i32)>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub committed: i64,
    /// The next offset to be written.
    pub end: i64,
    /// Who reads it.
    pub member: Option<String>,
}

impl GroupOffset {
    /// Records that are not read yet.
    #[must_use]
    pub const fn lag(&self) -> i64 {
        let lag = self.end - self.committed;
        if lag < 0 { 0 } else { lag }
    }
}

/// A group with members and offsets.
#[derive(Clone, Debug)]
pub struct GroupDetail {
    /// `Stable`, `Empty`, `PreparingRebalance`, …
    pub state: String,
    /// By id.
    pub members: Vec<GroupMember>,
    /// By topic and partition.
    pub offsets: Vec<GroupOffset>,
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

    /// The first and the next offset of a partition.
    ///
    /// # Errors
    /// When its leader does not answer.
    pub async fn offsets(&self, topic: &str, partition: i32) -> Result<(i64, i64), ClientError> {
        log_ends(self, &(topic.to_owned(), partition)).await
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// When a broker does not answer: its groups would be missing.
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        let request = ListGroupsRequest::default();
        let mut groups = BTreeMap::new();
        for broker in self.metadata(Some(&[])).await?.brokers.values() {
            let what = format!("list the groups of broker {}", broker.id);
            let answer = retry(&what, async || {
                let call = self.call_at(&broker.address, LIST_GROUPS_VERSION, &request);
                let answer = call.await?;
                check(&what, answer.error_code, None)?;
                Ok(answer)
            })
            .await?;
            for group in answer.groups {
                groups.insert(group.group_id.to_string(), group.group_state.to_string());
            }
        }
        let groups = groups.into_iter();
        Ok(groups.map(|(name, state)| Group { name, state }).collect())
    }

    /// Who is in a group, and how far it is.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn group(&self, group: &str) -> Result<GroupDetail, ClientError> {
        let coordinator = self.coordinator(group).await?;
        let what = format!("describe group {group}");
        let request = DescribeGroupsRequest {
            groups: vec![Str::from(group.to_owned())],
            ..DescribeGroupsRequest::default()
        };
        let call = self.call_at(&coordinator.address, DESCRIBE_GROUPS_VERSION, &request);
        let mut described = call.await?.groups.into_iter();
        let described = described
            .next()
            .ok_or_else(|| ClientError::Unknown(format!("group {group}")))?;
        check(
            &what,
            described.error_code,
            described.error_message.as_deref(),
        )?;
        let members = described.members.into_iter().map(|member| {
            let assignment = decode_assignment(member.member_assignment).unwrap_or_default();
            let partitions = assignment.into_iter().flat_map(|(topic, partitions)| {
                partitions
                    .into_iter()
                    .map(move |partition| (topic.clone(), partition))
            });
            GroupMember {
                id: member.member_id.to_string(),
                client_id: member.client_id.to_string(),
                host: member.client_host.to_string(),
                partitions: partitions.collect(),
            }
        });
        let members: Vec<_> = members.collect();
        let offsets = self
            .group_offsets(group, &coordinator.address, &members)
            .await?;
        let state = described.group_state.to_string();
        if state == "Dead" && offsets.is_empty() {
            return Err(ClientError::Unknown(format!("group {group}")));
        }
        Ok(GroupDetail {
            state,
            members,
            offsets,
        })
    }

    async fn group_offsets(
        &self,
        group: &str,
        coordinator: &str,
        members: &[GroupMember],
    ) -> Result<Vec<GroupOffset>, ClientError> {
        let request = OffsetFetchRequest {
            group_id: Str::from(group.to_owned()),
            topics: None,
            ..OffsetFetchRequest::default()
        };
        let answer = self
            .call_at(coordinator, OFFSET_FETCH_VERSION, &request)
            .await?;
        check(
            format!("read the offsets of group {group}"),
            answer.error_code,
            None,
        )?;
        let mut offsets = Vec::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                let reader = members
                    .iter()
                    .find(|member| member.partitions.contains(&place));
                let end = match log_ends(self, &place).await {
                    Ok((_, end)) => end,
                    // The topic is gone; its offsets expire.
                    Err(ClientError::Unknown(_)) => continue,
                    Err(error) => return Err(error),
                };
                offsets.push(GroupOffset {
                    topic: place.0,
                    partition: place.1,
                    committed: partition.committed_offset,
                    end,
                    member: reader.map(|member| member.id.clone()),
                });
            }
        }
        offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(offsets)
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
