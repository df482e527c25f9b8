//! The task that moves replicas, one turn for each, no faster than
//! `replica.alter.log.dirs.io.max.bytes.per.second`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::{BrokerId, TopicPartition};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::PartitionManager;
use super::copying::Turn;
use crate::config::keys::MOVE_THROTTLED_RATE;
use crate::quota::Quota;

/// Wait for a full disk, and at most for the quota before its rate is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// The moves under way.
#[derive(Default)]
pub(in crate::partition) struct Moves {
    replicas: Mutex<BTreeSet<TopicPartition>>,
    beginning: Mutex<()>,
    added: Notify,
    quota: Quota,
}

impl Moves {
    /// Held by whoever begins or cancels a move on request.
    pub(in crate::partition) fn begin(&self) -> MutexGuard<'_, ()> {
        self.beginning.lock()
    }

    pub(in crate::partition) fn add(&self, id: TopicPartition) {
        self.replicas.lock().insert(id);
        self.added.notify_one();
    }

    pub(in crate::partition) fn len(&self) -> usize {
        self.replicas.lock().len()
    }

    pub(in crate::partition) fn configure(&self, image: &Image, me: BrokerId) {
        self.quota.configure(image, me, MOVE_THROTTLED_RATE);
    }

    async fn wait_for_quota(&self) {
        loop {
            let wait = self.quota.wait();
            if wait.is_zero() {
                return;
            }
            sleep(wait.min(PAUSE)).await;
        }
    }
}

impl PartitionManager {
    /// Moves replicas for as long as the broker runs.
    pub async fn move_replicas(self: Arc<Self>) {
        loop {
            let replicas = self.moves.replicas.lock().clone();
            if replicas.is_empty() {
                self.moves.added.notified().await;
                continue;
            }
            let mut goes_on = false;
            for id in replicas {
                self.moves.wait_for_quota().await;
                goes_on |= self.move_on(id).await;
            }
            if !goes_on {
                sleep(PAUSE).await;
            }
        }
    }

    /// One turn of a replica. Whether more may be done at once.
    async fn move_on(&self, id: TopicPartition) -> bool {
        let turn = match self.get(id) {
            Some(partition) => tokio::task::spawn_blocking(move || partition.take_turn()).await,
            None => Ok(Turn::Ended),
        };
        match turn {
            Ok(Turn::GoesOn(bytes)) => {
                self.moves.quota.record(bytes);
                true
            }
            Ok(Turn::Waits) => false,
            Ok(Turn::Ended) => {
                self.moves.replicas.lock().remove(&id);
                // The next move of the replica may have begun meanwhile.
                if self.get(id).is_some_and(|partition| partition.is_moving()) {
                    self.moves.add(id);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "a replica's move ended abnormally");
                false
            }
        }
    }
}
