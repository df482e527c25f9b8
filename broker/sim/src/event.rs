//! What can happen, and the queue that orders it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use broker_core::controller::{Command, Response};
use broker_core::partition::Acks;
use broker_core::{BrokerEpoch, LeaderEpoch, Offset, Time, TopicPartition};
use bytes::Bytes;

use crate::trace::Micros;

/// Who sends and receives messages. Brokers and clients are indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Broker(usize),
    Client(usize),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Broker(index) => format!("broker {index}"),
            Self::Client(index) => format!("client {index}"),
        };
        f.pad(&text)
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    /// `run` is the process that the sender was connected to: its successor never sees the message.
    Deliver {
        from: Peer,
        to: Peer,
        run: u32,
        message: Message,
    },
    BrokerTimer {
        broker: usize,
        run: u32,
        timer: BrokerTimer,
    },
    ClientTimer {
        client: usize,
    },
    /// The process of the broker starts.
    Start {
        broker: usize,
    },
    /// A paused process goes on.
    Resume {
        broker: usize,
    },
    /// The broker's disk has room again.
    DiskFreed {
        broker: usize,
    },
    /// The heartbeat stream of a dead process is closed by its kernel.
    HeartbeatClosed {
        broker: usize,
        stream: u64,
    },
    Fault(usize),
    QuorumTick,
    /// The active controller takes what is in its mailbox.
    QuorumDecide {
        term: u64,
    },
    QuorumCommit {
        term: u64,
    },
    /// Faults are over.
    Heal,
    /// Looks whether everything has come right.
    Settle,
}

/// Timers of a broker's process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BrokerTimer {
    Heartbeat,
    /// The process runs.
    Lease,
    Metadata,
    /// The disk has done what metadata asked of it.
    Applied,
    Isr,
    Fetchers,
    /// Looks for logs whose last flush failed or is overdue.
    Flushes,
    Checkpoint,
    /// A group commit ends.
    Flush(TopicPartition),
    /// The wait of a follower's pull ends.
    Pull {
        stream: u64,
    },
}

/// What travels over the network.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Produce {
        request: u64,
        partition: TopicPartition,
        batch: Bytes,
        acks: Acks,
    },
    Produced {
        request: u64,
        result: Result<Offset, ProduceError>,
    },
    Fetch {
        request: u64,
        partition: TopicPartition,
        epoch: LeaderEpoch,
        offset: Offset,
    },
    Fetched {
        request: u64,
        result: Result<Bytes, FetchError>,
    },
    EpochEnd {
        request: u64,
        partition: TopicPartition,
        current: LeaderEpoch,
        wanted: LeaderEpoch,
    },
    EpochEnded {
        request: u64,
        result: Result<Option<(LeaderEpoch, Offset)>, FetchError>,
    },
    DeleteRecords {
        request: u64,
        partition: TopicPartition,
        before: Offset,
    },
    /// Where the log of every live replica starts now, or later.
    RecordsDeleted {
        request: u64,
        result: Result<Offset, DeleteError>,
    },
    Pull(Pull),
    Pulled {
        stream: u64,
        partitions: Vec<PulledPartition>,
    },
    PullClosed {
        stream: u64,
    },
    Submit {
        request: u64,
        /// The process that sends the command, and when.
        run: u32,
        sent_at: Micros,
        command: Box<Command>,
    },
    Submitted {
        request: u64,
        result: Result<Box<Response>, NotController>,
    },
    Heartbeat {
        stream: u64,
        /// By the sender's clock.
        sent_at: Time,
        epoch: BrokerEpoch,
        offset: u64,
        wants_shutdown: bool,
    },
    HeartbeatAnswer {
        stream: u64,
        /// When the heartbeat was sent that this answers.
        sent_at: Time,
        answer: HeartbeatAnswer,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotController;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProduceError {
    /// Ask for fresh metadata and try again.
    NotLeader,
    NotEnoughReplicas,
    /// The sequence does not follow the last one known.
    OutOfOrder,
    /// A repetition of what was appended some batches ago.
    AppendedBefore,
    Storage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteError {
    NotLeader,
    /// The offset is above the high watermark.
    OutOfRange,
    Storage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    NotLeader,
    OutOfRange { start: Offset, end: Offset },
    Storage,
}

#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub(crate) stream: u64,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) partitions: Vec<(TopicPartition, FollowerPosition)>,
    pub(crate) removed: Vec<TopicPartition>,
}

/// A follower's position in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FollowerPosition {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) fetch_offset: Offset,
    pub(crate) last_epoch: LeaderEpoch,
    pub(crate) log_start: Offset,
}

#[derive(Clone, Debug)]
pub(crate) struct PulledPartition {
    pub(crate) partition: TopicPartition,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) content: PulledContent,
}

#[derive(Clone, Debug)]
pub(crate) enum PulledContent {
    Records(Bytes),
    Diverging(broker_core::partition::Divergence),
    OutOfRange,
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum HeartbeatAnswer {
    Heard { fenced: bool, may_shutdown: bool },
    StaleEpoch,
    NotController,
}

/// Events by time, then by the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BinaryHeap<Reverse<Entry>>,
    added: u64,
}

#[derive(Debug)]
struct Entry {
    at: Micros,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Queue {
    pub(crate) fn add(&mut self, at: Micros, event: Event) {
        let order = self.added;
        self.added += 1;
        self.events.push(Reverse(Entry { at, order, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(Micros, Event)> {
        self.events
            .pop()
            .map(|Reverse(entry)| (entry.at, entry.event))
    }
}
