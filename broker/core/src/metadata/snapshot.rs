//! An image as the shortest list of records that gives it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::image::{BrokerImage, Image, TopicImage};
use super::record::{
    BrokerChange, BrokerEpochs, ClientQuota, Cluster, Config, Evacuation, Feature, OperatorEpoch,
    ProducerIds, Rebalance, Record, RegisterBroker, ResourceType, Topic,
};

impl Image {
    /// Records that give this image when they are applied to an empty one.
    #[must_use]
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.push(Record::Cluster(Cluster {
            cluster_id: self.cluster_id.clone(),
        }));
        records.extend(self.features.iter().map(|(name, level)| {
            Record::Feature(Feature {
                name: name.clone(),
                level: *level,
            })
        }));
        records.push(Record::ProducerIds(ProducerIds {
            next_producer_id: self.next_producer_id.0,
        }));
        records.push(Record::BrokerEpochs(BrokerEpochs {
            last_broker_epoch: self.last_broker_epoch.0,
        }));
        if self.operator_epoch > 0 {
            records.push(Record::OperatorEpoch(OperatorEpoch {
                epoch: self.operator_epoch,
            }));
        }
        for (entity, quotas) in self.client_quotas.iter() {
            records.extend(quotas.iter().map(|(kind, value)| {
                Record::ClientQuota(ClientQuota {
                    entity: entity.clone().into(),
                    key: kind.key().to_string(),
                    value: Some(*value),
                })
            }));
        }
        if self.rebalancing {
            records.push(Record::Rebalance(Rebalance { rebalancing: true }));
        }
        for broker in self.brokers.values() {
            push_broker(&mut records, broker);
        }
        push_config(
            &mut records,
            ResourceType::ClusterDefault,
            "",
            &self.cluster_config,
        );
        for (id, config) in &self.broker_configs {
            push_config(&mut records, ResourceType::Broker, &id.to_string(), config);
        }
        for topic in self.topics.values() {
            push_topic(&mut records, topic);
        }
        records
    }
}

fn push_broker(records: &mut Vec<Record>, broker: &BrokerImage) {
    records.push(Record::RegisterBroker(RegisterBroker {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch.0,
        incarnation: broker.incarnation.clone(),
        version: broker.version.clone(),
        rack: broker.rack.clone(),
        endpoints: broker.endpoints.clone(),
        rpc_host: broker.rpc_host.clone(),
        rpc_port: broker.rpc_port,
        started_at_ms: broker.started_at_ms,
        config_hash: broker.config_hash.clone(),
        metadata_directory_id: broker.metadata_directory.map(Into::into),
        features: broker.features.clone(),
        disks_broker_epoch: broker.unanswered_since.map(|epoch| epoch.0),
    }));
    records.push(Record::BrokerChange(BrokerChange {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch.0,
        fenced: Some(broker.fenced),
        draining: Some(broker.draining),
        cordoned: Some(broker.cordoned),
    }));
    records.extend(broker.restart_lease.map(Record::RestartLease));
    if broker.evacuating {
        records.push(Record::Evacuation(Evacuation {
            broker_id: broker.id.0,
            evacuating: true,
        }));
    }
}

fn push_topic(records: &mut Vec<Record>, topic: &TopicImage) {
    records.push(Record::Topic(Topic {
        topic_id: topic.id.into(),
        name: topic.name.to_string(),
    }));
    push_config(records, ResourceType::Topic, &topic.name, &topic.config);
    records.extend(
        topic
            .iter()
            .map(|(id, partition)| Record::Partition(partition.to_record(id))),
    );
}

fn push_config(
    records: &mut Vec<Record>,
    resource_type: ResourceType,
    name: &str,
    config: &BTreeMap<String, String>,
) {
    records.extend(config.iter().map(|(key, value)| {
        Record::Config(Config {
            resource_type: resource_type.into(),
            resource_name: name.to_string(),
            key: key.clone(),
            value: Some(value.clone()),
        })
    }));
}
