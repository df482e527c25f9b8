//! What becomes of a replica whose log is damaged, step by step with the metadata:
//!
//! 1. it is reported as offline while somebody else can lead (`replica_health`);
//! 2. once it is neither in sync nor eligible and another replica leads, it is taken out of service
//!    and its log marked, never to be opened again;
//! 3. it is reported as one that rebuilds;
//! 4. once that is committed, its log is set aside and an empty one follows the leader.
//!
//! Where nobody else has the records nothing of that happens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_core::metadata::{Image, PartitionImage, ReplicaHealth};
use broker_core::{BrokerId, TopicPartition};

use super::manager::RoleEvent;
use super::recovery::DamagedLog;
use super::{Partition, PartitionManager};
use crate::log_dirs::Directory;

impl PartitionManager {
    /// Step 2 for replicas in service.
    pub(super) fn retire_damaged(&self, image: &Image) -> Vec<RoleEvent> {
        let me = self.me();
        let may_rebuild = |id: &TopicPartition| {
            let state = image.partition(*id);
            state.is_some_and(|state| state.may_rebuild(me))
        };
        let damaged = self.shared.damaged.ids();
        let retired = damaged.into_iter().filter(may_rebuild).filter_map(|id| {
            let partition = self.take_out(id)?;
            partition.cancel_move();
            self.offline.write().insert(id);
            let log = DamagedLog {
                topic: Arc::clone(partition.topic()),
                directory: partition.directory(),
            };
            self.storage.lock().refuse(id, log);
            Some(RoleEvent::Gone {
                id,
                topic: Arc::clone(partition.topic()),
            })
        });
        retired.collect()
    }

    /// Step 2 for their logs.
    pub(super) fn give_up_damaged(&self, image: &Image) {
        if self.offline.read().is_empty() {
            return;
        }
        let storage = self.storage.lock();
        let mut given_up = self.given_up.lock();
        for id in storage.damaged() {
            let state = image.partition(id);
            if given_up.contains(&id) || state.is_none_or(|state| !state.may_rebuild(self.me())) {
                continue;
            }
            match storage.give_up(id) {
                Ok(()) => _ = given_up.insert(id),
                Err(error) => tracing::error!(
                    topic = %id.topic, partition = %id.partition, %error,
                    "a damaged log can't be marked and stays as it is; trying again"
                ),
            }
        }
    }

    /// Step 4.
    pub(super) fn rebuild(&self, image: &Image) -> Vec<RoleEvent> {
        let me = self.me();
        let mut due = self.offline();
        due.retain(|id| is_rebuilding(image, *id, me));
        let mut events = Vec::new();
        for id in due {
            self.open(id, image);
            if self.get(id).is_some() {
                self.given_up.lock().remove(&id);
                events.extend(self.assign(id, image));
            }
        }
        events
    }

    /// How the metadata should know a replica that can't be served: step 3.
    pub(super) fn offline_health(
        &self,
        id: TopicPartition,
        state: &PartitionImage,
    ) -> ReplicaHealth {
        let given_up = self.given_up.lock().contains(&id) && state.may_rebuild(self.me());
        if given_up || state.health(self.me()) == ReplicaHealth::Rebuilding {
            ReplicaHealth::Rebuilding
        } else {
            ReplicaHealth::Offline
        }
    }

    /// Whether a damaged replica gives way: somebody else has its records, or it did so before.
    pub(super) fn gives_way(&self, state: &PartitionImage, image: &Image) -> bool {
        let me = self.me();
        let mut members = state.isr.iter().chain(&state.elr);
        state.may_rebuild(me)
            || members.any(|id| *id != me && image.is_active(*id) && state.can_lead(*id))
    }

    /// Has the metadata looked at again while something of the above failed, and removes what was set
    /// aside and is not needed.
    pub(super) fn look_after_damaged(self: &Arc<Self>, image: &Arc<Image>) {
        let me = self.me();
        let offline = self.offline();
        let is_due = |id: &TopicPartition| {
            let state = image.partition(*id);
            let given_up = self.given_up.lock().contains(id);
            state.is_some_and(|state| state.may_rebuild(me) && !given_up)
                || is_rebuilding(image, *id, me)
        };
        if offline.iter().any(is_due) {
            self.attention.notify_one();
        }
        if self.shared.quarantined.load(Ordering::Relaxed) > 0 {
            let (manager, image) = (Arc::clone(self), Arc::clone(image));
            tokio::task::spawn_blocking(move || manager.tidy_quarantine(&image));
        }
    }

    fn tidy_quarantine(&self, image: &Image) {
        let full: Vec<Arc<Directory>> = self
            .all()
            .iter()
            .filter(|partition| partition.is_disk_full())
            .map(|partition| partition.directory())
            .collect();
        self.storage.lock().tidy_quarantine(image, self.me(), &full);
    }

    /// Returns when [`PartitionManager::apply`] has something to do although the metadata is as it
    /// was.
    pub async fn needs_attention(&self) {
        self.attention.notified().await;
    }
}

impl Partition {
    /// Whether this replica copies its log anew.
    pub(super) fn rebuilds(&self, me: BrokerId) -> bool {
        let state = self.state.lock();
        let assigned = state.assigned.as_ref();
        assigned.is_some_and(|assigned| assigned.rebuilding.contains(&me))
    }
}

fn is_rebuilding(image: &Image, id: TopicPartition, me: BrokerId) -> bool {
    let state = image.partition(id);
    state.is_some_and(|state| state.health(me) == ReplicaHealth::Rebuilding)
}
