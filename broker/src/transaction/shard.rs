//! The transactional ids of one partition of `__transaction_state`, from becoming its leader until
//! resigning.

use std::sync::Arc;
use std::time::Duration;

use broker_core::transaction::{State, TransactionRecord, Transactions};
use broker_core::{PartitionIndex, partition};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Peers, Refused, TransactionCounts, codec, markers};
use crate::coordinator::{LedPartition, PartitionLog};
use crate::partition::AppendError;

/// How long a request waits for its record to be replicated.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Shard {
    pub(super) partition: PartitionIndex,
    pub(super) log: LedPartition,
    pub(super) peers: Arc<Peers>,
    pub(super) counts: Arc<TransactionCounts>,
    phase: Mutex<Phase>,
    /// A record was stored, or could not be.
    pub(super) changed: Notify,
    pub(super) resigned: CancellationToken,
}

enum Phase {
    Loading,
    Serving(Transactions),
    Resigned,
}

impl Shard {
    pub(super) fn new(
        partition: PartitionIndex,
        log: LedPartition,
        peers: Arc<Peers>,
        counts: Arc<TransactionCounts>,
    ) -> Self {
        Self {
            partition,
            log,
            peers,
            counts,
            phase: Mutex::new(Phase::Loading),
            changed: Notify::new(),
            resigned: CancellationToken::new(),
        }
    }

    /// Begins to serve, unless the shard has resigned while it was loading, and goes on with what an
    /// earlier coordinator has decided.
    pub(super) fn serve(self: &Arc<Self>, transactions: Transactions) {
        let prepared: Vec<_> = transactions.all_prepared().map(|p| p.id).collect();
        {
            let mut phase = self.phase.lock();
            if !matches!(*phase, Phase::Loading) {
                return;
            }
            *phase = Phase::Serving(transactions);
        }
        for id in prepared {
            markers::start(self, id);
        }
    }

    pub(super) fn resign(&self) {
        self.resigned.cancel();
        *self.phase.lock() = Phase::Resigned;
        self.changed.notify_waiters();
    }

    /// Lets `f` ask or change the transactions.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Transactions) -> R) -> Result<R, Refused> {
        match &mut *self.phase.lock() {
            Phase::Loading => Err(Refused::Loading),
            Phase::Resigned => Err(Refused::NotCoordinator),
            Phase::Serving(transactions) => Ok(f(transactions)),
        }
    }

    /// Stores a record for which [`Transactions::begin`] was called, and applies it, whether or not the
    /// caller waits for it.
    ///
    /// # Errors
    /// [`Refused::NotStored`] also when it may yet be stored.
    pub(super) async fn store(shard: &Arc<Self>, record: TransactionRecord) -> Result<(), Refused> {
        let shard = Arc::clone(shard);
        let stored = tokio::spawn(async move { shard.append(record).await });
        let stored = timeout(STORE_TIMEOUT, stored).await;
        stored
            .map_err(|_| Refused::NotStored)?
            .unwrap_or(Err(Refused::NotCoordinator))
    }

    /// As [`Self::store`], without giving up: an error says that the record is not stored, or that this
    /// broker leads no more.
    pub(super) async fn append(self: &Arc<Self>, record: TransactionRecord) -> Result<(), Refused> {
        let outcome = self.append_and_apply(&record).await;
        self.changed.notify_waiters();
        outcome?;
        // What the record says: the id may have gone on since.
        let state = record.value.as_ref().map(|metadata| metadata.state);
        if state.is_some_and(State::is_prepared) {
            markers::start(self, record.id);
        }
        Ok(())
    }

    async fn append_and_apply(&self, record: &TransactionRecord) -> Result<(), Refused> {
        let appended = match self.log.begin_append(codec::batch(record), None) {
            Ok(appended) => appended,
            Err(error) => {
                // Nothing is in the log, also when the lease has lapsed for a moment.
                tracing::warn!(partition = %self.partition, %error, "a transaction's record was not stored");
                self.with(|transactions| transactions.give_up(record))?;
                return Err(refusal(&error));
            }
        };
        if let Some(acknowledged) = appended.acknowledged {
            // Whether it is stored, the next coordinator finds out. Until this one knows that it is
            // deposed, it decides nothing about the id.
            acknowledged.await.map_err(|_| Refused::NotCoordinator)?;
        }
        let before = self.with(|transactions| {
            let before = transactions.describe(&record.id).map(|known| known.state);
            transactions.apply(record);
            before
        })?;
        self.counts.note_stored(before, record);
        Ok(())
    }
}

const fn refusal(error: &AppendError) -> Refused {
    match error {
        AppendError::Refused(partition::AppendError::NotLeader(_)) | AppendError::Closed => {
            Refused::NotCoordinator
        }
        _ => Refused::NotStored,
    }
}
