//! After faults end, everything comes right: every broker is back, every partition led with a full
//! ISR, every log the same, everything answered and consumed.

use broker_core::TopicPartition;
use broker_core::metadata::{Image, PartitionImage};

use super::Checker;
use crate::client::Client;
use crate::env::Env;
use crate::node::Broker;
use crate::trace::Micros;

/// What the cluster still waits for.
pub(crate) type Waiting = String;

impl Checker {
    /// What is not right yet, `None` when all is well.
    pub(crate) fn unsettled(env: &Env, brokers: &[Broker], clients: &[Client]) -> Option<Waiting> {
        let image = env.image();
        for broker in brokers {
            if !image.is_active(broker.id()) || broker.process.is_none() {
                return Some(format!("broker {} is not back", broker.id()));
            }
        }
        for (id, state) in image.partitions() {
            if let Some(waiting) = unsettled_partition(env, id, state, brokers) {
                return Some(waiting);
            }
        }
        unanswered(env, image, clients)
    }

    pub(crate) fn did_not_settle(&mut self, now: Micros, waiting: Waiting) {
        self.violate(now, "everything comes right once faults end", waiting);
    }

    /// The last look, when everything has come right.
    pub(crate) fn finish(&mut self, now: Micros, brokers: &mut [Broker]) {
        for broker in brokers {
            let id = broker.id();
            let hosted = broker
                .process
                .iter_mut()
                .flat_map(|process| process.hosted.values_mut());
            for hosted in hosted {
                hosted.verified = Default::default();
                let to = hosted.replica.high_watermark();
                self.compare(now, id, hosted, to);
            }
        }
        self.check_acknowledged(now);
        self.check_sequences(now);
    }
}

fn unsettled_partition(
    env: &Env,
    id: TopicPartition,
    state: &PartitionImage,
    brokers: &[Broker],
) -> Option<Waiting> {
    let Some(leader) = state.leader else {
        return Some(format!("{id} has no leader"));
    };
    if state.isr.len() < state.replicas.len() {
        return Some(format!(
            "{id} has ISR {:?} of {:?}",
            state.isr, state.replicas
        ));
    }
    let log = |broker: broker_core::BrokerId| {
        let process = brokers[broker.0 as usize].process.as_ref();
        process.and_then(|process| process.hosted.get(&id))
    };
    let end = log(leader)?.log.end_offset();
    for replica in &state.replicas {
        let Some(hosted) = log(*replica) else {
            return Some(format!("broker {replica} has not opened {id}"));
        };
        let (log_end, mark) = (hosted.log.end_offset(), hosted.replica.high_watermark());
        if log_end != end || mark != end {
            return Some(format!(
                "broker {replica} has {id} up to {log_end}, high watermark {mark}, of {end}"
            ));
        }
    }
    let committed = env
        .check
        .accounts
        .get(&id)
        .map_or(0, |account| account.committed.len() as i64);
    (committed != end.0).then(|| format!("{id} ends at {end}, {committed} is committed"))
}

fn unanswered(env: &Env, image: &Image, clients: &[Client]) -> Option<Waiting> {
    for client in clients {
        match client {
            Client::Producer(producer) if !producer.is_idle() => {
                return Some("a producer waits for an answer".to_owned());
            }
            Client::Producer(_) | Client::Deleter(_) => {}
            Client::Consumer(consumer) => {
                for (id, _) in image.partitions() {
                    let committed = env
                        .check
                        .accounts
                        .get(&id)
                        .map_or(0, |a| a.committed.len() as i64);
                    let at = consumer.position(id);
                    if at.0 != committed {
                        return Some(format!("a consumer of {id} is at {at} of {committed}"));
                    }
                }
            }
        }
    }
    None
}
