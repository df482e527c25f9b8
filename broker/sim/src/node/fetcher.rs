//! The follower's end of replication from one leader broker. Mirrors
//! `broker/src/replica/fetcher.rs`.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::{BrokerEpoch, Timestamp, TopicPartition};

use super::hosted::Hosted;
use crate::event::Pull;
use crate::trace::Micros;

/// Pulls under way on one stream.
const PULLS_MAX: usize = 2;
/// Wait before a connection that failed is made again, and before a refused partition is pulled
/// again.
const RETRY_AFTER: Micros = 100_000;
/// Without an answer for so long, the connection counts as dead.
const SILENCE_MAX: Micros = 900_000;

#[derive(Debug)]
struct Stream {
    id: u64,
    registration: BrokerEpoch,
    outstanding: usize,
    heard: Micros,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Fetcher {
    /// When the stream's last message to the leader arrives.
    pub(crate) last: Micros,
    stream: Option<Stream>,
    partitions: BTreeSet<TopicPartition>,
    /// To be named in the next pull.
    changed: BTreeSet<TopicPartition>,
    removed: BTreeSet<TopicPartition>,
    /// Refused by the leader; named again at this time.
    retry: BTreeMap<TopicPartition, Micros>,
    /// No new stream before.
    pause_until: Micros,
}

/// What a fetcher wants sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Pull(Pull),
    /// The stream is given up.
    Close {
        stream: u64,
    },
}

impl Fetcher {
    pub(crate) fn follow(&mut self, id: TopicPartition) {
        self.partitions.insert(id);
        self.removed.remove(&id);
        self.changed.insert(id);
    }

    pub(crate) fn leave(&mut self, id: TopicPartition) {
        self.partitions.remove(&id);
        self.changed.remove(&id);
        self.retry.remove(&id);
        self.removed.insert(id);
    }

    pub(crate) fn follows(&self, id: TopicPartition) -> bool {
        self.partitions.contains(&id)
    }

    pub(crate) fn is_current(&self, stream: u64) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|current| current.id == stream)
    }

    /// An answer came in on the stream.
    pub(crate) const fn heard(&mut self, now: Micros) {
        if let Some(stream) = &mut self.stream {
            stream.outstanding = stream.outstanding.saturating_sub(1);
            stream.heard = now;
        }
    }

    pub(crate) fn continues(&mut self, id: TopicPartition) {
        self.changed.insert(id);
    }

    pub(crate) fn retries(&mut self, now: Micros, id: TopicPartition) {
        self.retry.insert(id, now + RETRY_AFTER);
    }

    /// Partitions that the next pull names.
    pub(crate) fn named(&self, of: impl Fn(TopicPartition) -> bool) -> Vec<TopicPartition> {
        self.changed.iter().copied().filter(|id| of(*id)).collect()
    }

    /// The stream could not be written to.
    pub(crate) fn broke(&mut self, now: Micros) {
        self.stream = None;
        self.pause_until = now + RETRY_AFTER;
    }

    /// What is to be sent now.
    pub(crate) fn step(
        &mut self,
        (now, timestamp): (Micros, Timestamp),
        broker_epoch: BrokerEpoch,
        hosted: &mut BTreeMap<TopicPartition, Hosted>,
        new_stream: impl FnOnce() -> u64,
    ) -> Option<Outgoing> {
        if let Some(stream) = &self.stream {
            let silent = stream.outstanding > 0 && now > stream.heard + SILENCE_MAX;
            if silent || self.partitions.is_empty() || stream.registration != broker_epoch {
                let stream = stream.id;
                self.stream = None;
                if silent {
                    self.pause_until = now + RETRY_AFTER;
                }
                return Some(Outgoing::Close { stream });
            }
        }
        if self.partitions.is_empty() || now < self.pause_until {
            return None;
        }
        if self.stream.is_none() {
            self.changed = self.partitions.clone();
            self.removed.clear();
            self.retry.clear();
            self.last = now;
            self.stream = Some(Stream {
                id: new_stream(),
                registration: broker_epoch,
                outstanding: 0,
                heard: now,
            });
        }
        self.resume_refused(now);
        let stream = self.stream.as_mut()?;
        let wanted =
            stream.outstanding == 0 || !self.changed.is_empty() || !self.removed.is_empty();
        if !wanted || stream.outstanding >= PULLS_MAX {
            return None;
        }
        stream.outstanding += 1;
        if stream.outstanding == 1 {
            stream.heard = now;
        }
        let positions = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|id| Some((id, hosted.get_mut(&id)?.position_to_pull(timestamp)?)));
        Some(Outgoing::Pull(Pull {
            stream: stream.id,
            broker_epoch,
            partitions: positions.collect(),
            removed: std::mem::take(&mut self.removed).into_iter().collect(),
        }))
    }

    fn resume_refused(&mut self, now: Micros) {
        let due = self.retry.iter().filter(|(_, at)| **at <= now);
        let due: Vec<TopicPartition> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.retry.remove(&id);
            self.changed.insert(id);
        }
    }
}
