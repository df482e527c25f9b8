//! A client that deletes records from the front of partitions, at times above what is committed.

use std::collections::BTreeMap;

use broker_core::{Offset, TopicPartition};

use super::leader;
use crate::env::Env;
use crate::event::{Event, Message, Peer};
use crate::trace::Micros;

const INTERVAL: Micros = 250_000;

/// See the module's documentation.
pub(crate) struct Deleter {
    index: usize,
    asked: BTreeMap<u64, (TopicPartition, Offset)>,
}

impl Deleter {
    pub(crate) const fn new(index: usize) -> Self {
        Self {
            index,
            asked: BTreeMap::new(),
        }
    }

    pub(crate) fn tick(&mut self, env: &mut Env) {
        let delay = INTERVAL / 2 + env.random.range(0, INTERVAL);
        env.after(delay, Event::ClientTimer { client: self.index });
        let partitions: Vec<_> = env.image().partitions().map(|(id, _)| id).collect();
        if partitions.is_empty() || env.healed {
            return;
        }
        let partition = partitions[env.random.index(partitions.len())];
        let Some((broker, _)) = leader(env, partition) else {
            return;
        };
        let committed = env.check.committed_end(partition);
        let before = committed.plus(env.random.range(0, 30) as i64 - 25);
        if before.0 < 0 {
            return;
        }
        env.check.deletion_asked(partition, before);
        let request = env.next_id();
        self.asked.insert(request, (partition, before));
        let message = Message::DeleteRecords {
            request,
            partition,
            before,
        };
        let to = Peer::Broker(broker.0 as usize);
        env.send(Peer::Client(self.index), to, message);
    }

    pub(crate) fn handle(&mut self, env: &mut Env, message: &Message) {
        if let Message::RecordsDeleted { request, result } = message
            && let Some((partition, before)) = self.asked.remove(request)
            && let Ok(low) = result
        {
            env.check
                .deletion_confirmed(env.now, partition, before, *low);
        }
    }
}
