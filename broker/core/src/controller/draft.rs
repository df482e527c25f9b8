//! A decision in the making: the image with the records decided so far.

use alloc::vec::Vec;

use super::command::BrokerRef;
use super::context::Defaults;
use super::election::{Lossy, Rules, Settlement, is_unclean, settle};
use super::error::{CommandError, Failure};
use crate::metadata::{BrokerImage, Image, PartitionImage, Record, TopicImage};
use crate::{BrokerEpoch, BrokerId, TopicPartition};

/// Topic setting and broker default: elect replicas that may lack acknowledged records.
pub(super) const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

/// Partitions that one decision brings in line with the brokers' states. Their records fit into one
/// log entry many times over, and clients of the first need not wait for those of the last.
pub(super) const SETTLED_PER_DECISION_MAX: usize = 10_000;

pub(super) struct Draft {
    image: Image,
    records: Vec<Record>,
    settled: usize,
    unfinished: bool,
    /// Counts as fenced, although it is not yet.
    gone: Option<BrokerId>,
    unclean_elections: Vec<(TopicPartition, BrokerId)>,
    pub(super) defaults: Defaults,
}

impl Draft {
    pub(super) fn new(image: &Image, defaults: Defaults) -> Self {
        Self {
            image: image.clone(),
            records: Vec::new(),
            settled: 0,
            unfinished: false,
            gone: None,
            unclean_elections: Vec::new(),
            defaults,
        }
    }

    /// The image with all records so far.
    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn push(&mut self, record: Record) {
        self.image
            .apply(&record)
            .expect("a record is decided on the image it applies to");
        self.records.push(record);
    }

    /// Forgets all records, for a decision that is an answer only. The image stays changed.
    pub(super) fn discard_records(&mut self) {
        self.records.clear();
        self.unclean_elections.clear();
    }

    pub(super) fn take_records(&mut self) -> Vec<Record> {
        core::mem::take(&mut self.records)
    }

    /// The broker, when it is registered under that epoch.
    pub(super) fn registered(&self, broker: BrokerRef) -> Result<&BrokerImage, Failure> {
        let id = BrokerId(broker.broker_id);
        self.image
            .brokers
            .get(&id)
            .filter(|registered| registered.epoch == BrokerEpoch(broker.broker_epoch))
            .ok_or_else(|| {
                Failure::new(
                    CommandError::StaleBrokerEpoch,
                    alloc::format!(
                        "broker {id} is not registered under epoch {}; register again",
                        broker.broker_epoch
                    ),
                )
            })
    }

    /// Decides from here on as if `broker` were fenced.
    pub(super) fn count_out(&mut self, broker: BrokerId) {
        self.gone = Some(broker);
    }

    /// Whether partitions are left for another decision of the same command.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Brings the partitions for which `wanted` holds in line with the brokers' states, as many as
    /// one decision may change.
    pub(super) fn settle_partitions(
        &mut self,
        wanted: impl Fn(&PartitionImage) -> bool,
        lost: Option<Lossy>,
    ) {
        let ids: Vec<TopicPartition> = self
            .image
            .partitions()
            .filter(|(_, partition)| wanted(partition))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            let Some(partition) = self.image.partition(id) else {
                continue;
            };
            let settlement = Settlement {
                isr: partition.isr.clone(),
                lost,
            };
            if self.settled == SETTLED_PER_DECISION_MAX {
                self.unfinished = true;
                return;
            }
            let records = self.records.len();
            self.settle(id, settlement);
            self.settled += self.records.len() - records;
        }
    }

    /// Gives a partition the ISR of `settlement`, less those that may not be in it, and a leader.
    pub(super) fn settle(&mut self, id: TopicPartition, settlement: Settlement) {
        let Some(topic) = self.image.topics.get(&id.topic) else {
            return;
        };
        let Some(partition) = topic.partition(id.partition) else {
            return;
        };
        let isr = settlement.isr.clone();
        if let Some(next) = settle(partition, settlement, &self.rules(topic)) {
            let unclean = is_unclean(partition, &isr, &next);
            self.push(Record::Partition(next.to_record(id)));
            self.note_election(id, next.leader.filter(|_| unclean));
        }
    }

    /// Remembers a leader that was elected uncleanly.
    pub(super) fn note_election(&mut self, id: TopicPartition, unclean: Option<BrokerId>) {
        self.unclean_elections
            .extend(unclean.map(|leader| (id, leader)));
    }

    pub(super) fn take_unclean_elections(&mut self) -> Vec<(TopicPartition, BrokerId)> {
        core::mem::take(&mut self.unclean_elections)
    }

    /// The rules by which a partition of the topic gets its leader.
    pub(super) fn rules<'a>(&'a self, topic: &'a TopicImage) -> Rules<'a> {
        let unclean_leader_election = self
            .image
            .topic_config(topic, UNCLEAN_LEADER_ELECTION)
            .map_or(self.defaults.unclean_leader_election, |value| {
                value == "true"
            });
        Rules {
            brokers: &self.image.brokers,
            gone: self.gone,
            min_insync_replicas: self
                .image
                .min_insync_replicas(topic, self.defaults.min_insync_replicas),
            unclean_leader_election,
        }
    }
}
