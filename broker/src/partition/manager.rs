//! The partitions of this broker: opened, closed and re-assigned as the metadata says, and looked
//! after in the background.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use broker_core::controller::{
    AlterPartition, AlterPartitions, BrokerRef, Command, CommandError, Response,
};
use broker_core::metadata::{Image, ReplicaChange, changes};
use broker_core::partition::IsrProposal;
use broker_core::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::cleaner::{Cleaner, CleanerStatus};
use super::moving::Moves;
use super::opening::{Storage, Wanted, delete};
use super::waiting_for_space::WaitingForSpace;
use super::{Assigned, Partition, Shared};
use crate::config::{BrokerConfig, Dynamic};
use crate::controller::Controller;
use crate::lease::Lease;
use crate::log_dirs::{Directory, LogDirs};

/// Time between looks at replicas that lag.
const ISR_INTERVAL: Duration = Duration::from_millis(500);
/// Pause that lets ISR changes of many partitions share one command.
const ISR_BATCH_PAUSE: Duration = Duration::from_millis(5);
/// Partitions in one command to the controller.
const ISR_BATCH_MAX: usize = 1_000;
/// Threads that close logs when the broker stops.
const CLOSING_THREADS_MAX: usize = 16;
/// Time between looks for logs that `flush.ms` wants flushed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

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
    partitions: RwLock<HashMap<TopicPartition, Arc<Partition>>>,
    /// Replicas that are assigned here and can't be served: their log, or its disk, failed.
    pub(super) offline: RwLock<BTreeSet<TopicPartition>>,
    /// Failures of disks whose replicas were taken out of service.
    failures_handled: AtomicUsize,
    /// Replicas whose damaged logs are marked and never opened again.
    pub(super) given_up: Mutex<BTreeSet<TopicPartition>>,
    /// Something is to be done although the metadata did not change.
    pub(super) attention: Notify,
    isr_due: Mutex<BTreeSet<TopicPartition>>,
    isr_notify: Notify,
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
    /// Size of all logs, as of a moment ago.
    #[must_use]
    pub fn hosted_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.hosted_bytes)
    }

            storage: Mutex::new(storage),
            moves: Moves::default(),
            waiting_for_space: WaitingForSpace::default(),
            partitions: RwLock::default(),
            offline: RwLock::default(),
            failures_handled: AtomicUsize::new(0),
            given_up: Mutex::default(),
            attention: Notify::new(),
            isr_due: Mutex::default(),
            isr_notify: Notify::new(),
            cleaner: Arc::default(),
        }
    }

    /// Without it no partition serves clients as a leader.
    #[must_use]
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.shared.lease)
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

    /// A follower caught up: its entry into the ISR needn't wait for the next look.
    pub fn isr_change_due(&self, id: TopicPartition) {
        self.isr_due.lock().insert(id);
        self.isr_notify.notify_one();
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

    /// Proposes ISR changes to the controller for as long as the broker runs.
    pub async fn keep_isr(self: Arc<Self>, controller: Arc<Controller>) {
        let mut next_look = Instant::now() + ISR_INTERVAL;
        loop {
            let due = match timeout_at(next_look, self.isr_notify.notified()).await {
                Ok(()) => {
                    tokio::time::sleep(ISR_BATCH_PAUSE).await;
                    let ids = std::mem::take(&mut *self.isr_due.lock());
                    ids.into_iter().filter_map(|id| self.get(id)).collect()
                }
                Err(_) => {
                    next_look = Instant::now() + ISR_INTERVAL;
                    self.all()
                }
            };
            let proposals: Vec<_> = due
                .into_iter()
                .filter_map(|partition| Some((partition.tick()?, partition)))
                .collect();
            for batch in proposals.chunks(ISR_BATCH_MAX) {
                self.propose(&controller, batch).await;
            }
        }
    }

    async fn propose(&self, controller: &Controller, batch: &[(IsrProposal, Arc<Partition>)]) {
        let Some(broker_epoch) = controller.broker_epoch() else {
            return;
        };
        let leader = BrokerRef {
            broker_id: self.me.0,
            broker_epoch: broker_epoch.0,
        };
        let image = controller.image();
        let partitions = batch
            .iter()
            .map(|(proposal, partition)| command(leader, &image, proposal, partition))
            .collect();
        let command = Command::AlterPartitions(AlterPartitions { leader, partitions });
        let answered = match controller.submit(command).await {
            Ok(Response::AlterPartitions(answered)) => answered,
            Ok(_) => return,
            // The outcome is unknown; the proposal is repeated until metadata brings a newer state.
            Err(error) => {
                tracing::debug!(%error, "ISR change not answered");
                return;
            }
        };
        let mut changed = 0;
        for (answer, (proposal, partition)) in answered.partitions.iter().zip(batch) {
            match &answer.failure {
                None => {
                    changed += 1;
                    tracing::debug!(%partition, isr = ?members(proposal), "ISR changed");
                }
                Some(failure) => {
                    let kind = failure.error();
                    tracing::debug!(%partition, ?kind, message = failure.message, "ISR change refused");
                    if is_final(kind) {
                        partition.isr_refused(proposal.partition_epoch);
                        self.isr_change_due(partition.id());
                    }
                }
            }
        }
        if let (1.., Some((proposal, partition))) = (changed, batch.first()) {
            tracing::info!(
                partitions = changed, first = %partition, isr = ?members(proposal), "ISR changed"
            );
        }
    }

    /// Applies retention, checkpoints and `flush.ms` for as long as the broker runs.
    pub async fn keep_house(self: Arc<Self>) {
        let config = Arc::clone(&self.config);
        let mut flush = ticker(FLUSH_INTERVAL);
        let mut checkpoint = ticker(config.millis("replica.high.watermark.checkpoint.interval.ms"));
        let mut retention = ticker(config.millis("log.retention.check.interval.ms"));
        let expiration = config.millis("producer.id.expiration.ms");
        loop {
            tokio::select! {
                _ = flush.tick() => {
                    for partition in self.all().iter().filter(|p| p.flush_is_overdue()) {
                        partition.start_flush();
                    }
                }
                _ = checkpoint.tick() => {
                    self.in_background(|manager| manager.checkpoint()).await;
                }
                _ = retention.tick() => {
                    self.in_background(move |manager| {
                        for partition in manager.all() {
                            partition.apply_retention();
                            partition.expire_producers(expiration);
                        }
                    }).await;
                }
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

    async fn in_background(self: &Arc<Self>, work: impl FnOnce(&Self) + Send + 'static) {
        let manager = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || work(&manager)).await {
            tracing::error!(%error, "background work ended abnormally");
        }
    }

    fn checkpoint(&self) {
        let partitions = self.all();
        for partition in &partitions {
            partition.checkpoint();
        }
        self.storage.lock().write_checkpoints(&partitions);
    }

    /// Writes down at once what the next start needs to know, as after log start offsets were raised
    /// on request: what was deleted must not come back. Blocks.
    pub fn checkpoint_log_starts(&self) {
        self.storage.lock().write_checkpoints(&self.all());
    }

    /// Closes all logs so that the next start needs no recovery. Blocks.
    pub fn close(&self) {
        let partitions: Vec<_> = self.partitions.write().drain().map(|(_, p)| p).collect();
        let unclean = close_all(&partitions);
        self.storage.lock().close(&partitions, &unclean);
    }

    /// Partitions led and hosted here, by topic, for metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let conditions = self.dirs.conditions();
        let mut counts = Counts {
            offline: self.offline.read().len(),
            failed_dirs: conditions.iter().filter(|c| c.is_failed()).count(),
            slow_dirs: conditions.iter().filter(|c| c.is_slow()).count(),
            damaged: self.shared.damaged.count() + self.damaged_offline(),
            quarantined: self.quarantined(),
            scrub_passes: self.shared.scrub.passes.load(Ordering::Relaxed),
            scrubbed_bytes: self.shared.scrub.bytes.load(Ordering::Relaxed),
            scrub_damaged_segments: self.shared.scrub.damaged_segments.load(Ordering::Relaxed),
            scrub_indexes_rebuilt: self.shared.scrub.indexes_rebuilt.load(Ordering::Relaxed),
            records_given_up: self.shared.records_given_up.load(Ordering::Relaxed),
            moving: self.moves.len(),
            ..Counts::default()
        };
        for partition in self.partitions.read().values() {
            counts.replicas += 1;
            counts.leaders += usize::from(partition.is_leader());
            counts.bytes += partition.size_bytes();
            if let Some(offsets) = partition.offsets_to_copy(self.me) {
                counts.adding += 1;
                counts.offsets_to_copy += offsets;
            }
            counts.disk_full += usize::from(partition.is_disk_full());
            counts.rebuilding += usize::from(partition.rebuilds(self.me));
        }
        counts
    }
}

/// Closes partitions; returns the directories of those that did not close cleanly. Syncs that wait for
/// the disk together cost little more than one.
fn close_all(partitions: &[Arc<Partition>]) -> Vec<Arc<Directory>> {
    let unclean = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for share in partitions.chunks(partitions.len().div_ceil(CLOSING_THREADS_MAX).max(1)) {
            let unclean = &unclean;
            scope.spawn(move || {
                for partition in share {
                    if let Err(error) = partition.close() {
                        tracing::error!(%partition, %error, "log not closed cleanly");
                        unclean.lock().push(partition.directory());
                    }
                }
            });
        }
    });
    unclean.into_inner()
}

/// How many partitions are here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub replicas: usize,
    pub leaders: usize,
    /// Replicas that can't be served.
    pub offline: usize,
    pub failed_dirs: usize,
    pub slow_dirs: usize,
    /// Size of their logs.
    pub bytes: u64,
    /// Replicas whose log is damaged or gone.
    pub damaged: usize,
    /// Those that copy their log anew after damage.
    pub rebuilding: usize,
    /// Damaged logs that were set aside.
    pub quarantined: usize,
    /// Times that all sealed segments were verified.
    pub scrub_passes: u64,
    /// Bytes that were verified.
    pub scrubbed_bytes: u64,
    /// Segments that were found to be damaged.
    pub scrub_damaged_segments: u64,
    /// Segments whose indexes were found to be damaged and made anew.
    pub scrub_indexes_rebuilt: u64,
    /// Those whose last append found the disk full.
    pub disk_full: usize,
    /// Committed records that they lost to unclean elections.
    pub records_given_up: u64,
    /// Replicas that a reassignment adds and that are not in sync yet.
    pub adding: usize,
    /// What these lack of what their leaders have committed.
    pub offsets_to_copy: u64,
    /// Replicas on their way to another log directory.
    pub moving: usize,
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// The proposal as a command. A member that has not pulled from this leader yet was in the ISR before,
/// and stays there in its current registration.
fn command(
    leader: BrokerRef,
    image: &Image,
    proposal: &IsrProposal,
    partition: &Partition,
) -> AlterPartition {
    let registered = |id| image.brokers.get(&id).map_or(-1, |broker| broker.epoch.0);
    let TopicPartition {
        topic,
        partition: PartitionIndex(index),
    } = partition.id();
    let PartitionEpoch(partition_epoch) = proposal.partition_epoch;
    AlterPartition {
        topic_id: topic.into(),
        partition: index,
        leader_epoch: proposal.leader_epoch.0,
        partition_epoch,
        new_isr: proposal
            .isr
            .iter()
            .map(|member| BrokerRef {
                broker_id: member.broker.0,
                broker_epoch: match member.epoch {
                    Some(epoch) => epoch.0,
                    None if member.broker.0 == leader.broker_id => leader.broker_epoch,
                    None => registered(member.broker),
                },
            })
            .collect(),
    }
}

/// Whether a refused proposal can't have taken effect. One that comes too late may be the repetition of
/// one that was committed: the proposed members count until the metadata tells.
const fn is_final(refusal: CommandError) -> bool {
    !matches!(
        refusal,
        CommandError::InvalidPartitionEpoch
            | CommandError::FencedLeaderEpoch
            | CommandError::NotController
            | CommandError::TimedOut
    )
}

fn members(proposal: &IsrProposal) -> Vec<BrokerId> {
    proposal.isr.iter().map(|member| member.broker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_that_may_be_committed_already_is_not_given_up() {
        for (refusal, expected) in [
            (CommandError::InvalidPartitionEpoch, false),
            (CommandError::FencedLeaderEpoch, false),
            (CommandError::NotController, false),
            (CommandError::TimedOut, false),
            (CommandError::IneligibleReplica, true),
            (CommandError::UnknownPartition, true),
        ] {
            assert_eq!(is_final(refusal), expected, "{refusal:?}");
        }
    }
}
