//! Evacuations of brokers, carried on by the active controller, and how far they are.

use std::collections::BTreeMap;

use broker_core::controller::{Command, EvacuationProgress, plan_evacuations};
use broker_core::metadata::Image;
use broker_core::{BrokerId, Timestamp};
use parking_lot::Mutex;

use super::options::ChooseBroker;

/// How far the evacuation of a broker is, as the active controller knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvacuationStatus {
    pub progress: EvacuationProgress,
    /// When the broker last lost a replica, or this controller learned of the evacuation.
    pub last_progress_at: Timestamp,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Evacuations {
    known: Mutex<BTreeMap<BrokerId, EvacuationStatus>>,
}

impl Evacuations {
    /// Notes how far all evacuations are, and returns what to decide next.
    pub(crate) fn tick(
        &self,
        now: Timestamp,
        image: &Image,
        choose: &ChooseBroker,
    ) -> Option<Command> {
        let plan = plan_evacuations(image, choose);
        let mut known = self.known.lock();
        let former = std::mem::take(&mut *known);
        known.extend(plan.progress.into_iter().map(|(broker, progress)| {
            let last_progress_at = match former.get(&broker) {
                Some(before) if before.progress.replicas_left <= progress.replicas_left => {
                    before.last_progress_at
                }
                _ => now,
            };
            let status = EvacuationStatus {
                progress,
                last_progress_at,
            };
            (broker, status)
        }));
        plan.reassignments
    }

    /// This broker is no longer the active controller.
    pub(crate) fn end(&self) {
        self.known.lock().clear();
    }

    /// `None` when the broker is not evacuated, or before the first look at it.
    pub(crate) fn status(&self, broker: BrokerId) -> Option<EvacuationStatus> {
        self.known.lock().get(&broker).cloned()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Evacuation, Partition, Record, RegisterBroker, Topic, Uuid};

    use super::*;

    fn partition(index: i32, replica: i32) -> Record {
        Record::Partition(Partition {
            topic_id: Uuid::default(),
            partition: index,
            replicas: vec![replica],
            isr: vec![replica],
            leader: replica,
            ..Partition::default()
        })
    }

    #[test]
    fn progress_is_when_a_replica_has_left() {
        let choose: ChooseBroker = Box::new(|_| Err("nobody".to_owned()));
        let mut image = Image::default();
        let evacuations = Evacuations::default();
        let mut look = |records: &[Record], now| {
            for record in records {
                image.apply(record).unwrap();
            }
            assert_eq!(evacuations.tick(Timestamp(now), &image, &choose), None);
            let status = evacuations.status(BrokerId(1));
            status.map(|status| (status.progress.replicas_left, status.last_progress_at.0))
        };
        let registered = Record::RegisterBroker(RegisterBroker {
            broker_id: 1,
            ..RegisterBroker::default()
        });
        let topic = Record::Topic(Topic {
            topic_id: Uuid::default(),
            name: "t".to_owned(),
        });
        let evacuation = |evacuating| {
            Record::Evacuation(Evacuation {
                broker_id: 1,
                evacuating,
            })
        };
        let start = [registered, topic, partition(0, 1), partition(1, 1)];
        assert_eq!(look(&start, 1), None);
        assert_eq!(look(&[evacuation(true)], 2), Some((2, 2)));
        assert_eq!(look(&[], 3), Some((2, 2)));
        assert_eq!(look(&[partition(0, 2)], 4), Some((1, 4)));
        assert_eq!(look(&[partition(2, 1)], 5), Some((2, 4)));
        assert_eq!(look(&[evacuation(false)], 6), None);
    }
}
