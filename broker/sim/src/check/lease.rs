//! A broker that slept until it was fenced serves nobody from what it knew before.

use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::{BrokerId, LeaderEpoch, TopicPartition};

use super::Checker;
use crate::trace::Micros;

impl Checker {
    /// A process goes on that was paused for longer than its session.
    pub(crate) fn woke_up(&mut self, broker: BrokerId, image: Arc<Image>) {
        let was_fenced = image.brokers.get(&broker).is_none_or(|known| known.fenced);
        if was_fenced {
            self.woken.insert(broker, image);
        }
    }

    /// The process is no more.
    pub(crate) fn stopped(&mut self, broker: BrokerId) {
        self.woken.remove(&broker);
    }

    /// A client is told of the log, or has something appended, by a leader in this epoch.
    pub(crate) fn served(
        &mut self,
        now: Micros,
        broker: BrokerId,
        id: TopicPartition,
        epoch: LeaderEpoch,
    ) {
        let slept_through = self
            .woken
            .get(&broker)
            .and_then(|image| image.partition(id));
        if let Some(current) = slept_through.map(|state| state.leader_epoch)
            && epoch < current
        {
            let found = format!(
                "broker {broker} serves {id} in epoch {epoch}; it was {current} when the broker woke up"
            );
            self.violate(
                now,
                "a broker that slept through its session serves nothing from before",
                found,
            );
        }
    }
}
