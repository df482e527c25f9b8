//! Batches that have to come before others of their producer.
//!
//! When a batch is refused for a reason that passes, those that its producer had sent behind it arrive
//! before it is sent again, and by then the reason may be gone. Appended, as those of a producer that is
//! not known would be, they make librdkafka take the first one for appended, too, which loses it. Refused
//! for the gap in their sequence, they make it begin a new producer epoch and send everything again, also
//! what an earlier leader has appended without a client's hearing of it: a duplicate that nobody can
//! recognise any more. So they are refused, for a reason that passes.
//!
//! The same holds for a gap that nobody has refused: when the lead moves, a client sends what is new to
//! the new leader while the former one still owes the answers to what comes before.

use alloc::collections::BTreeMap;

use super::SequencedBatch;
use crate::{Duration, ProducerEpoch, ProducerId, Time};

/// Longer than batches are on their way that were sent before the refusal was known, and longer than a
/// client pauses before it sends the refused one again.
const AWAITED_FOR: Duration = Duration::from_secs(5);
/// Longer than clients wait for the answer of a leader that is cut off, 30 s by default, before they send
/// the batch to its successor.
const CUT_OFF_FOR: Duration = Duration::from_secs(40);
/// Producers remembered for one partition; others are treated as if nothing had been refused.
const PRODUCERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct AwaitedBatches {
    awaited: BTreeMap<ProducerId, Awaited>,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    epoch: ProducerEpoch,
    sequence: i32,
    /// Since when it is missing, where nobody has refused it.
    missing_since: Option<Time>,
    until: Time,
}

impl AwaitedBatches {
    pub(super) const fn new() -> Self {
        Self {
            awaited: BTreeMap::new(),
        }
    }

    /// The batch of this epoch that begins with `sequence` has to come next, unless an earlier one has to.
    pub(super) fn note(
        &mut self,
        now: Time,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: i32,
    ) {
        let until = now.plus(AWAITED_FOR);
        if let Some(known) = self.awaited.get_mut(&producer)
            && known.epoch >= epoch
            && known.until > now
        {
            known.until = known.until.max(until);
            return;
        }
        self.insert(
            now,
            producer,
            Awaited {
                epoch,
                sequence,
                missing_since: None,
                until,
            },
        );
    }

    /// `batch` came before the one with `sequence`, which nobody has refused. `false` when that one was
    /// awaited before, in vain.
    pub(super) fn note_missing(
        &mut self,
        now: Time,
        batch: &SequencedBatch,
        sequence: i32,
    ) -> bool {
        let (producer, epoch) = (batch.producer_id, batch.producer_epoch);
        let known = self.awaited.get(&producer);
        if known.is_some_and(|it| {
            it.missing_since.is_some() && it.epoch == epoch && it.sequence == sequence
        }) {
            return false;
        }
        self.insert(
            now,
            producer,
            Awaited {
                epoch,
                sequence,
                missing_since: Some(now),
                until: now.plus(AWAITED_FOR),
            },
        )
    }

    /// A former leader may be cut off, and owe answers to what is missing: it is awaited until clients
    /// lose patience.
    pub(super) fn extend_missing(&mut self, now: Time) {
        let live = self.awaited.values_mut().filter(|it| it.until > now);
        for awaited in live {
            if let Some(since) = awaited.missing_since {
                let until = now.plus(AWAITED_FOR).min(since.plus(CUT_OFF_FOR));
                awaited.until = awaited.until.max(until);
            }
        }
    }

    fn insert(&mut self, now: Time, producer: ProducerId, awaited: Awaited) -> bool {
        let has_room = self.awaited.contains_key(&producer) || self.has_room(now);
        if has_room {
            self.awaited.insert(producer, awaited);
        }
        has_room
    }

    fn has_room(&mut self, now: Time) -> bool {
        if self.awaited.len() >= PRODUCERS_MAX {
            self.expire(now);
        }
        self.awaited.len() < PRODUCERS_MAX
    }

    /// Forgets what was awaited in vain, after a while in which it is not awaited once more.
    pub(super) fn expire(&mut self, now: Time) {
        self.awaited
            .retain(|_, awaited| awaited.until.plus(CUT_OFF_FOR) > now);
    }

    /// The producer's batches are taken again.
    pub(super) fn forget(&mut self, producer: ProducerId) {
        if !self.awaited.is_empty() {
            self.awaited.remove(&producer);
        }
    }

    /// First sequence of the batch that has to come before `batch`.
    pub(super) fn before(&self, now: Time, batch: &SequencedBatch) -> Option<i32> {
        let awaited = self.awaited.get(&batch.producer_id)?;
        let holds = awaited.until > now && awaited.epoch == batch.producer_epoch;
        (holds && awaited.sequence != batch.first_sequence).then_some(awaited.sequence)
    }
}
