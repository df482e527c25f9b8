//! Replicas that came while the disks were full: opened as soon as there is space.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_core::TopicPartition;
use broker_core::metadata::Image;
use parking_lot::Mutex;

use super::PartitionManager;
use super::manager::RoleEvent;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct WaitingForSpace {
    replicas: Mutex<BTreeSet<TopicPartition>>,
    /// Time to try again.
    due: AtomicBool,
}

impl WaitingForSpace {
    pub(super) fn add(&self, id: TopicPartition) {
        self.replicas.lock().insert(id);
    }

    pub(super) fn remove(&self, id: TopicPartition) {
        self.replicas.lock().remove(&id);
    }
}

impl PartitionManager {
    /// Has [`PartitionManager::apply`] try again.
    pub(super) fn look_for_space(&self) {
        if !self.waiting_for_space.replicas.lock().is_empty() {
            self.waiting_for_space.due.store(true, Ordering::Release);
            self.attention.notify_one();
        }
    }

    pub(super) fn open_waiting(&self, image: &Image) -> Vec<RoleEvent> {
        if !self.waiting_for_space.due.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let waiting = self.waiting_for_space.replicas.lock().clone();
        let mut events = Vec::new();
        for id in waiting {
            self.open(id, image);
            events.extend(self.assign(id, image));
        }
        events
    }
}
