//! The high watermark of a leader never falls, and what lies below it never changes: every log
//! agrees with it up to its own high watermark.

use broker_core::{BrokerId, LeaderEpoch, Offset};
use broker_log::MinOneBatch;

use super::{Account, Checker, Committed, records};
use crate::node::Hosted;
use crate::trace::Micros;

impl Checker {
    /// A replica's high watermark moved, or its broker has just opened it.
    pub(crate) fn high_watermark_moved(
        &mut self,
        now: Micros,
        broker: BrokerId,
        hosted: &mut Hosted,
    ) {
        let high_watermark = hosted.replica.high_watermark();
        self.check_start(now, broker, hosted);
        if hosted.replica.is_leader() {
            if hosted.log.config().flush_messages == Some(1)
                && high_watermark > hosted.log.durable_end()
            {
                let found = format!(
                    "broker {broker} commits {} up to {high_watermark}, durable up to {}",
                    hosted.id,
                    hosted.log.durable_end()
                );
                self.violate(
                    now,
                    "with flush.messages=1, what is committed is durable",
                    found,
                );
            }
            let epoch = hosted.replica.leader_epoch();
            let last = self
                .led_to
                .insert((broker, hosted.id), (epoch, high_watermark));
            if last.is_some_and(|(led_in, led_to)| led_in == epoch && led_to > high_watermark) {
                let found = format!(
                    "broker {broker} falls back to {high_watermark} in {}",
                    hosted.id
                );
                self.violate(now, "a leader's high watermark never falls", found);
            }
        }
        self.compare(now, broker, hosted, high_watermark);
        self.touched.insert(hosted.id);
    }

    /// Compares a log with what is committed, from where that was done last up to `to`.
    pub(super) fn compare(
        &mut self,
        now: Micros,
        broker: BrokerId,
        hosted: &mut Hosted,
        to: Offset,
    ) {
        let account = self.accounts.entry(hosted.id).or_default();
        if account.gave_up && hosted.replica.is_leader() {
            account.skip_to(hosted.log.start_offset());
        }
        let mut from = hosted.verified.min(account.end());
        from = from.max(hosted.log.start_offset());
        while from < to {
            let read = hosted.log.read(from, to, usize::MAX, MinOneBatch::Yes);
            let Some(bytes) = read
                .ok()
                .flatten()
                .and_then(|slice| slice.read_to_bytes().ok())
            else {
                break;
            };
            for (offset, epoch, value) in records(&bytes, from, to) {
                let record = Committed {
                    epoch,
                    value,
                    min_insync_replicas: hosted
                        .min_insync_replicas
                        .min(hosted.replicas)
                        .min(account.min_insync_replicas),
                };
                let outcome = account.take(hosted, offset, record);
                if let Err(found) = outcome {
                    self.violate(
                        now,
                        "what is committed stays, and every log agrees with it",
                        format!("broker {broker} in {}: {found}", hosted.id),
                    );
                    return;
                }
                from = offset.plus(1);
            }
        }
        hosted.verified = hosted.verified.max(from);
    }
}

impl Account {
    /// Records were deleted that are committed again with the log that brings what comes behind them.
    fn skip_to(&mut self, start: Offset) {
        let deleted = Committed {
            epoch: LeaderEpoch::NONE,
            value: 0,
            min_insync_replicas: 0,
        };
        let end = self.committed.len().max(start.0 as usize);
        self.committed.resize(end, deleted);
    }

    fn take(&mut self, hosted: &Hosted, offset: Offset, record: Committed) -> Result<(), String> {
        let leads = hosted.replica.is_leader();
        let Some(known) = self.committed.get(offset.0 as usize) else {
            if !leads && self.gave_up {
                return Ok(());
            }
            if offset != self.end() {
                return Err(format!("offset {offset} follows {}", self.end()));
            }
            if !leads {
                return Err(format!(
                    "a follower's high watermark is above {offset}, which is not committed"
                ));
            }
            self.committed.push(record);
            self.to_count = Some(record.min_insync_replicas);
            return Ok(());
        };
        if (known.epoch, known.value) == (record.epoch, record.value) {
            return Ok(());
        }
        if !self.may_lose(offset) {
            return Err(format!(
                "offset {offset} has {:x} of epoch {}; {:x} of epoch {} was committed there",
                record.value, record.epoch, known.value, known.epoch
            ));
        }
        if leads {
            self.give_up(offset);
            self.committed.push(record);
        }
        Ok(())
    }
}
