//! A consumer of every partition, from the beginning. When the leader epoch changes it asks where
//! its own epoch ends, and notices what was truncated (KIP-320).

use std::collections::BTreeMap;

use broker_core::{LeaderEpoch, Offset, TopicPartition};
use broker_wire::record::batches;

use super::leader;
use crate::check::values;
use crate::env::Env;
use crate::event::{Event, FetchError, Message, Peer};
use crate::trace::Micros;

const INTERVAL: Micros = 30_000;
const REQUEST_TIMEOUT: Micros = 400_000;

/// See the module's documentation.
pub(crate) struct Consumer {
    index: usize,
    partitions: BTreeMap<TopicPartition, Position>,
}

struct Position {
    offset: Offset,
    /// Epoch of the last record consumed.
    last_epoch: LeaderEpoch,
    /// Epoch that the position was found valid in.
    validated: LeaderEpoch,
    request: u64,
    sent_at: Option<Micros>,
    asked_epoch: LeaderEpoch,
}

impl Consumer {
    pub(crate) const fn new(index: usize) -> Self {
        Self {
            index,
            partitions: BTreeMap::new(),
        }
    }

    pub(crate) fn position(&self, id: TopicPartition) -> Offset {
        self.partitions
            .get(&id)
            .map_or(Offset(0), |position| position.offset)
    }

    pub(crate) fn tick(&mut self, env: &mut Env) {
        let delay = INTERVAL / 2 + env.random.range(0, INTERVAL);
        env.after(delay, Event::ClientTimer { client: self.index });
        let ids: Vec<TopicPartition> = env.image().partitions().map(|(id, _)| id).collect();
        for id in ids {
            let position = self.partitions.entry(id).or_insert(Position {
                offset: Offset(0),
                last_epoch: LeaderEpoch::NONE,
                validated: LeaderEpoch::NONE,
                request: 0,
                sent_at: None,
                asked_epoch: LeaderEpoch::NONE,
            });
            if position
                .sent_at
                .is_some_and(|sent_at| env.now <= sent_at + REQUEST_TIMEOUT)
            {
                continue;
            }
            let Some((broker, epoch)) = leader(env, id) else {
                continue;
            };
            // Metadata that is older than what a client knows counts for nothing.
            if epoch < position.asked_epoch {
                continue;
            }
            let request = env.next_id();
            position.request = request;
            position.sent_at = Some(env.now);
            position.asked_epoch = epoch;
            let validated = position.last_epoch == LeaderEpoch::NONE || position.validated >= epoch;
            let message = if validated {
                Message::Fetch {
                    request,
                    partition: id,
                    epoch,
                    offset: position.offset,
                }
            } else {
                let wanted = position.last_epoch;
                Message::EpochEnd {
                    request,
                    partition: id,
                    current: epoch,
                    wanted,
                }
            };
            env.send(
                Peer::Client(self.index),
                Peer::Broker(broker.0 as usize),
                message,
            );
        }
    }

    pub(crate) fn handle(&mut self, env: &mut Env, message: Message) {
        let (request, outcome) = match message {
            Message::Fetched { request, result } => (request, Outcome::Fetched(result)),
            Message::EpochEnded { request, result } => (request, Outcome::EpochEnded(result)),
            _ => return,
        };
        let mut partitions = self.partitions.iter_mut();
        let Some((id, position)) = partitions.find(|(_, position)| position.request == request)
        else {
            return;
        };
        position.sent_at = None;
        position.request = 0;
        match outcome {
            Outcome::Fetched(Ok(fetched)) => {
                for (header, bytes) in batches(&fetched).flatten() {
                    if header.next_offset() <= position.offset.0 {
                        continue;
                    }
                    for (offset, value) in values(bytes) {
                        if offset >= position.offset {
                            env.check.consumed(env.now, *id, offset, value);
                        }
                    }
                    position.offset = Offset(header.next_offset());
                    position.last_epoch = LeaderEpoch(header.partition_leader_epoch);
                }
                position.validated = position.asked_epoch;
            }
            Outcome::Fetched(Err(FetchError::OutOfRange { start, end })) => {
                if position.offset > end {
                    env.check.position_lost(env.now, *id, position.offset, end);
                }
                position.offset = position.offset.min(end).max(start);
            }
            Outcome::EpochEnded(Ok(ended)) => {
                let end = ended.map_or(Offset(0), |(_, end)| end);
                if end < position.offset {
                    env.check.position_lost(env.now, *id, position.offset, end);
                    position.offset = end;
                }
                position.validated = position.asked_epoch;
            }
            Outcome::Fetched(Err(_)) | Outcome::EpochEnded(Err(_)) => {}
        }
    }
}

enum Outcome {
    Fetched(Result<bytes::Bytes, FetchError>),
    EpochEnded(Result<Option<(LeaderEpoch, Offset)>, FetchError>),
}
