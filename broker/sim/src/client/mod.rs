//! Clients: they know what the metadata says at times, and remember what they were told.

mod consumer;
mod deleter;
mod producer;

use broker_core::{BrokerId, LeaderEpoch, TopicPartition};
use broker_wire::record::{BatchBuilder, NewRecord};
use bytes::Bytes;

use crate::env::Env;
use crate::event::{Message, Peer};

pub(crate) use consumer::Consumer;
pub(crate) use deleter::Deleter;
pub(crate) use producer::Producer;

/// A client of any kind.
pub(crate) enum Client {
    Producer(Producer),
    Consumer(Consumer),
    Deleter(Deleter),
}

impl Client {
    pub(crate) fn handle(&mut self, env: &mut Env, from: Peer, message: Message) {
        match self {
            Self::Producer(producer) => producer.handle(env, from, message),
            Self::Consumer(consumer) => consumer.handle(env, message),
            Self::Deleter(deleter) => deleter.handle(env, &message),
        }
    }

    pub(crate) fn tick(&mut self, env: &mut Env) {
        match self {
            Self::Producer(producer) => producer.tick(env),
            Self::Consumer(consumer) => consumer.tick(env),
            Self::Deleter(deleter) => deleter.tick(env),
        }
    }
}

/// Who leads a partition, as far as some broker knows: metadata on the way may be old.
fn leader(env: &mut Env, id: TopicPartition) -> Option<(BrokerId, LeaderEpoch)> {
    let newest = env.images.len() - 1;
    let behind = if env.random.chance(150) {
        env.random.index(4)
    } else {
        0
    };
    let image = &env.images[newest.saturating_sub(behind)];
    let state = image.partition(id)?;
    Some((state.leader?, state.leader_epoch))
}

/// A batch whose values are `first` and the numbers after it.
fn batch(first: u64, count: u64, sequence: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    if let Some((producer, epoch, sequence)) = sequence {
        builder = builder.producer(producer, epoch, sequence);
    }
    for value in first..first + count {
        builder.append(&NewRecord {
            value: Some(&value.to_be_bytes()),
            ..NewRecord::default()
        });
    }
    builder.build().expect("a few records fit a batch")
}
