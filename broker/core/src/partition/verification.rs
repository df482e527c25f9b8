//! Verification of transactions (KIP-890): before the first record of a transaction enters a partition,
//! its leader asks the coordinator whether the partition belongs to it. Else a late request could begin
//! a transaction that nobody ever ends.
//!
//! Invariant: a guard is valid from before the question until a marker or a first record of its
//! producer, or a new leader, so that an answer from before a marker lets nothing in after it.

use alloc::collections::BTreeMap;

use super::{NotLeader, Replica, SequencedBatch};
use crate::{ProducerEpoch, ProducerId};

/// Verifications of one partition at a time; with one more all of them begin anew.
pub const VERIFICATIONS_MAX: usize = 10_000;

/// Proof that a verification began, and of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationGuard(u64);

#[derive(Debug)]
pub(super) struct Verifications {
    under_way: BTreeMap<ProducerId, (ProducerEpoch, VerificationGuard)>,
    next: u64,
}

impl Verifications {
    pub(super) const fn new() -> Self {
        Self {
            under_way: BTreeMap::new(),
            next: 0,
        }
    }

    fn begin(&mut self, id: ProducerId, epoch: ProducerEpoch) -> VerificationGuard {
        if let Some((known, guard)) = self.under_way.get(&id)
            && *known == epoch
        {
            return *guard;
        }
        if self.under_way.len() >= VERIFICATIONS_MAX {
            self.under_way.clear();
        }
        let guard = VerificationGuard(self.next);
        self.next += 1;
        self.under_way.insert(id, (epoch, guard));
        guard
    }

    pub(super) fn clear(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn forget(&mut self, id: ProducerId) {
        self.under_way.remove(&id);
    }

    pub(super) fn holds(&self, batch: &SequencedBatch, guard: Option<VerificationGuard>) -> bool {
        let held = self.under_way.get(&batch.producer_id);
        guard.is_some_and(|guard| held == Some(&(batch.producer_epoch, guard)))
    }
}

impl Replica {
    /// Whether this epoch of the producer has a transaction with records here.
    #[must_use]
    pub fn in_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.producers.in_transaction(id, epoch)
    }

    /// To be called before the coordinator is asked; `None` when there is nothing to ask because the
    /// transaction has records here already.
    ///
    /// # Errors
    /// [`NotLeader`].
    pub fn begin_verification(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<Option<VerificationGuard>, NotLeader> {
        self.leader()?;
        Ok((!self.in_transaction(id, epoch)).then(|| self.verifications.begin(id, epoch)))
    }
}
