//! A producer: one batch in flight for each partition.

use std::collections::BTreeMap;

use broker_core::TopicPartition;
use broker_core::partition::Acks;

use super::{batch, leader};
use crate::check::Sent;
use crate::env::Env;
use crate::event::{Event, Message, Peer, ProduceError};
use crate::plan::ProducerPlan;
use crate::trace::Micros;

const INTERVAL: Micros = 25_000;
/// Without an answer for so long, a request is repeated or given up.
const REQUEST_TIMEOUT: Micros = 400_000;

/// See the module's documentation.
pub(crate) struct Producer {
    index: usize,
    plan: ProducerPlan,
    partitions: BTreeMap<TopicPartition, Lane>,
    next_value: u64,
    /// Raised when a sequence is given up (KIP-360): what is on its way of it is fenced.
    epoch: i16,
}

/// What goes to one partition.
#[derive(Default)]
struct Lane {
    next_sequence: i32,
    in_flight: Option<InFlight>,
}

#[derive(Clone, Copy)]
struct InFlight {
    request: u64,
    sent_at: Micros,
    /// The answer was an error that a repetition may mend.
    refused: bool,
    first_value: u64,
    count: u64,
    sequence: i32,
}

impl Producer {
    pub(crate) const fn new(index: usize, plan: ProducerPlan) -> Self {
        Self {
            index,
            plan,
            partitions: BTreeMap::new(),
            next_value: (index as u64) << 32,
            epoch: 0,
        }
    }

    const fn id(&self) -> i64 {
        self.index as i64
    }

    const fn acks(&self) -> Acks {
        match self.plan {
            ProducerPlan::Fire => Acks::None,
            ProducerPlan::Leader => Acks::Leader,
            ProducerPlan::Two => Acks::Counted(2),
            ProducerPlan::All | ProducerPlan::Idempotent => Acks::All,
        }
    }

    /// Whether everything that must be answered is.
    pub(crate) fn is_idle(&self) -> bool {
        self.plan != ProducerPlan::Idempotent
            || self
                .partitions
                .values()
                .all(|lane| lane.in_flight.is_none())
    }

    pub(crate) fn tick(&mut self, env: &mut Env) {
        let delay = INTERVAL / 2 + env.random.range(0, INTERVAL);
        env.after(delay, Event::ClientTimer { client: self.index });
        let ids: Vec<TopicPartition> = env.image().partitions().map(|(id, _)| id).collect();
        for id in ids {
            let lane = self.partitions.entry(id).or_default();
            match lane.in_flight {
                Some(sent) if self.plan == ProducerPlan::Idempotent => {
                    if sent.refused || env.now > sent.sent_at + REQUEST_TIMEOUT {
                        self.send(env, id, sent);
                    }
                }
                Some(sent) if env.now <= sent.sent_at + REQUEST_TIMEOUT && !sent.refused => {}
                _ if env.healed => {}
                _ => self.send_new(env, id),
            }
        }
    }

    fn send_new(&mut self, env: &mut Env, id: TopicPartition) {
        let count = env.random.range(1, 4);
        let lane = self.partitions.entry(id).or_default();
        let new = InFlight {
            request: 0,
            sent_at: env.now,
            refused: false,
            first_value: self.next_value,
            count,
            sequence: lane.next_sequence,
        };
        self.next_value += count;
        lane.next_sequence += count as i32;
        env.check.produced(
            env.now,
            id,
            Sent {
                first_value: new.first_value,
                count,
                idempotent: (self.plan == ProducerPlan::Idempotent).then_some(self.index),
            },
        );
        self.send(env, id, new);
    }

    fn send(&mut self, env: &mut Env, id: TopicPartition, sent: InFlight) {
        let Some((leader, _)) = leader(env, id) else {
            let refused = true;
            self.keep(
                id,
                InFlight {
                    refused,
                    sent_at: env.now,
                    ..sent
                },
            );
            return;
        };
        let request = env.next_id();
        let sequence = (self.plan == ProducerPlan::Idempotent).then_some((
            self.id(),
            self.epoch,
            sent.sequence,
        ));
        let message = Message::Produce {
            request,
            partition: id,
            batch: batch(sent.first_value, sent.count, sequence),
            acks: self.acks(),
        };
        let to = Peer::Broker(leader.0 as usize);
        if self.plan == ProducerPlan::Idempotent {
            env.send(Peer::Client(self.index), to, message);
        } else {
            // A client's connection doesn't repeat what it carries.
            env.send_in_order(Peer::Client(self.index), to, message, &mut 0);
        }
        let refused = self.plan == ProducerPlan::Fire;
        self.keep(
            id,
            InFlight {
                request,
                sent_at: env.now,
                refused,
                ..sent
            },
        );
    }

    fn keep(&mut self, id: TopicPartition, in_flight: InFlight) {
        self.partitions.entry(id).or_default().in_flight = Some(in_flight);
    }

    pub(crate) fn handle(&mut self, env: &mut Env, from: Peer, message: Message) {
        let Message::Produced { request, result } = message else {
            return;
        };
        let lanes = self.partitions.iter_mut();
        let found = lanes.filter_map(|(id, lane)| Some((*id, lane.in_flight?)));
        let mut found = found.filter(|(_, sent)| sent.request == request);
        let Some((id, sent)) = found.next() else {
            return;
        };
        drop(found);
        match result {
            Ok(base_offset) => {
                if self.acks() == Acks::All {
                    env.check
                        .acknowledged(env.now, id, base_offset, sent.first_value, sent.count);
                }
                self.partitions.entry(id).or_default().in_flight = None;
            }
            // A broker that no longer leads does not know what was appended elsewhere since.
            Err(ProduceError::OutOfOrder) if leads(env, id, from) => {
                env.check.sequence_lost(env.now, id, self.index);
                self.epoch += 1;
                self.partitions.clear();
            }
            Err(_) => {
                let refused = true;
                self.keep(id, InFlight { refused, ..sent });
            }
        }
    }
}

fn leads(env: &Env, id: TopicPartition, broker: Peer) -> bool {
    let state = env.image().partition(id);
    let leader = state.and_then(|state| state.leader);
    leader.is_some_and(|leader| broker == Peer::Broker(leader.0 as usize))
}
