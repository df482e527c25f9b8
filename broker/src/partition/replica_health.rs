//! Tells the controller how this broker's replicas and the disks below them are: offline and damaged
//! ones give up leadership and their place in the ISR, those on slow disks only leadership.
//!
//! What the metadata says is compared with what is, so that a report that got lost is repeated.

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{
    AlterReplicaHealth, BrokerRef, Command, PartitionRef, REPLICAS_PER_COMMAND_MAX,
    ReplicaHealthChange, Response,
};
use broker_core::metadata::{Image, PartitionImage, ReplicaHealth};
use broker_core::slow_disk::SlowDisk;
use broker_core::{BrokerEpoch, TopicPartition};
use tokio::time::{MissedTickBehavior, interval};

use super::PartitionManager;
use crate::clock;
use crate::controller::Controller;
use crate::log_dirs::Condition;

/// Time between looks at the disks, and between repetitions of a report.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl PartitionManager {
    /// Reports for as long as the broker runs.
    pub async fn report_replica_health(self: Arc<Self>, controller: Arc<Controller>) {
        let threshold = self.config().millis("klamm.log.dir.slow.ms");
        let mut disks: Vec<_> = self
            .dirs()
            .conditions()
            .iter()
            .map(|condition| (Arc::clone(condition), SlowDisk::new(threshold)))
            .collect();
        let mut failures = self.dirs().failures().watch();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if !threshold.is_zero() {
                        disks.iter_mut().for_each(|(condition, disk)| judge(condition, disk));
                    }
                    self.note_failed_logs();
                }
                changed = failures.changed() => if changed.is_err() {
                    return;
                },
                () = self.shared.damaged.added() => {}
            }
            self.report(&controller).await;
            self.look_for_space();
            self.look_after_damaged(&controller.image());
        }
    }

    async fn report(&self, controller: &Controller) {
        let Some(epoch) = controller.broker_epoch() else {
            return;
        };
        let changes = self.health_changes(&controller.image(), epoch);
        let broker = BrokerRef {
            broker_id: self.me().0,
            broker_epoch: epoch.0,
        };
        for replicas in changes.chunks(REPLICAS_PER_COMMAND_MAX) {
            let command = Command::AlterReplicaHealth(AlterReplicaHealth {
                broker,
                replicas: replicas.to_vec(),
            });
            match controller.submit(command).await {
                Ok(Response::Accepted(_)) => {
                    tracing::info!(replicas = replicas.len(), "health of replicas reported");
                }
                Ok(Response::Failed(failure)) => {
                    tracing::warn!(
                        reason = failure.message,
                        "health of replicas not taken over"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "health of replicas not reported; retrying"),
            }
        }
    }

    /// Where the metadata of this registration is wrong.
    fn health_changes(&self, image: &Image, epoch: BrokerEpoch) -> Vec<ReplicaHealthChange> {
        let me = self.me();
        if image
            .brokers
            .get(&me)
            .is_none_or(|known| known.epoch != epoch)
        {
            return Vec::new();
        }
        let hosted = image
            .partitions()
            .filter(|(_, state)| state.has_replica(me));
        hosted
            .filter_map(|(id, state)| {
                let health = self.health(id, state, image)?;
                (health != state.health(me)).then(|| ReplicaHealthChange {
                    partition: PartitionRef {
                        topic_id: id.topic.into(),
                        partition: id.partition.0,
                    },
                    health: health.into(),
                })
            })
            .collect()
    }

    /// `None` for a replica that is not opened yet.
    fn health(
        &self,
        id: TopicPartition,
        state: &PartitionImage,
        image: &Image,
    ) -> Option<ReplicaHealth> {
        if self.is_offline(id) {
            return Some(self.offline_health(id, state));
        }
        let partition = self.get(id)?;
        let directory = partition.directory();
        let gives_way = partition.is_damaged() && self.gives_way(state, image);
        Some(if partition.is_failed() || gives_way {
            ReplicaHealth::Offline
        } else if state.rebuilding.contains(&self.me()) {
            ReplicaHealth::Rebuilding
        } else if directory.condition().is_slow() {
            ReplicaHealth::Slow
        } else {
            ReplicaHealth::Healthy
        })
    }
}

fn judge(condition: &Condition, disk: &mut SlowDisk) {
    if condition.is_failed() {
        return;
    }
    let window = condition.take_window();
    let slow = disk.handle_window(clock::now(), &window);
    if slow == condition.is_slow() {
        return;
    }
    condition.set_slow(slow);
    let dir = condition.path().display();
    if slow {
        tracing::warn!(
            %dir, longest = ?window.longest, stalled = ?window.stalled,
            "log directory is slow; giving its leaders away: check the disk"
        );
    } else {
        tracing::info!(%dir, "log directory is well again; its replicas may lead");
    }
}
