//! One partition's replicas, leader and epochs, as the controller knows them.

use alloc::vec::Vec;

use super::record::Partition;
use crate::{BrokerId, LeaderEpoch, PartitionEpoch, TopicPartition};

/// How well a broker can serve a replica: what its log and its log directory are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum ReplicaHealth {
    Healthy = 0,
    /// Its disk is slow: it is elected only when no other replica can be.
    Slow = 1,
    /// Its log cannot be used: it is neither in sync nor elected.
    Offline = 2,
    /// It gave up a damaged log and copies the leader's: it may come into sync, and is not elected
    /// before.
    Rebuilding = 3,
}

impl ReplicaHealth {
    /// Whether the replica may be elected at all.
    #[must_use]
    pub const fn can_lead(self) -> bool {
        matches!(self, Self::Healthy | Self::Slow)
    }
}

/// State of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// The first one is the preferred leader. During a reassignment (KIP-455) the target in its
    /// order, then those to be removed.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Last members of ISR or ELR that may have lost data (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    /// Replicas a reassignment is adding.
    pub adding: Vec<BrokerId>,
    /// Replicas a reassignment will remove.
    pub removing: Vec<BrokerId>,
    /// Replicas whose log cannot be used: neither in sync nor elected.
    pub offline: Vec<BrokerId>,
    /// Replicas on a slow disk: elected only when no other can be.
    pub slow: Vec<BrokerId>,
    /// Replicas that gave up a damaged log and were not in sync since: never elected, not even
    /// uncleanly.
    pub rebuilding: Vec<BrokerId>,
    /// Replicas before the reassignment in progress, empty without one.
    pub original: Vec<BrokerId>,
    /// The reassignment in progress replaces replicas of dead brokers: given up where these are in
    /// sync again first.
    pub replaces_dead: bool,
    /// The reassignment in progress is part of a rebalance: given up with it.
    pub rebalances: bool,
}

impl PartitionImage {
    /// Whether `broker` has a replica.
    #[must_use]
    pub fn has_replica(&self, broker: BrokerId) -> bool {
        self.replicas.contains(&broker)
    }

    /// How well `broker` can serve its replica.
    #[must_use]
    pub fn health(&self, broker: BrokerId) -> ReplicaHealth {
        if self.offline.contains(&broker) {
            ReplicaHealth::Offline
        } else if self.rebuilding.contains(&broker) {
            ReplicaHealth::Rebuilding
        } else if self.slow.contains(&broker) {
            ReplicaHealth::Slow
        } else {
            ReplicaHealth::Healthy
        }
    }

    /// Whether `broker` may be elected, as far as its log is concerned.
    #[must_use]
    pub fn can_lead(&self, broker: BrokerId) -> bool {
        self.health(broker).can_lead()
    }

    /// Whether `broker`, whose log is offline, may give that log up and copy the leader's: it is
    /// neither in sync nor eligible, and somebody else leads.
    #[must_use]
    pub fn may_rebuild(&self, broker: BrokerId) -> bool {
        self.offline.contains(&broker)
            && self.leader.is_some()
            && !self.isr.contains(&broker)
            && !self.elr.contains(&broker)
    }

    /// The replica that leads when all are well.
    #[must_use]
    pub fn preferred_leader(&self) -> Option<BrokerId> {
        self.replicas.first().copied()
    }

    /// Whether a replica is out of sync that is not just being added.
    #[must_use]
    pub fn is_under_replicated(&self) -> bool {
        self.replicas
            .iter()
            .any(|id| !self.isr.contains(id) && !self.adding.contains(id))
    }

    /// Whether a reassignment is in progress.
    #[must_use]
    pub fn is_reassigning(&self) -> bool {
        !self.original.is_empty()
    }

    /// The replicas that the partition will have once its reassignment is complete.
    pub fn target(&self) -> impl Iterator<Item = BrokerId> {
        let stays = |id: &BrokerId| !self.removing.contains(id);
        self.replicas.iter().copied().filter(stays)
    }

    /// Number of replicas that bounds `min.insync.replicas`: a reassignment changes it when it is
    /// complete, and does not ask for more in-sync replicas before.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        if self.is_reassigning() {
            self.original.len()
        } else {
            self.replicas.len()
        }
    }

    /// The record that sets this state.
    #[must_use]
    pub fn to_record(&self, id: TopicPartition) -> Partition {
        Partition {
            topic_id: id.topic.into(),
            partition: id.partition.0,
            replicas: raw(&self.replicas),
            isr: raw(&self.isr),
            elr: raw(&self.elr),
            last_known_elr: raw(&self.last_known_elr),
            leader: self.leader.map_or(-1, |leader| leader.0),
            leader_epoch: self.leader_epoch.0,
            partition_epoch: self.partition_epoch.0,
            adding: raw(&self.adding),
            removing: raw(&self.removing),
            offline: raw(&self.offline),
            slow: raw(&self.slow),
            rebuilding: raw(&self.rebuilding),
            original: raw(&self.original),
            replaces_dead: self.replaces_dead,
            rebalances: self.rebalances,
        }
    }
}

impl From<&Partition> for PartitionImage {
    fn from(record: &Partition) -> Self {
        Self {
            replicas: ids(&record.replicas),
            isr: ids(&record.isr),
            elr: ids(&record.elr),
            last_known_elr: ids(&record.last_known_elr),
            leader: (record.leader >= 0).then_some(BrokerId(record.leader)),
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: PartitionEpoch(record.partition_epoch),
            adding: ids(&record.adding),
            removing: ids(&record.removing),
            offline: ids(&record.offline),
            slow: ids(&record.slow),
            rebuilding: ids(&record.rebuilding),
            original: ids(&record.original),
            replaces_dead: record.replaces_dead,
            rebalances: record.rebalances,
        }
    }
}

fn raw(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

fn ids(raw: &[i32]) -> Vec<BrokerId> {
    raw.iter().copied().map(BrokerId).collect()
}
