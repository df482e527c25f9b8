//! Consumer groups: which broker coordinates a group, and the coordinator of those that live here.
//!
//! A group lives in one partition of `__consumer_offsets`; whoever leads that partition coordinates
//! the group. For each partition this broker leads there is a shard: the pure groups under a lock,
//! one task that loads them and then keeps time, one that writes their records.
//!
//! * `membership`: JoinGroup, SyncGroup, Heartbeat, LeaveGroup;
//! * `consumer`: ConsumerGroupHeartbeat, ConsumerGroupDescribe;
//! * `offsets`: OffsetCommit, OffsetFetch; `delete_offsets`: OffsetDelete;
//! * `transactions`: TxnOffsetCommit, and the markers that end transactions in the groups' partitions;
//! * `admin`: DescribeGroups, ListGroups, DeleteGroups.
//!
//! Not here: whether topics exist, where brokers are, what a client may do; the caller knows.

mod admin;
mod codec;
mod consumer;
mod delete_offsets;
mod error;
mod loader;
mod log;
mod membership;
mod offsets;
mod partition_log;
mod rebalances;
pub(crate) mod replay;
mod shard;
#[cfg(test)]
mod tests;
mod timer;
mod topics;
mod transactions;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::group::GroupConfig;
use broker_core::lease::Lease;
use broker_core::{LeaderEpoch, PartitionIndex};
use parking_lot::RwLock;

pub use log::{PartitionLog, ReadError};
pub use membership::Client;
pub use partition_log::LedPartition;
pub use rebalances::Rebalances;
pub use transactions::MarkerRefused;

use crate::clock;
use crate::partition::RoleEvent;
use error::Unavailable;
use shard::Shard;
use topics::ImageVersions;

/// The topic that groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The groups that this broker coordinates.
pub struct GroupCoordinator<L = LedPartition> {
    config: GroupConfig,
    partition_count: u32,
    /// Held while this broker may lead.
    lease: Arc<Lease>,
    shards: RwLock<BTreeMap<PartitionIndex, Led<L>>>,
    rebalances: Arc<Rebalances>,
    images: ImageVersions,
}

/// A partition that this broker leads.
struct Led<L> {
    leader_epoch: LeaderEpoch,
    shard: Arc<Shard>,
    log: Arc<L>,
}

impl<L> Clone for Led<L> {
    fn clone(&self) -> Self {
        Self {
            leader_epoch: self.leader_epoch,
            shard: Arc::clone(&self.shard),
            log: Arc::clone(&self.log),
        }
    }
}

impl GroupCoordinator {
    /// Takes over the partitions of `__consumer_offsets` that this broker has come to lead, and gives
    /// up those it no longer does. Must be called within a Tokio runtime.
    pub fn apply(&self, events: &[RoleEvent]) {
        for event in events {
            match event {
                RoleEvent::Leads { partition, epoch } if **partition.topic() == *OFFSETS_TOPIC => {
                    let log = LedPartition::new(Arc::clone(partition), *epoch);
                    self.on_leader(partition.id().partition, *epoch, log);
                }
                RoleEvent::Follows { partition, .. } if **partition.topic() == *OFFSETS_TOPIC => {
                    self.on_resign(partition.id().partition);
                }
                RoleEvent::Gone { id, topic } if **topic == *OFFSETS_TOPIC => {
                    self.on_resign(id.partition);
                }
                _ => {}
            }
        }
    }
}

impl<L: PartitionLog> GroupCoordinator<L> {
    /// A coordinator without groups. `partition_count` is that of `__consumer_offsets`
    /// (`offsets.topic.num.partitions`) and must never change. Without `lease` no group is served.
    ///
    /// # Panics
    /// If there are no partitions.
    #[must_use]
    pub fn new(config: GroupConfig, partition_count: u32, lease: Arc<Lease>) -> Self {
        assert!(partition_count > 0, "groups need a partition to live in");
        Self {
            config,
            partition_count,
            lease,
            shards: RwLock::default(),
            rebalances: Arc::default(),
            images: ImageVersions::default(),
        }
    }

    /// How often the groups here rebalanced, and why.
    #[must_use]
    pub const fn rebalances(&self) -> &Arc<Rebalances> {
        &self.rebalances
    }

    /// The partition whose leader coordinates `group`.
    #[must_use]
    pub fn find(&self, group: &str) -> PartitionIndex {
        let index =
            java_hash(group).checked_abs().unwrap_or(0).unsigned_abs() % self.partition_count;
        PartitionIndex(index.cast_signed())
    }

    /// This broker leads `partition` in this epoch: loads its groups, then serves them. An epoch not
    /// newer than the present one is ignored. Must be called within a Tokio runtime.
    pub fn on_leader(&self, partition: PartitionIndex, leader_epoch: LeaderEpoch, log: L) {
        let mut shards = self.shards.write();
        if shards
            .get(&partition)
            .is_some_and(|led| led.leader_epoch >= leader_epoch)
        {
            return;
        }
        let shard = Shard::new(partition, Arc::clone(&self.rebalances));
        let log = Arc::new(log);
        let led = Led {
            leader_epoch,
            shard: Arc::clone(&shard),
            log: Arc::clone(&log),
        };
        if let Some(former) = shards.insert(partition, led) {
            former.shard.resign();
        }
        let config = self.config.clone();
        tokio::spawn(writer::run(Arc::clone(&shard), Arc::clone(&log)));
        tokio::spawn(async move {
            loader::run(&shard, &*log, &config).await;
            timer::run(&shard).await;
        });
    }

    /// This broker no longer leads `partition`: who waits there is sent to the new coordinator.
    pub fn on_resign(&self, partition: PartitionIndex) {
        let led = self.shards.write().remove(&partition);
        if let Some(led) = led {
            led.shard.resign();
        }
    }

    /// A topic was deleted: what groups committed for it is forgotten.
    pub fn on_topic_deleted(&self, topic: &str) {
        for shard in self.shards() {
            // The new coordinator, or the one that loads, does it when the offsets expire.
            let _ =
                shard.with_groups(|groups, now, out| groups.handle_topic_deleted(now, topic, out));
        }
    }

    fn shard(&self, group: &str) -> Result<Arc<Shard>, Unavailable> {
        self.led(self.find(group)).map(|led| led.shard)
    }

    fn led(&self, partition: PartitionIndex) -> Result<Led<L>, Unavailable> {
        let shards = self.shards.read();
        let led = shards
            .get(&partition)
            .filter(|_| self.lease.holds(clock::now()));
        led.cloned().ok_or(Unavailable::NotCoordinator)
    }

    /// For what a group has committed: a coordinator that is cut off or behind may have a successor that
    /// knows of more. Until it knows, it is as if it had yet to load the group: librdkafka never asks for a
    /// member's offsets again once it was told that this is not the coordinator.
    fn confirmed_shard(&self, group: &str, is_confirmed: bool) -> Result<Arc<Shard>, Unavailable> {
        let shards = self.shards.read();
        let led = shards
            .get(&self.find(group))
            .ok_or(Unavailable::NotCoordinator)?;
        if is_confirmed && self.lease.is_confirmed(clock::now()) {
            Ok(Arc::clone(&led.shard))
        } else {
            Err(Unavailable::Loading)
        }
    }

    fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards
            .read()
            .values()
            .map(|led| Arc::clone(&led.shard))
            .collect()
    }
}

/// `String.hashCode()` of Java, which every Kafka broker spreads groups and transactional ids by.
pub(crate) fn java_hash(text: &str) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    text.encode_utf16().fold(0, add)
}
