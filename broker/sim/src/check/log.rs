//! A log that was opened is a prefix of what was appended: whole after a process died, and at least
//! what was durable after a power failure. Offsets are dense.

use broker_core::{BrokerId, Offset, TopicPartition};

use super::Checker;
use crate::node::Hosted;
use crate::trace::Micros;

impl Checker {
    /// A broker's process ends.
    pub(crate) fn log_stopped(&mut self, broker: BrokerId, hosted: &Hosted) {
        if hosted.log.is_failed() {
            return;
        }
        let ends = (hosted.log.durable_end(), hosted.log.end_offset());
        self.stopped.insert((broker, hosted.id), ends);
    }

    pub(crate) fn power_lost(&mut self, broker: BrokerId, now: Micros) {
        self.powerless.insert(broker);
        let lost = self
            .stopped
            .keys()
            .filter(|(stopped, _)| *stopped == broker);
        for id in lost.map(|(_, id)| *id).collect::<Vec<_>>() {
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
        let Some((durable, written)) = self.stopped.remove(&(broker, id)) else {
            return;
        };
        let least = if self.powerless.contains(&broker) {
            durable
        } else {
            written
        };
        if end < least || end > written {
            self.violate(
                now,
                "a recovered log is a prefix of what was appended, with all that was durable",
                format!("broker {broker} opens {id} up to {end}; {written} were written, {durable} durable"),
            );
        }
    }

    pub(crate) fn all_logs_opened(&mut self, broker: BrokerId) {
        self.powerless.remove(&broker);
        self.stopped.retain(|(stopped, _), _| *stopped != broker);
    }
}
