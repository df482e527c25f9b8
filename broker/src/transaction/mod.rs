//! Transactions: which broker coordinates a transactional id, and the coordinator of those that live
//! here.
//!
//! A transactional id lives in one partition of `__transaction_state`; whoever leads it coordinates.
//! For each such partition there is a shard: the pure [`Transactions`] under a lock. Every record is
//! stored by a task of its own, so that a client that goes away leaves nothing half done; a record is
//! either refused by the log, in which case nothing happened, or waited for for as long as this broker
//! leads. What is answered without such a record needs a confirmed lease: a coordinator that is cut off
//! may have a successor that has decided more.
//!
//! * `codec`: the records; `loader`: reading them when this broker becomes the leader;
//! * `markers`: ends prepared transactions in all their partitions;
//! * `peers`: the other brokers; `service`: what they ask; `local_markers`: markers written here;
//! * `verification`: what a partition's leader asks before a transaction begins in it.

mod codec;
mod counts;
mod error;
mod loader;
mod local_markers;
mod markers;
mod peers;
mod service;
mod shard;
#[cfg(test)]
mod tests;
mod timer;
mod verification;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::lease::Lease;
use broker_core::transaction::{
    Config, Decision, EndRequest, Ended, InitOutcome, InitRequest, Producer, TransactionError,
    TransactionMetadata, TransactionTopicPartition, TransactionalId, Transactions,
};
use broker_core::{CoordinatorEpoch, LeaderEpoch, PartitionIndex, ProducerId};
use parking_lot::RwLock;
use tokio::time::{Instant, timeout_at};

pub use counts::TransactionCounts;
pub use error::Refused;
pub use peers::Peers;
pub use service::TransactionsService;
pub use verification::{JoinMode, Joining};

use crate::clock;
use crate::coordinator::{LedPartition, java_hash};
use crate::partition::RoleEvent;
use shard::Shard;

/// The topic that transactional ids live in.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// How long a request waits for the one before it: the end of a transaction takes as long as its
/// markers need.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// The transactional ids that this broker coordinates.
pub struct TransactionCoordinator {
    config: Config,
    partition_count: u32,
    /// Held while this broker may lead.
    lease: Arc<Lease>,
    peers: Arc<Peers>,
    shards: RwLock<BTreeMap<PartitionIndex, Led>>,
    counts: Arc<TransactionCounts>,
}

/// A partition that this broker leads.
struct Led {
    leader_epoch: LeaderEpoch,
    shard: Arc<Shard>,
}

/// What a request for an epoch or an end comes to.
pub enum Answer {
    Producer(Producer),
    /// Ask once more with a producer id that nobody has had.
    NeedsProducerId,
}

impl TransactionCoordinator {
    /// A coordinator without transactional ids. `partition_count` is that of `__transaction_state` and
    /// must never change.
    ///
    /// # Panics
    /// If there are no partitions.
    #[must_use]
    pub fn new(config: Config, partition_count: u32, lease: Arc<Lease>, peers: Arc<Peers>) -> Self {
        assert!(
            partition_count > 0,
            "transactions need a partition to live in"
        );
        Self {
            config,
            partition_count,
            lease,
            peers,
            shards: RwLock::default(),
            counts: Arc::default(),
        }
    }

    /// What happened to the transactions here.
    #[must_use]
    pub const fn counts(&self) -> &Arc<TransactionCounts> {
        &self.counts
    }

    /// Takes over the partitions that this broker has come to lead, and gives up those it no longer
    /// does. Must be called within a Tokio runtime.
    pub fn apply(&self, events: &[RoleEvent]) {
        for event in events {
            match event {
                RoleEvent::Leads { partition, epoch }
                    if **partition.topic() == *TRANSACTIONS_TOPIC =>
                {
                    let log = LedPartition::new(Arc::clone(partition), *epoch);
                    self.lead(partition.id().partition, *epoch, log);
                }
                RoleEvent::Follows { partition, .. }
                    if **partition.topic() == *TRANSACTIONS_TOPIC =>
                {
                    self.resign(partition.id().partition);
                }
                RoleEvent::Gone { id, topic } if **topic == *TRANSACTIONS_TOPIC => {
                    self.resign(id.partition);
                }
                _ => {}
            }
        }
    }

    fn lead(&self, partition: PartitionIndex, leader_epoch: LeaderEpoch, log: LedPartition) {
        let mut shards = self.shards.write();
        let is_known = |led: &Led| led.leader_epoch >= leader_epoch;
        if shards.get(&partition).is_some_and(is_known) {
            return;
        }
        let (peers, counts) = (Arc::clone(&self.peers), Arc::clone(&self.counts));
        let shard = Arc::new(Shard::new(partition, log, peers, counts));
        let led = Led {
            leader_epoch,
            shard: Arc::clone(&shard),
        };
        if let Some(former) = shards.insert(partition, led) {
            former.shard.resign();
        }
        let empty = Transactions::new(self.config, CoordinatorEpoch(leader_epoch.0));
        tokio::spawn(async move {
            loader::run(&shard, empty).await;
            timer::run(&shard).await;
        });
    }

    fn resign(&self, partition: PartitionIndex) {
        let led = self.shards.write().remove(&partition);
        if let Some(led) = led {
            led.shard.resign();
        }
    }

    /// The partition whose leader coordinates `id`.
    #[must_use]
    pub fn find(&self, id: &str) -> PartitionIndex {
        let index = java_hash(id).checked_abs().unwrap_or(0).unsigned_abs() % self.partition_count;
        PartitionIndex(index.cast_signed())
    }

    fn shard(&self, id: &str) -> Result<Arc<Shard>, Refused> {
        let shards = self.shards.read();
        let led = shards
            .get(&self.find(id))
            .filter(|_| self.lease.holds(clock::now()))
            .ok_or(Refused::NotCoordinator)?;
        Ok(Arc::clone(&led.shard))
    }

    /// Gives a producer its id and epoch; `fresh` is an unused producer id, if one was asked for.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn init(
        &self,
        request: &InitRequest,
        fresh: Option<ProducerId>,
    ) -> Result<Answer, Refused> {
        let shard = self.shard(&request.id)?;
        let deadline = Instant::now() + BUSY_WAIT;
        loop {
            let outcome = self.when_idle(&shard, deadline, |transactions| {
                let outcome = transactions.decide_init(clock::timestamp(), request, fresh)?;
                match &outcome {
                    InitOutcome::Decided(Decision::Store { record, .. })
                    | InitOutcome::Abort(record) => transactions.begin(record),
                    InitOutcome::Decided(Decision::Answer(_)) | InitOutcome::NeedsProducerId => {}
                }
                Ok(outcome)
            });
            match outcome.await? {
                InitOutcome::NeedsProducerId => return Ok(Answer::NeedsProducerId),
                InitOutcome::Decided(Decision::Answer(producer)) => {
                    return self.confirmed(Answer::Producer(producer));
                }
                InitOutcome::Decided(Decision::Store { record, answer }) => {
                    Shard::store(&shard, record).await?;
                    return Ok(Answer::Producer(answer));
                }
                InitOutcome::Abort(record) => Shard::store(&shard, record).await?,
            }
        }
    }

    /// Makes partitions part of a transaction. They must be in this broker's metadata, so that those which
    /// it does not have when the markers are written are gone.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[TransactionTopicPartition],
    ) -> Result<(), Refused> {
        let shard = self.shard(id)?;
        let image = self.peers.image();
        if partitions
            .iter()
            .any(|p| peers::leader_of(&image, p).is_none())
        {
            return Err(Refused::UnknownPartition);
        }
        let decision = self.when_idle(&shard, Instant::now() + BUSY_WAIT, |transactions| {
            let now = clock::timestamp();
            let decision = transactions.decide_add(now, id, producer, partitions.to_vec())?;
            if let Decision::Store { record, .. } = &decision {
                transactions.begin(record);
            }
            Ok(decision)
        });
        match decision.await? {
            Decision::Answer(()) => self.confirmed(()),
            Decision::Store { record, .. } => Shard::store(&shard, record).await,
        }
    }

    /// Whether partitions are part of a transaction.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn verify(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[TransactionTopicPartition],
    ) -> Result<(), Refused> {
        let shard = self.shard(id)?;
        let verified = self.when_idle(&shard, Instant::now() + BUSY_WAIT, |transactions| {
            let mut partitions = partitions.iter();
            partitions.try_for_each(|partition| transactions.verify(id, producer, partition))
        });
        self.confirmed(verified.await?)
    }

    /// Commits or aborts; answered when that is decided for good. `fresh` as in [`Self::init`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn end(
        &self,
        request: &EndRequest,
        fresh: Option<ProducerId>,
    ) -> Result<Answer, Refused> {
        let shard = self.shard(&request.id)?;
        let ended = self.when_idle(&shard, Instant::now() + BUSY_WAIT, |transactions| {
            let ended = transactions.decide_end(clock::timestamp(), request, fresh)?;
            if let Ended::Decided(Decision::Store { record, .. }) = &ended {
                transactions.begin(record);
            }
            Ok(ended)
        });
        match ended.await? {
            Ended::NeedsProducerId => Ok(Answer::NeedsProducerId),
            Ended::Decided(Decision::Answer(producer)) => {
                self.confirmed(Answer::Producer(producer))
            }
            Ended::Decided(Decision::Store { record, answer }) => {
                Shard::store(&shard, record).await?;
                Ok(Answer::Producer(answer))
            }
        }
    }

    /// What is known of a transactional id.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn describe(&self, id: &str) -> Result<Option<TransactionMetadata>, Refused> {
        let shard = self.shard(id)?;
        let described = shard.with(|transactions| transactions.describe(id).cloned())?;
        self.confirmed(described)
    }

    /// All ids that `f` wants to see something of.
    ///
    /// # Errors
    /// [`Refused::Loading`] when those of a partition are being loaded, [`Refused::NotCoordinator`] while
    /// this broker may have been replaced.
    pub fn list<T>(
        &self,
        mut f: impl FnMut(&TransactionalId, &TransactionMetadata) -> Option<T>,
    ) -> Result<Vec<T>, Refused> {
        let shards: Vec<Arc<Shard>> = {
            let shards = self.shards.read();
            shards.values().map(|led| Arc::clone(&led.shard)).collect()
        };
        let mut listed = Vec::new();
        for shard in shards {
            let found = shard.with(|transactions| {
                let ids = transactions.list();
                listed.extend(ids.filter_map(|(id, metadata)| f(id, metadata)));
            });
            if found == Err(Refused::Loading) {
                return Err(Refused::Loading);
            }
        }
        self.confirmed(listed)
    }

    /// Asks again until no earlier request of the id is under way, or the deadline has passed.
    async fn when_idle<T>(
        &self,
        shard: &Shard,
        deadline: Instant,
        mut decide: impl FnMut(&mut Transactions) -> Result<T, TransactionError>,
    ) -> Result<T, Refused> {
        loop {
            let changed = shard.changed.notified();
            match shard.with(&mut decide)? {
                Ok(decided) => return Ok(decided),
                Err(TransactionError::Concurrent) => {}
                Err(refusal) => {
                    self.confirmed(())?;
                    if refusal == TransactionError::Fenced {
                        self.counts.note_fenced();
                    }
                    return Err(refusal.into());
                }
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(TransactionError::Concurrent.into());
            }
        }
    }

    /// An answer that no record was stored for.
    fn confirmed<T>(&self, answer: T) -> Result<T, Refused> {
        let confirmed = self.lease.is_confirmed(clock::now()).then_some(answer);
        confirmed.ok_or(Refused::NotCoordinator)
    }
}
