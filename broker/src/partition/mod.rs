//! Partitions hosted by this broker: the pure replica, its log and those who wait for it, under one
//! short lock.
//!
//! * `append`: producers, and the answers parked until their records are replicated or durable;
//! * `read`: consumers and offset look-ups;
//! * `transactions`: markers, what is stable, and which producers there are;
//! * `pull`: both ends of replication;
//! * `cleaner`: compacts logs in the background;
//! * `damage`, `scrubbing`: records that are not what was appended, and how they are found;
//! * `rebuilding`, `quarantine`: how damaged logs are copied anew;
//! * `delete_records`: the log start offset that all replicas shall reach;
//! * `moving`: the way of a replica to another log directory;
//! * `manager`: opens, gives up and re-assigns partitions as the metadata says;
//! * `isr_keeping`, `housekeeping`: what goes on in the background.
//!
//! Nobody awaits while holding the lock; what is slow (fsync, recovery) runs outside it.

mod append;
mod cleaner;
mod counts;
mod damage;
mod delete_records;
mod error;
mod housekeeping;
mod isr_keeping;
mod manager;
mod moving;
mod opening;
mod placed;
mod producers;
mod pull;
mod quarantine;
mod read;
mod rebuilding;
mod recovery;
mod replica_health;
mod scrubbing;
mod throttle;
mod transactions;
mod waiting_for_space;
mod wakers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use broker_core::lease::Lease;
use broker_core::metadata::{Image, PartitionImage};
use broker_core::partition::{
    Assignment, IsrProposal, LeaderEnds, NotLeader, Replica, RoleChange, Settings, WaitQueue,
};
use broker_core::{BrokerId, LeaderEpoch, Offset, Time, TopicPartition};
use broker_log::{Log, StorageError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

pub use append::{Appended, ProducedBatch};
pub use cleaner::CleanerStatus;
pub use counts::Counts;
pub use error::{AppendError, DeleteRecordsError, ReadError};
pub use manager::{PartitionManager, RoleEvent};
pub use moving::MoveError;
pub use opening::{Storage, StorageOpenError, write_log_starts};
pub use placed::PlacedLog;
pub use pull::{FollowerState, FollowerStep, Pulled, PulledContent};
pub use read::{Fetched, FoundOffset, Isolation, OffsetQuery};
pub use transactions::AppendedMarker;
pub use wakers::{FetchWaker, PullWaker};

use crate::clock;
use crate::config::{IsrTiming, TopicConfig};
use crate::log_dirs::Directory;
use damage::DamagedReplicas;
use delete_records::FollowerStarts;
use moving::Move;
use scrubbing::ScrubProgress;
use wakers::Wakers;

/// One hosted partition. Cheap to share; all state is behind its lock.
pub struct Partition {
    id: TopicPartition,
    topic: Arc<str>,
    state: Mutex<State>,
    /// A group commit is under way.
    flushing: AtomicBool,
    /// A replica's log start offset moved, or the role changed.
    low_watermark_moved: Notify,
    shared: Arc<Shared>,
}

/// What all partitions of this broker share.
#[derive(Debug, Default)]
struct Shared {
    /// Held while this broker may lead.
    lease: Arc<Lease>,
    /// Committed records that replicas lost to unclean elections.
    records_given_up: AtomicU64,
    /// Size of all logs.
    hosted_bytes: Arc<AtomicU64>,
    damaged: DamagedReplicas,
    /// Replicas out of service whose log is damaged or gone.
    damaged_offline: AtomicUsize,
    /// Damaged logs that were set aside.
    quarantined: AtomicUsize,
    scrub: ScrubProgress,
}

struct State {
    replica: Replica,
    log: Log,
    /// Where the log is.
    directory: Arc<Directory>,
    /// Where it shall be.
    moving: Option<Move>,
    config: TopicConfig,
    isr_timing: IsrTiming,
    /// Producers waiting for the high watermark.
    replicated: WaitQueue<oneshot::Sender<()>>,
    /// Producers waiting for so many in-sync replicas, for at most as many numbers as there are
    /// replicas.
    counted: BTreeMap<usize, WaitQueue<oneshot::Sender<()>>>,
    /// Producers waiting for the leader's own fsync.
    durable: WaitQueue<oneshot::Sender<()>>,
    wakers: Wakers,
    follower_starts: FollowerStarts,
    /// Newest state in the metadata; `None` before the first one.
    assigned: Option<Arc<PartitionImage>>,
    /// The log has records that are not what was appended.
    damaged: bool,
    /// The last append found no space.
    disk_full: bool,
    closed: bool,
}

impl State {
    /// A reassignment does not ask for more in-sync replicas before it is complete.
    fn settings(&self) -> Settings {
        let replicas = self
            .assigned
            .as_ref()
            .map(|state| state.replication_factor());
        Settings {
            min_insync_replicas: self
                .config
                .min_insync_replicas
                .min(replicas.unwrap_or(usize::MAX)),
            lag_time_max: self.isr_timing.lag_time_max,
            isr_dwell: self.isr_timing.dwell,
        }
    }

    fn flushes_every_message(&self) -> bool {
        self.config.log.flush_messages == Some(1)
    }

    /// The leader's own position for the high watermark: what is durable where every message must
    /// be, else what is written.
    fn own_end(&self) -> Offset {
        if self.flushes_every_message() {
            self.log.durable_end()
        } else {
            self.log.end_offset()
        }
    }

    fn high_watermark_moved(&mut self) {
        let high_watermark = self.replica.high_watermark();
        for waiting in self.replicated.release(high_watermark) {
            // A requester that gave up no longer listens.
            let _ = waiting.send(());
        }
        self.wakers.high_watermark_moved();
    }

    /// Follower positions or the ISR have changed.
    fn release_counted(&mut self) {
        if self.counted.is_empty() {
            return;
        }
        let own_end = self.own_end();
        for (count, waiting) in &mut self.counted {
            if let Some(end) = self.replica.replicated_on(*count, own_end) {
                for waiting in waiting.release(end) {
                    // A requester that gave up no longer listens.
                    let _ = waiting.send(());
                }
            }
        }
        self.counted.retain(|_, waiting| !waiting.is_empty());
    }
}

impl Partition {
    /// Identity of the partition.
    #[must_use]
    pub const fn id(&self) -> TopicPartition {
        self.id
    }

    /// Name of the topic.
    #[must_use]
    pub const fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn assign(&self, me: BrokerId, image: &Arc<PartitionImage>) -> Option<Assigned> {
        let mut state = self.state.lock();
        state.assigned = Some(Arc::clone(image));
        let settings = state.settings();
        state.replica.set_settings(settings);
        let led_before = state.replica.is_leader();
        let ends = LeaderEnds {
            written: state.log.end_offset(),
            own: state.own_end(),
        };
        let assignment = Assignment {
            leader: image.leader,
            leader_epoch: image.leader_epoch,
            partition_epoch: image.partition_epoch,
            replicas: image.replicas.clone(),
            isr: image.isr.clone(),
            elr: image.elr.clone(),
        };
        debug_assert!(image.has_replica(me));
        let before = state.replica.high_watermark();
        let change = state
            .replica
            .handle_assignment(clock::now(), &assignment, ends);
        if state.replica.high_watermark() != before {
            state.high_watermark_moved();
        }
        state.release_counted();
        match change {
            RoleChange::Unchanged => None,
            RoleChange::ReplicasAdded => {
                state.wakers.appended();
                None
            }
            RoleChange::BecameLeader { missing } => {
                if led_before {
                    state.epoch_changed();
                } else {
                    state.role_changed();
                }
                self.note_given_up(missing, ends.written);
                self.low_watermark_moved.notify_waiters();
                state.log.assign_epoch(image.leader_epoch);
                Some(Assigned::Leader(image.leader_epoch))
            }
            RoleChange::BecameFollower => {
                state.role_changed();
                self.low_watermark_moved.notify_waiters();
                Some(Assigned::Follower(image.leader))
            }
        }
    }

    /// After an unclean election, this log ends at `log_end` without `records` that were committed.
    fn note_given_up(&self, records: u64, log_end: Offset) {
        if records > 0 {
            tracing::warn!(
                partition = %self, records, %log_end,
                "committed records are given up after an unclean leader election"
            );
            self.shared
                .records_given_up
                .fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Takes over changed topic settings.
    fn set_config(&self, config: TopicConfig) {
        let mut state = self.state.lock();
        state.log.set_config(config.log.clone());
        state.config = config;
        let settings = state.settings();
        state.replica.set_settings(settings);
    }

    /// Offsets below it are visible to consumers.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.state.lock().replica.high_watermark()
    }

    /// Epoch of the current role.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.lock().replica.leader_epoch()
    }

    /// # Errors
    /// [`NotLeader`] when this broker did not run for a while: another one may lead.
    fn check_lease(&self) -> Result<(), NotLeader> {
        self.check_lease_at(clock::now())
    }

    /// As [`Self::check_lease`], for whoever has looked at the clock.
    fn check_lease_at(&self, now: Time) -> Result<(), NotLeader> {
        if self.shared.lease.holds(now) {
            Ok(())
        } else {
            Err(NotLeader)
        }
    }

    /// For answers that a client takes for the end of the log: a leader that is cut off does not know
    /// where the log of its successor ends.
    ///
    /// # Errors
    /// [`NotLeader`] when the controller has not answered this broker for a while.
    pub fn check_confirmed(&self) -> Result<(), NotLeader> {
        if self.shared.lease.is_confirmed(clock::now()) {
            Ok(())
        } else {
            Err(NotLeader)
        }
    }

    /// Whether this broker leads the partition.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.state.lock().replica.is_leader()
    }

    /// Whether the last append found the disk full. Reads go on, and writes once there is space.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.state.lock().disk_full
    }

    /// Size of the log.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.state.lock().log.size_bytes()
    }

    /// Where the log is.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.state.lock().directory)
    }

    /// Whether the log, or the disk below it, failed: nothing will be written here any more.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        let state = self.state.lock();
        state.directory.is_failed() || state.log.is_failed()
    }

    /// ISR changes that are due.
    fn tick(&self, image: &Image) -> Option<IsrProposal> {
        let mut state = self.state.lock();
        state.replicated.retain(|waiting| !waiting.is_closed());
        state.durable.retain(|waiting| !waiting.is_closed());
        for waiting in state.counted.values_mut() {
            waiting.retain(|waiting| !waiting.is_closed());
        }
        let log_end = state.log.end_offset();
        (state.replica).handle_tick(clock::now(), log_end, |id| image.is_active(id))
    }

    fn isr_refused(&self, partition_epoch: broker_core::PartitionEpoch) {
        self.state
            .lock()
            .replica
            .handle_isr_refused(clock::now(), partition_epoch);
    }
}

impl State {
    /// Takes note of whether an append found space, and tells when that changes.
    fn note_append<T>(
        &mut self,
        partition: &Partition,
        appended: &Result<T, broker_log::AppendError>,
    ) {
        let full = match appended {
            Ok(_) => false,
            Err(broker_log::AppendError::Storage(StorageError::NoSpace)) => true,
            Err(_) => return,
        };
        if full == self.disk_full {
            return;
        }
        self.disk_full = full;
        let dir = self.log.dir().display();
        if full {
            tracing::error!(
                %partition, %dir,
                "the disk is full: writes are refused with KAFKA_STORAGE_ERROR and may be repeated, reads go on; make space"
            );
        } else {
            tracing::info!(%partition, %dir, "there is space again: writes go on");
        }
    }

    /// Answers of the earlier role will never come: who waits for them asks the new leader.
    fn role_changed(&mut self) {
        self.replicated.take_all().for_each(drop);
        self.durable.take_all().for_each(drop);
        self.counted.clear();
        self.epoch_changed();
    }

    /// This replica goes on leading, as after replicas were removed: who waits for an answer still
    /// gets it, because the log stays as it is; followers name their positions again.
    fn epoch_changed(&mut self) {
        self.wakers.role_changed();
        self.follower_starts.forget();
    }
}

enum Assigned {
    Leader(LeaderEpoch),
    Follower(Option<BrokerId>),
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.id.partition)
    }
}
