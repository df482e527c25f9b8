//! What clients see: an offset has one value for ever; with idempotence nothing is there twice or
//! out of order, and no sequence or position is lost.

use std::collections::BTreeMap;

use broker_core::{Offset, TopicPartition};

use super::{Account, Checker};
use crate::trace::Micros;

impl Checker {
    /// A consumer receives a record.
    pub(crate) fn consumed(&mut self, now: Micros, id: TopicPartition, offset: Offset, value: u64) {
        let account = self.account(id);
        let committed = account
            .committed
            .get(offset.0 as usize)
            .map(|record| record.value);
        if committed != Some(value) && !account.gave_up {
            let found =
                format!("{id}: {value:x} was consumed at {offset}, {committed:x?} is committed");
            self.violate(now, "what is consumed never changes", found);
        }
    }

    /// A consumer finds that the log ends at `end`, before its position.
    pub(crate) fn position_lost(
        &mut self,
        now: Micros,
        id: TopicPartition,
        position: Offset,
        end: Offset,
    ) {
        if !self.account(id).may_lose(end) {
            let found = format!("{id}: a consumer is at {position}, the log ends at {end}");
            self.violate(now, "what is consumed is not lost", found);
        }
    }

    /// An idempotent producer is told that its sequence does not follow.
    pub(crate) fn sequence_lost(&mut self, now: Micros, id: TopicPartition, producer: usize) {
        let account = self.account(id);
        if !account.gave_up && account.deleted_to == Offset(0) {
            let found =
                format!("{id}: producer {producer} is told that its sequence does not follow");
            self.violate(now, "producers' sequences are not lost", found);
        }
    }

    /// Values of idempotent producers are there once and in order. What producers' snapshots know of
    /// deleted records is not simulated.
    pub(super) fn check_sequences(&mut self, now: Micros) {
        let mut broken = None;
        let accounts = self.accounts.iter();
        let whole = |account: &Account| !account.gave_up && account.deleted_to == Offset(0);
        for (id, account) in accounts.filter(|(_, account)| whole(account)) {
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            for (offset, record) in account.committed.iter().enumerate() {
                let made = account.sent.range(..=record.value).next_back();
                let Some(producer) = made.and_then(|(_, (sent, _))| sent.idempotent) else {
                    continue;
                };
                let before = last.insert(producer, record.value);
                if let Some(before) = before.filter(|before| *before >= record.value) {
                    broken.get_or_insert_with(|| {
                        format!(
                            "{id}: {:x} at {offset} comes after {before:x}",
                            record.value
                        )
                    });
                }
            }
        }
        if let Some(found) = broken {
            self.violate(
                now,
                "idempotent producers' records are there once, in order",
                found,
            );
        }
    }
}
