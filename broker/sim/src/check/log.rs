//! A log that was opened is a prefix of what was appended: whole after a process died, and at least
//! what was durable after a power failure. Offsets are dense.

use broker_core::{BrokerId, Offset, TopicPartition};

use super::Checker;
use crate::node::Hosted;
use crate::trace::Micros;

/// Whether operations on a disk have failed since its broker started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Sound,
    Struck,
}

/// How a log was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// It is durable, and so is the mark that says so.
    Clean,
    Unclean,
}

/// How far a log went when its broker stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    durable: Offset,
    written: Offset,
    /// It may be found up to here.
    most: Offset,
}

impl Checker {
    /// A broker's process ends.
    pub(crate) fn log_stopped(
        &mut self,
        broker: BrokerId,
        hosted: &Hosted,
        close: Close,
        disk: Disk,
    ) {
        // A failed truncation may be found done.
        let kept = hosted.cut_short_at.unwrap_or(Offset(i64::MAX));
        let written = hosted.log.end_offset();
        let durable = match close {
            Close::Clean => written,
            Close::Unclean => hosted.log.durable_end(),
        };
        // What was deleted may come back in part.
        let durable = if durable <= hosted.log.start_offset() {
            Offset(0)
        } else {
            durable.min(kept)
        };
        let stopped = Stopped {
            durable,
            written: if hosted.log.is_failed() {
                durable
            } else {
                written
            },
            // A write that failed may have written whole batches before the one that it tore.
            most: if disk == Disk::Struck {
                Offset(i64::MAX)
            } else {
                written
            },
        };
        self.stopped.insert((broker, hosted.id), stopped);
    }

    /// A broker that had these logs loses what it had not synced: nothing that counts where every
    /// message is synced first, unless the disk has failed.
    pub(crate) fn power_lost(
        &mut self,
        now: Micros,
        broker: BrokerId,
        logs: impl IntoIterator<Item = TopicPartition>,
        disk_failed: bool,
    ) {
        self.powerless.insert(broker);
        let logs = logs.into_iter();
        let lossy = |id: &TopicPartition| disk_failed || !self.flushes_every_message(*id);
        let lossy: Vec<TopicPartition> = logs.filter(lossy).collect();
        self.may_have_lost(now, broker, lossy);
    }

    /// Whether the broker has lost power and did not come back.
    pub(super) fn is_powerless(&self, broker: BrokerId) -> bool {
        self.powerless.contains(&broker)
    }

    fn flushes_every_message(&self, id: TopicPartition) -> bool {
        let account = self.accounts.get(&id);
        account.is_some_and(|account| account.flushes_every_message)
    }

    /// A broker with these logs stops after a power failure or a failed sync: the controller counts
    /// none of what it had.
    pub(crate) fn may_have_lost(
        &mut self,
        now: Micros,
        broker: BrokerId,
        logs: impl IntoIterator<Item = TopicPartition>,
    ) {
        for id in logs {
            self.account(id).lossy.push((now, broker));
        }
    }

    pub(crate) fn log_opened(
        &mut self,
        now: Micros,
        broker: BrokerId,
        id: TopicPartition,
        end: Offset,
    ) {
        let Some(stopped) = self.stopped.remove(&(broker, id)) else {
            return;
        };
        let lost_power = self.powerless.contains(&broker);
        let least = if lost_power {
            stopped.durable
        } else {
            stopped.written
        };
        if end < least || end > stopped.most {
            self.violate(
                now,
                "a recovered log is a prefix of what was appended, with all that was durable",
                format!("broker {broker} opens {id} up to {end}: {stopped:?}"),
            );
        }
    }

    pub(crate) fn all_logs_opened(&mut self, broker: BrokerId) {
        self.powerless.remove(&broker);
        self.stopped.retain(|(stopped, _), _| *stopped != broker);
    }
}
