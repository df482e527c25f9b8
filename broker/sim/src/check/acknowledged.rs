//! Nothing that was acknowledged with `acks=all` is lost while there were fewer lossy failures than
//! `min.insync.replicas`.

use broker_core::{Offset, TopicPartition};

use super::{Checker, Sent};
use crate::trace::Micros;

impl Checker {
    /// A producer sends a new batch.
    pub(crate) fn produced(&mut self, now: Micros, id: TopicPartition, sent: Sent) {
        self.account(id).sent.insert(sent.first_value, (sent, now));
    }

    /// A producer is told that its batch is on all in-sync replicas.
    pub(crate) fn acknowledged(
        &mut self,
        now: Micros,
        id: TopicPartition,
        base_offset: Offset,
        first_value: u64,
        count: u64,
    ) {
        let account = self.account(id);
        account.acknowledged.insert(first_value, base_offset);
        if account.gave_up {
            return;
        }
        let found = account.find_lost(base_offset, first_value, count);
        if let Some(found) = found {
            self.violate(
                now,
                "what is acknowledged is committed",
                format!("{id}: {found}"),
            );
        }
    }

    /// Everything acknowledged is still there.
    pub(super) fn check_acknowledged(&mut self, now: Micros) {
        let mut lost = None;
        for (id, account) in self.accounts.iter().filter(|(_, account)| !account.gave_up) {
            for (first_value, base_offset) in &account.acknowledged {
                let count = account
                    .sent
                    .get(first_value)
                    .map_or(1, |(sent, _)| sent.count);
                let found = account.find_lost(*base_offset, *first_value, count);
                lost = lost.or_else(|| found.map(|found| format!("{id}: {found}")));
            }
        }
        if let Some(found) = lost {
            self.violate(now, "nothing acknowledged is lost", found);
        }
    }
}

impl super::Account {
    fn find_lost(&self, base_offset: Offset, first_value: u64, count: u64) -> Option<String> {
        let missing = (0..count).find(|i| {
            let record = self.committed.get(base_offset.0 as usize + *i as usize);
            record.is_none_or(|record| record.value != first_value + i)
        })?;
        let at = base_offset.plus(missing as i64);
        Some(format!(
            "{:x} was acknowledged at {at} and is not there",
            first_value + missing
        ))
    }
}
