//! Totals over an image, for metrics, placement and the operator.

use alloc::collections::BTreeMap;

use super::image::{Image, TopicImage};
use super::partition::PartitionImage;
use crate::BrokerId;

/// Topic setting and broker default: replicas that must be in sync for `acks=all`.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Totals of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub topics: usize,
    pub partitions: usize,
    /// Partitions without a leader.
    pub offline_partitions: usize,
    /// Partitions whose ISR is smaller than their replica set.
    pub under_replicated_partitions: usize,
    /// Partitions whose ISR is smaller than `min.insync.replicas`.
    pub under_min_isr_partitions: usize,
    /// Partitions led by another replica than the preferred one.
    pub preferred_leader_imbalance: usize,
    /// Every registered broker.
    pub brokers: BTreeMap<BrokerId, BrokerCounts>,
}

/// What a broker carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCounts {
    pub replicas: u32,
    /// Replicas that are in the ISR.
    pub in_sync: u32,
    pub leaders: u32,
    /// Partitions whose preferred leader it is.
    pub preferred: u32,
    /// Partitions whose preferred leader it is, and that it leads.
    pub preferred_led: u32,
}

impl Counts {
    fn count_replicas(&mut self, partition: &PartitionImage) {
        let mut of = |broker: BrokerId, count: fn(&mut BrokerCounts)| {
            count(self.brokers.entry(broker).or_default());
        };
        for replica in &partition.replicas {
            of(*replica, |broker| broker.replicas += 1);
        }
        for member in &partition.isr {
            of(*member, |broker| broker.in_sync += 1);
        }
        if let Some(leader) = partition.leader {
            of(leader, |broker| broker.leaders += 1);
        }
        if let Some(preferred) = partition.preferred_leader() {
            of(preferred, |broker| broker.preferred += 1);
            if partition.leader == Some(preferred) {
                of(preferred, |broker| broker.preferred_led += 1);
            }
        }
    }
}

impl Image {
    /// Counts everything; `min_insync_replicas_default` holds where neither the topic nor the
    /// cluster sets it.
    #[must_use]
    pub fn counts(&self, min_insync_replicas_default: usize) -> Counts {
        let mut counts = Counts {
            topics: self.topics.len(),
            brokers: self
                .brokers
                .keys()
                .map(|id| (*id, BrokerCounts::default()))
                .collect(),
            ..Counts::default()
        };
        for topic in self.topics.values() {
            let min_insync = self.min_insync_replicas(topic, min_insync_replicas_default);
            for partition in &topic.partitions {
                counts.partitions += 1;
                counts.offline_partitions += usize::from(partition.leader.is_none());
                counts.under_replicated_partitions += usize::from(partition.is_under_replicated());
                counts.under_min_isr_partitions += usize::from(partition.isr.len() < min_insync);
                counts.preferred_leader_imbalance +=
                    usize::from(partition.leader != partition.preferred_leader());
                counts.count_replicas(partition);
            }
        }
        counts
    }

    /// The value of `key` that was set for the topic, else for the whole cluster.
    #[must_use]
    pub fn topic_config<'a>(&'a self, topic: &'a TopicImage, key: &str) -> Option<&'a str> {
        topic
            .config
            .get(key)
            .or_else(|| self.cluster_config.get(key))
            .map(|value| value.as_str())
    }

    /// `min.insync.replicas` of the topic, `default` when it is not set.
    #[must_use]
    pub fn min_insync_replicas(&self, topic: &TopicImage, default: usize) -> usize {
        self.topic_config(topic, MIN_INSYNC_REPLICAS)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }
}
