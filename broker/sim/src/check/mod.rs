//! What must hold, whatever happens: one file for each invariant.
//!
//! The checker keeps, beside the brokers, its own account of each partition: what was committed
//! (first seen below a leader's high watermark), what clients were told, and which replicas may
//! have lost what they had.

mod acknowledged;
mod client;
mod committed;
mod completeness;
mod converged;
mod deletion;
mod election;
mod isr;
mod lease;
mod log;
mod shutdown;
mod unclean;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use broker_wire::record::{RecordBatch, batches};

use crate::trace::Micros;

pub(crate) use log::{Close, Disk};

/// Memory for one batch; those of a run are not compressed.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Simulated microseconds since the start of the run.
    pub at: u64,
    /// The invariant, in words.
    pub invariant: &'static str,
    /// What was found instead.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at / 1_000_000, self.at / 1000 % 1000);
        write!(
            f,
            "t={seconds}.{millis:03}s  {}: {}",
            self.invariant, self.found
        )
    }
}

/// A batch that a producer made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) first_value: u64,
    pub(crate) count: u64,
    /// The idempotent producer that made it.
    pub(crate) idempotent: Option<usize>,
}

/// A record below a high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    epoch: LeaderEpoch,
    value: u64,
    /// The lowest `min.insync.replicas` since it was committed.
    min_insync_replicas: usize,
}

/// What the checker knows of one partition.
#[derive(Debug, Default)]
struct Account {
    committed: Vec<Committed>,
    /// By first value, with the time at which it was first sent.
    sent: BTreeMap<u64, (Sent, Micros)>,
    /// Offsets by first value, as producers were told.
    acknowledged: BTreeMap<u64, Offset>,
    /// Power failures and failed logs of brokers with a replica.
    lossy: Vec<(Micros, BrokerId)>,
    /// Leaders by epoch.
    leaders: BTreeMap<LeaderEpoch, BrokerId>,
    /// Acknowledged records were given up, and might be: nothing is certain from here on.
    gave_up: bool,
    /// The highest offset below which a client had records deleted.
    deleted_to: Offset,
    /// `min.insync.replicas` as the controller knows it.
    min_insync_replicas: usize,
    /// `flush.messages=1`.
    flushes_every_message: bool,
    /// Records committed since the copies were last counted: how many copies there must be.
    to_count: Option<usize>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    accounts: BTreeMap<TopicPartition, Account>,
    stopped: BTreeMap<(BrokerId, TopicPartition), log::Stopped>,
    powerless: BTreeSet<BrokerId>,
    /// High watermarks of leaders.
    led_to: BTreeMap<(BrokerId, TopicPartition), (LeaderEpoch, Offset)>,
    touched: BTreeSet<TopicPartition>,
    /// Where logs start at least, as leaders counted on.
    starts: BTreeMap<(BrokerId, TopicPartition), Offset>,
    /// What was committed when they woke up from a pause that was longer than their session.
    woken: BTreeMap<BrokerId, Arc<Image>>,
    violation: Option<Violation>,
}

impl Checker {
    /// The first violation.
    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Records that were committed.
    pub(crate) fn committed_records(&self) -> u64 {
        let accounts = self.accounts.values();
        accounts.map(|account| account.committed.len() as u64).sum()
    }

    /// End of what is committed in a partition.
    pub(crate) fn committed_end(&self, id: TopicPartition) -> Offset {
        self.accounts.get(&id).map_or(Offset(0), Account::end)
    }

    fn note_promises(&mut self, image: &Image) {
        for (id, state) in image.partitions() {
            let Some(topic) = image.topics.get(&id.topic) else {
                continue;
            };
            let wanted = image.min_insync_replicas(topic, 1);
            let promised = wanted.min(state.replication_factor());
            let flush_messages = image.topic_config(topic, "flush.messages");
            let account = self.account(id);
            account.flushes_every_message = flush_messages == Some("1");
            if account.min_insync_replicas != promised {
                account.promise(promised);
            }
        }
    }

    fn violate(&mut self, at: Micros, invariant: &'static str, found: impl Into<String>) {
        let found = found.into();
        self.violation.get_or_insert(Violation {
            at,
            invariant,
            found,
        });
    }

    fn account(&mut self, id: TopicPartition) -> &mut Account {
        self.accounts.entry(id).or_default()
    }

    /// The metadata goes from `old` to `new`.
    pub(crate) fn metadata_committed(&mut self, now: Micros, old: &Image, new: &Image) {
        self.lint(now, new);
        self.note_promises(new);
        self.check_unclean_election(now, new);
        for (id, state) in new.partitions() {
            let before = old.partition(id);
            if before.is_some_and(|before| before == state) {
                continue;
            }
            self.touched.insert(id);
            self.elected(now, new, id, before.map(|before| &**before), state);
        }
    }
}

impl Account {
    /// Fewer copies are promised from now on, of what is committed already, too: an ISR that is large
    /// enough now leaves no ELR, whatever the members had that left it.
    fn promise(&mut self, min_insync_replicas: usize) {
        self.min_insync_replicas = min_insync_replicas;
        for record in &mut self.committed {
            record.min_insync_replicas = record.min_insync_replicas.min(min_insync_replicas);
        }
    }

    fn end(&self) -> Offset {
        Offset(self.committed.len() as i64)
    }

    /// When the record was first sent, 0 when nobody knows.
    fn sent_at(&self, value: u64) -> Micros {
        let made = self.sent.range(..=value).next_back();
        made.map_or(0, |(_, (_, at))| *at)
    }

    fn lossy_since(&self, at: Micros) -> usize {
        self.lossy
            .iter()
            .filter(|(lost_at, _)| *lost_at >= at)
            .count()
    }

    /// Whether the records from `from` on may be lost: there were as many lossy failures since each
    /// was sent as copies were asked for.
    fn may_lose(&self, from: Offset) -> bool {
        let lost = &self.committed[(from.0 as usize).min(self.committed.len())..];
        self.gave_up
            || lost.iter().all(|record| {
                self.lossy_since(self.sent_at(record.value)) >= record.min_insync_replicas
            })
    }

    fn give_up(&mut self, from: Offset) {
        self.committed.truncate(from.0 as usize);
        self.gave_up = true;
    }
}

/// The records of a batch by offset.
pub(crate) fn values(batch: &[u8]) -> Vec<(Offset, u64)> {
    let Ok(batch) = RecordBatch::open(batch, BATCH_BYTES_MAX) else {
        return Vec::new();
    };
    let records = batch.records().flatten();
    records
        .filter_map(|record| {
            let value = record.value?.as_ref().try_into().ok()?;
            Some((Offset(record.offset), u64::from_be_bytes(value)))
        })
        .collect()
}

/// The records of `bytes` from `from` up to and without `to`, with their epochs.
fn records(bytes: &[u8], from: Offset, to: Offset) -> Vec<(Offset, LeaderEpoch, u64)> {
    let mut found = Vec::new();
    for (header, batch) in batches(bytes).flatten() {
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        let wanted = values(batch)
            .into_iter()
            .filter(|(offset, _)| *offset >= from && *offset < to);
        found.extend(wanted.map(|(offset, value)| (offset, epoch, value)));
    }
    found
}
