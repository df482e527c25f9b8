//! The state that the metadata log adds up to.
//!
//! An image is cheap to clone: topics and partitions are shared until one of them changes, and two
//! images are compared by pointer ([`super::changes`]).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::partition::{PartitionImage, ReplicaHealth};
use super::record::{
    BrokerChange, ClientQuota, Config, DeleteTopic, Endpoint, Evacuation, Feature, FeatureRange,
    Partition, Record, RegisterBroker, ResourceType, RestartLease, Topic, UnregisterBroker,
};
use crate::client_quota::{ClientQuotas, QuotaKind};
use crate::quorum::DirectoryId;
use crate::{BrokerEpoch, BrokerId, PartitionIndex, ProducerId, TopicId, TopicPartition};

/// Topics whose records brokers themselves write and read.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Whether brokers keep state of their own in the topic.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// State of the cluster after some prefix of the metadata log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Empty until the cluster is initialized.
    pub cluster_id: String,
    pub brokers: BTreeMap<BrokerId, BrokerImage>,
    pub topics: BTreeMap<TopicId, Arc<TopicImage>>,
    pub topic_ids: BTreeMap<Arc<str>, TopicId>,
    pub broker_configs: BTreeMap<BrokerId, BTreeMap<String, String>>,
    /// Defaults of all brokers that were set while running.
    pub cluster_config: BTreeMap<String, String>,
    pub features: BTreeMap<String, u32>,
    pub next_producer_id: ProducerId,
    /// Highest epoch ever given to a broker.
    pub last_broker_epoch: BrokerEpoch,
    /// Of the operator that may change the cluster; 0 before the first one.
    pub operator_epoch: u64,
    /// Limits of clients.
    pub client_quotas: Arc<ClientQuotas>,
    /// Replicas are being moved until every broker has its share.
    pub rebalancing: bool,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// UUID of the broker process.
    pub incarnation: String,
    /// Version of the broker software.
    pub version: String,
    pub rack: Option<String>,
    pub endpoints: Vec<Endpoint>,
    pub rpc_host: String,
    pub rpc_port: u32,
    /// Where the broker's metadata log is: with the id, its identity in the quorum.
    pub metadata_directory: Option<DirectoryId>,
    pub features: Vec<FeatureRange>,
    /// Not alive: neither leads nor is in sync.
    pub fenced: bool,
    /// What the broker's disks may know instead of `epoch`: until it has been active, the answer may
    /// not have reached it.
    pub unanswered_since: Option<BrokerEpoch>,
    /// In controlled shutdown.
    pub draining: bool,
    /// Gets no new replicas.
    pub cordoned: bool,
    /// Its replicas are being moved to other brokers.
    pub evacuating: bool,
    /// Is about to be restarted: stays in sync, but leads only what nobody else can.
    pub restart_lease: Option<RestartLease>,
    /// When the process started, in milliseconds since 1970; 0 when it is not known.
    pub started_at_ms: i64,
    /// Tells one configuration from another; empty when it is not known.
    pub config_hash: String,
}

impl BrokerImage {
    /// Whether the broker may lead partitions and be in sync.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.draining
    }

    /// Whether the broker had everything of its last active registration on disks that know of
    /// `epoch`, if it had it in `epoch`.
    #[must_use]
    pub fn continues(&self, epoch: BrokerEpoch) -> bool {
        self.epoch == epoch || self.unanswered_since == Some(epoch)
    }

    /// Whether the broker may get new replicas once it is active.
    #[must_use]
    pub fn takes_replicas(&self) -> bool {
        !self.cordoned && !self.evacuating
    }

    /// Whether the broker shall lead where another one could.
    #[must_use]
    pub fn is_wanted_as_leader(&self) -> bool {
        self.is_active() && self.restart_lease.is_none()
    }

    /// The address for clients of `listener`.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }
}

/// A topic with its partitions, by index without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<Arc<PartitionImage>>,
    /// Settings that differ from the brokers' defaults.
    pub config: BTreeMap<String, String>,
    pub internal: bool,
}

impl TopicImage {
    /// The partition at `index`.
    #[must_use]
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// The partitions with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &Arc<PartitionImage>)> {
        self.partitions
            .iter()
            .enumerate()
            .map(|(index, state)| (self.partition_id(index), state))
    }

    /// Id of the partition at `index`, whether it exists or not.
    pub(crate) fn partition_id(&self, index: usize) -> TopicPartition {
        let partition = PartitionIndex(i32::try_from(index).expect("partition counts are i32"));
        TopicPartition {
            topic: self.id,
            partition,
        }
    }
}

/// A record that does not fit the image: the log is damaged or of a newer version, and the broker
/// must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The record changes a broker that is not registered under this epoch.
    #[error("metadata record for broker {0}, which is not registered under that epoch")]
    UnknownBroker(BrokerId),
    /// The record changes a topic that does not exist.
    #[error("metadata record for topic {0}, which does not exist")]
    UnknownTopic(TopicId),
    /// The record configures a topic that does not exist.
    #[error("metadata record configures {0:?}, which does not exist")]
    UnknownResource(String),
    /// The record makes a topic with an id or name that is in use.
    #[error("metadata record for topic {0:?}, which exists already")]
    TopicExists(String),
    /// The record adds a partition that does not follow the last one.
    #[error("metadata record for partition {0} leaves a gap")]
    PartitionGap(TopicPartition),
    /// The record limits clients in a way that this version does not know.
    #[error("metadata record has the client quota {0:?}, unknown to this version")]
    UnknownQuota(String),
    /// The record configures a kind of resource that this version does not know.
    #[error("metadata record configures resource type {0}, unknown to this version")]
    UnknownResourceType(i32),
}

impl Image {
    /// Takes the change that `record` describes.
    ///
    /// # Errors
    /// When the record cannot follow the ones before; the image is unchanged then.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Cluster(cluster) => self.cluster_id.clone_from(&cluster.cluster_id),
            Record::Feature(feature) => self.apply_feature(feature),
            Record::RegisterBroker(registration) => self.apply_registration(registration),
            Record::BrokerChange(change) => self.apply_broker_change(change)?,
            Record::UnregisterBroker(broker) => self.apply_unregister(broker)?,
            Record::Topic(topic) => self.apply_topic(topic)?,
            Record::DeleteTopic(topic) => self.apply_delete_topic(topic)?,
            Record::Partition(partition) => self.apply_partition(partition)?,
            Record::Config(config) => self.apply_config(config)?,
            Record::ProducerIds(ids) => self.next_producer_id = ProducerId(ids.next_producer_id),
            Record::BrokerEpochs(epochs) => self.raise_broker_epoch(epochs.last_broker_epoch),
            Record::RestartLease(lease) => self.apply_restart_lease(*lease)?,
            Record::Evacuation(evacuation) => self.apply_evacuation(*evacuation)?,
            Record::OperatorEpoch(operator) => self.operator_epoch = operator.epoch,
            Record::ClientQuota(quota) => self.apply_client_quota(quota)?,
            Record::Rebalance(record) => self.rebalancing = record.rebalancing,
        }
        Ok(())
    }

    /// The topic called `name`.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The partition, when it exists.
    #[must_use]
    pub fn partition(&self, id: TopicPartition) -> Option<&Arc<PartitionImage>> {
        self.topics.get(&id.topic)?.partition(id.partition)
    }

    /// All partitions of all topics, by topic id and index.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Arc<PartitionImage>)> {
        self.topics.values().flat_map(|topic| topic.iter())
    }

    /// Whether `broker` is registered and may lead partitions and be in sync.
    #[must_use]
    pub fn is_active(&self, broker: BrokerId) -> bool {
        self.brokers
            .get(&broker)
            .is_some_and(BrokerImage::is_active)
    }

    /// Whether `broker` is registered and shall lead where another one could.
    #[must_use]
    pub fn is_wanted_as_leader(&self, broker: BrokerId) -> bool {
        self.brokers
            .get(&broker)
            .is_some_and(BrokerImage::is_wanted_as_leader)
    }

    /// Whether `broker` is registered under `epoch`.
    #[must_use]
    pub fn is_registered(&self, broker: BrokerId, epoch: BrokerEpoch) -> bool {
        self.brokers
            .get(&broker)
            .is_some_and(|registered| registered.epoch == epoch)
    }

    /// Partitions that `broker` leads and that another live replica can take over, now or once it
    /// has caught up. A broker that stops waits for these; the others lose their leader whatever
    /// it does.
    #[must_use]
    pub fn leaders_to_hand_over(&self, broker: BrokerId) -> usize {
        self.partitions()
            .filter(|(_, state)| state.leader == Some(broker))
            .filter(|(_, state)| {
                state
                    .replicas
                    .iter()
                    .filter(|id| state.health(**id) != ReplicaHealth::Offline)
                    .any(|id| *id != broker && self.is_active(*id))
            })
            .count()
    }

    fn apply_feature(&mut self, feature: &Feature) {
        if feature.level == 0 {
            self.features.remove(&feature.name);
        } else {
            self.features.insert(feature.name.clone(), feature.level);
        }
    }

    fn apply_registration(&mut self, registration: &RegisterBroker) {
        let id = BrokerId(registration.broker_id);
        let known = self.brokers.get(&id);
        let cordoned = known.is_some_and(|broker| broker.cordoned);
        let evacuating = known.is_some_and(|broker| broker.evacuating);
        self.raise_broker_epoch(registration.broker_epoch);
        self.brokers.insert(
            id,
            BrokerImage {
                id,
                epoch: BrokerEpoch(registration.broker_epoch),
                incarnation: registration.incarnation.clone(),
                version: registration.version.clone(),
                rack: registration.rack.clone(),
                endpoints: registration.endpoints.clone(),
                rpc_host: registration.rpc_host.clone(),
                rpc_port: registration.rpc_port,
                metadata_directory: registration.metadata_directory_id.map(DirectoryId::from),
                features: registration.features.clone(),
                fenced: true,
                unanswered_since: registration.disks_broker_epoch.map(BrokerEpoch),
                draining: false,
                cordoned,
                evacuating,
                restart_lease: None,
                started_at_ms: registration.started_at_ms,
                config_hash: registration.config_hash.clone(),
            },
        );
    }

    fn raise_broker_epoch(&mut self, epoch: i64) {
        self.last_broker_epoch = self.last_broker_epoch.max(BrokerEpoch(epoch));
    }

    fn apply_broker_change(&mut self, change: &BrokerChange) -> Result<(), ApplyError> {
        let broker = self.registered(change.broker_id, change.broker_epoch)?;
        broker.fenced = change.fenced.unwrap_or(broker.fenced);
        broker.unanswered_since = broker.unanswered_since.filter(|_| broker.fenced);
        broker.draining = change.draining.unwrap_or(broker.draining);
        broker.cordoned = change.cordoned.unwrap_or(broker.cordoned);
        Ok(())
    }

    fn apply_restart_lease(&mut self, lease: RestartLease) -> Result<(), ApplyError> {
        let broker = self.registered(lease.broker_id, lease.broker_epoch)?;
        broker.restart_lease = (lease.ttl_ms > 0).then_some(lease);
        Ok(())
    }

    fn apply_evacuation(&mut self, record: Evacuation) -> Result<(), ApplyError> {
        let id = BrokerId(record.broker_id);
        let broker = self.brokers.get_mut(&id);
        broker.ok_or(ApplyError::UnknownBroker(id))?.evacuating = record.evacuating;
        Ok(())
    }

    fn registered(&mut self, broker_id: i32, epoch: i64) -> Result<&mut BrokerImage, ApplyError> {
        let id = BrokerId(broker_id);
        self.brokers
            .get_mut(&id)
            .filter(|broker| broker.epoch.0 == epoch)
            .ok_or(ApplyError::UnknownBroker(id))
    }

    fn apply_unregister(&mut self, record: &UnregisterBroker) -> Result<(), ApplyError> {
        let id = BrokerId(record.broker_id);
        self.brokers
            .remove(&id)
            .ok_or(ApplyError::UnknownBroker(id))?;
        self.broker_configs.remove(&id);
        Ok(())
    }

    fn apply_client_quota(&mut self, record: &ClientQuota) -> Result<(), ApplyError> {
        let kind = QuotaKind::from_key(&record.key);
        let kind = kind.ok_or_else(|| ApplyError::UnknownQuota(record.key.clone()))?;
        let quotas = Arc::make_mut(&mut self.client_quotas);
        quotas.set(record.entity.clone().into(), kind, record.value);
        Ok(())
    }

    fn apply_topic(&mut self, record: &Topic) -> Result<(), ApplyError> {
        let id = TopicId::from(record.topic_id);
        if self.topics.contains_key(&id) || self.topic_ids.contains_key(record.name.as_str()) {
            return Err(ApplyError::TopicExists(record.name.clone()));
        }
        let name: Arc<str> = Arc::from(record.name.as_str());
        self.topic_ids.insert(Arc::clone(&name), id);
        let topic = TopicImage {
            id,
            internal: is_internal_topic(&name),
            name,
            partitions: Vec::new(),
            config: BTreeMap::new(),
        };
        self.topics.insert(id, Arc::new(topic));
        Ok(())
    }

    fn apply_delete_topic(&mut self, record: &DeleteTopic) -> Result<(), ApplyError> {
        let id = TopicId::from(record.topic_id);
        let topic = self
            .topics
            .remove(&id)
            .ok_or(ApplyError::UnknownTopic(id))?;
        self.topic_ids.remove(&topic.name);
        Ok(())
    }

    fn apply_partition(&mut self, record: &Partition) -> Result<(), ApplyError> {
        let id = TopicPartition {
            topic: record.topic_id.into(),
            partition: PartitionIndex(record.partition),
        };
        let topic = self
            .topics
            .get_mut(&id.topic)
            .ok_or(ApplyError::UnknownTopic(id.topic))?;
        let index = usize::try_from(record.partition)
            .ok()
            .filter(|index| *index <= topic.partitions.len())
            .ok_or(ApplyError::PartitionGap(id))?;
        let state = Arc::new(PartitionImage::from(record));
        let partitions = &mut Arc::make_mut(topic).partitions;
        if index == partitions.len() {
            partitions.push(state);
        } else {
            partitions[index] = state;
        }
        Ok(())
    }

    fn apply_config(&mut self, record: &Config) -> Result<(), ApplyError> {
        let name = record.resource_name.as_str();
        let unknown = || ApplyError::UnknownResource(name.to_string());
        match record.resource_type() {
            ResourceType::Topic => {
                let id = self.topic_ids.get(name).ok_or_else(unknown)?;
                let topic = self.topics.get_mut(id).ok_or_else(unknown)?;
                set(&mut Arc::make_mut(topic).config, record);
            }
            ResourceType::Broker => {
                let id = BrokerId(name.parse().map_err(|_| unknown())?);
                let config = self.broker_configs.entry(id).or_default();
                set(config, record);
                if config.is_empty() {
                    self.broker_configs.remove(&id);
                }
            }
            ResourceType::ClusterDefault => set(&mut self.cluster_config, record),
            ResourceType::Unknown => {
                return Err(ApplyError::UnknownResourceType(record.resource_type));
            }
        }
        Ok(())
    }
}

fn set(config: &mut BTreeMap<String, String>, record: &Config) {
    match &record.value {
        Some(value) => config.insert(record.key.clone(), value.clone()),
        None => config.remove(&record.key),
    };
}
