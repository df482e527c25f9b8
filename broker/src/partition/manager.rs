//! The partitions of this broker: opened, given up and re-assigned as the metadata says.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use broker_core::lease::Lease;
use broker_core::metadata::{Image, ReplicaChange, changes};
use broker_core::{BrokerId, LeaderEpoch, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::cleaner::{Cleaner, CleanerStatus};
use super::isr_keeping::IsrChanges;
use super::moving::Moves;
use super::opening::{Storage, Wanted, delete};
use super::waiting_for_space::WaitingForSpace;
use super::{Assigned, Partition, Shared};
use crate::config::{BrokerConfig, Dynamic};
use crate::log_dirs::LogDirs;

/// What a metadata change made of a hosted partition.
pub enum RoleEvent {
    Leads {
        partition: Arc<Partition>,
        epoch: LeaderEpoch,
    },
    Follows {
        partition: Arc<Partition>,
        leader: Option<BrokerId>,
    },
    /// Hosted no more.
    Gone { id: TopicPartition, topic: Arc<str> },
}

/// All partitions hosted here.
pub struct PartitionManager {
    me: BrokerId,
    config: Arc<BrokerConfig>,
    pub(super) storage: Mutex<Storage>,
    pub(super) moves: Moves,
    pub(super) waiting_for_space: WaitingForSpace,
    dirs: Arc<LogDirs>,
    pub(super) partitions: RwLock<HashMap<TopicPartition, Arc<Partition>>>,
    /// Replicas that are assigned here and can't be served: their log, or its disk, failed.
    pub(super) offline: RwLock<BTreeSet<TopicPartition>>,
    /// Failures of disks whose replicas were taken out of service.
    failures_handled: AtomicUsize,
    /// Replicas whose damaged logs are marked and never opened again.
    pub(super) given_up: Mutex<BTreeSet<TopicPartition>>,
    /// Something is to be done although the metadata did not change.
    pub(super) attention: Notify,
    pub(super) isr_changes: IsrChanges,
    cleaner: Arc<CleanerStatus>,
    pub(super) shared: Arc<Shared>,
}

impl PartitionManager {
    /// Takes over the logs that were opened at the start.
    #[must_use]
    pub fn new(config: Arc<BrokerConfig>, storage: Storage) -> Self {
        Self {
            me: config.id,
            config,
            shared: Arc::clone(&storage.shared),
            dirs: Arc::clone(storage.dirs()),
            storage: Mutex::new(storage),
            moves: Moves::default(),
            waiting_for_space: WaitingForSpace::default(),
            partitions: RwLock::default(),
            offline: RwLock::default(),
            failures_handled: AtomicUsize::new(0),
            given_up: Mutex::default(),
            attention: Notify::new(),
            isr_changes: IsrChanges::default(),
            cleaner: Arc::default(),
        }
    }

    /// Without it no partition serves clients as a leader.
    #[must_use]
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.shared.lease)
    }

    /// Size of all logs, as of a moment ago.
    #[must_use]
    pub fn hosted_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.hosted_bytes)
    }

    /// The partition, if it is hosted here.
    #[must_use]
    pub fn get(&self, id: TopicPartition) -> Option<Arc<Partition>> {
        self.partitions.read().get(&id).cloned()
    }

    /// All hosted partitions.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    /// Whether the partition is assigned here and can't be served, because its disk failed.
    #[must_use]
    pub fn is_offline(&self, id: TopicPartition) -> bool {
        self.offline.read().contains(&id)
    }

    /// Replicas that are assigned here and can't be served.
    #[must_use]
    pub fn offline(&self) -> BTreeSet<TopicPartition> {
        self.offline.read().clone()
    }

    /// The log directories.
    #[must_use]
    pub const fn dirs(&self) -> &Arc<LogDirs> {
        &self.dirs
    }

    pub(super) const fn me(&self) -> BrokerId {
        self.me
    }

    pub(super) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Does what the step from `old` to `new` asks of this broker, and takes replicas out of service
    /// whose disk failed. Blocks on the disk.
    pub fn apply(&self, old: &Image, new: &Image) -> Vec<RoleEvent> {
        let mut events = self.retire_failed();
        events.extend(self.retire_damaged(new));
        self.give_up_damaged(new);
        let mut deleted = Vec::new();
        for change in changes(old, new, self.me) {
            match change {
                ReplicaChange::Added { partition, .. } => {
                    self.open(partition, new);
                    events.extend(self.assign(partition, new));
                }
                ReplicaChange::Changed { partition, .. } => {
                    events.extend(self.assign(partition, new));
                }
                ReplicaChange::Removed { partition: id } => {
                    self.waiting_for_space.remove(id);
                    if self.offline.write().remove(&id) {
                        self.given_up.lock().remove(&id);
                        self.storage.lock().forget(id);
                    }
                    if let Some(partition) = self.take_out(id) {
                        events.push(RoleEvent::Gone {
                            id,
                            topic: Arc::clone(partition.topic()),
                        });
                        deleted.push(partition);
                    }
                }
                ReplicaChange::TopicConfig { topic } => self.reconfigure(topic, new),
            }
        }
        events.extend(self.rebuild(new));
        events.extend(self.open_waiting(new));
        self.follow_dynamic_config(old, new);
        self.moves.configure(new, self.me);
        self.delete(&deleted);
        events
    }

    pub(super) fn take_out(&self, id: TopicPartition) -> Option<Arc<Partition>> {
        let partition = self.partitions.write().remove(&id)?;
        partition.abandon();
        self.shared.damaged.remove(id);
        Some(partition)
    }

    /// A log can fail although its directory goes on.
    pub(super) fn note_failed_logs(&self) {
        if self.partitions.read().values().any(|p| p.is_failed()) {
            self.dirs.failures().note();
        }
    }

    /// Stops serving replicas whose log or disk failed.
    fn retire_failed(&self) -> Vec<RoleEvent> {
        let mut events = Vec::new();
        let failures = *self.dirs.failures().watch().borrow();
        if self.failures_handled.swap(failures, Ordering::AcqRel) == failures {
            return events;
        }
        let failed = self.all().into_iter().filter(|p| p.is_failed());
        for partition in failed {
            let id = partition.id();
            self.offline.write().insert(id);
            self.take_out(id);
            partition.interrupt_move();
            events.push(RoleEvent::Gone {
                id,
                topic: Arc::clone(partition.topic()),
            });
        }
        if let Some(RoleEvent::Gone { topic, id }) = events.first() {
            tracing::error!(replicas = events.len(), first = %format_args!("{topic}-{}", id.partition), "replicas are offline");
        }
        events
    }

    fn delete(&self, partitions: &[Arc<Partition>]) {
        partitions
            .iter()
            .for_each(|partition| partition.cancel_move());
        for directory in self.dirs.opened() {
            let here: Vec<_> = partitions
                .iter()
                .filter(|partition| Arc::ptr_eq(&partition.directory(), directory))
                .map(|partition| (&**partition.topic(), partition.id().partition))
                .collect();
            if !here.is_empty() {
                delete(directory, &here);
            }
        }
    }

    /// Once the first complete metadata is applied: deletes what is on disk and nobody has here.
    pub fn delete_strays(&self, image: &Image) {
        self.storage.lock().delete_strays(image, self.me);
    }

    pub(super) fn open(&self, id: TopicPartition, image: &Image) {
        let Some(topic) = image.topics.get(&id.topic) else {
            return;
        };
        let dynamic = Dynamic::of(image, self.me);
        let config = self
            .config
            .topic_config(&topic.config, dynamic, topic.internal);
        let Some(state) = topic.partition(id.partition) else {
            return;
        };
        let wanted = Wanted {
            id,
            topic: &topic.name,
            state,
            isr_timing: self.config.isr_timing(),
            me: self.me,
        };
        let opened = self.storage.lock().open_partition(&wanted, config);
        match opened {
            Ok(partition) => {
                let is_moving = partition.is_moving();
                self.partitions.write().insert(id, Arc::new(partition));
                self.offline.write().remove(&id);
                self.waiting_for_space.remove(id);
                if is_moving {
                    self.moves.add(id);
                }
            }
            Err(error) => {
                let is_news = self.offline.write().insert(id);
                if error.is_full_disk() {
                    self.waiting_for_space.add(id);
                }
                if is_news || !error.is_full_disk() {
                    tracing::error!(topic = %topic.name, partition = %id.partition, %error, "can't open a log; the replica is offline");
                }
            }
        }
    }

    pub(super) fn assign(&self, id: TopicPartition, image: &Image) -> Option<RoleEvent> {
        let partition = self.get(id)?;
        let state = image.partition(id)?;
        Some(match partition.assign(self.me, state)? {
            Assigned::Leader(epoch) => RoleEvent::Leads { partition, epoch },
            Assigned::Follower(leader) => RoleEvent::Follows { partition, leader },
        })
    }

    /// Defaults of topics may have been changed for the running brokers.
    fn follow_dynamic_config(&self, old: &Image, new: &Image) {
        let same = old.cluster_config == new.cluster_config
            && old.broker_configs.get(&self.me) == new.broker_configs.get(&self.me);
        if !same {
            for topic in new.topics.keys() {
                self.reconfigure(*topic, new);
            }
        }
    }

    fn reconfigure(&self, topic: broker_core::TopicId, image: &Image) {
        let Some(topic) = image.topics.get(&topic) else {
            return;
        };
        let dynamic = Dynamic::of(image, self.me);
        let config = self
            .config
            .topic_config(&topic.config, dynamic, topic.internal);
        for (id, _) in topic.iter() {
            if let Some(partition) = self.get(id) {
                partition.set_config(config.clone());
            }
        }
    }

    /// Starts the thread that compacts logs for as long as the broker runs.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start_cleaner(self: &Arc<Self>) -> io::Result<()> {
        let cleaner = Cleaner::new(Arc::clone(self), &self.config);
        let thread = std::thread::Builder::new().name("log-cleaner".to_owned());
        thread.spawn(move || cleaner.run()).map(drop)
    }

    /// What the log cleaner has done.
    #[must_use]
    pub const fn cleaner_status(&self) -> &Arc<CleanerStatus> {
        &self.cleaner
    }
}
