//! Ends restart leases in time: the active controller's clock for them.
//!
//! Pure. A lease holds for its time from when this controller first saw it, so it ends even if the
//! broker or controller that it was given by is gone.

use std::collections::BTreeMap;

use broker_core::controller::Command;
use broker_core::metadata::{Image, RestartLease};
use broker_core::{BrokerId, Duration, Time};

/// The leases that this controller knows of.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: BTreeMap<BrokerId, (RestartLease, Time)>,
}

impl Leases {
    /// Takes new, renewed and ended leases in, and says which have expired.
    pub(crate) fn tick(&mut self, now: Time, image: &Image) -> Vec<Command> {
        let leases = image
            .brokers
            .values()
            .filter_map(|broker| Some((broker.id, broker.restart_lease?)));
        let known = std::mem::take(&mut self.held);
        for (broker, lease) in leases {
            let end = match known.get(&broker) {
                Some((seen, end)) if *seen == lease => *end,
                _ => now.plus(Duration::from_millis(lease.ttl_ms)),
            };
            self.held.insert(broker, (lease, end));
        }
        let expired = self.held.values().filter(|(_, end)| *end <= now);
        expired
            .map(|(lease, _)| Command::ExpireRestartLease(*lease))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Record, RegisterBroker};

    use super::*;

    fn lease(generation: u64, ttl_ms: u64) -> RestartLease {
        RestartLease {
            broker_id: 1,
            broker_epoch: 7,
            ttl_ms,
            generation,
        }
    }

    #[test]
    fn a_lease_expires_once_its_time_has_passed_and_not_before() {
        let mut image = Image::default();
        let mut apply = |record: Record| {
            image.apply(&record).unwrap();
            image.clone()
        };
        let registered = apply(Record::RegisterBroker(RegisterBroker {
            broker_id: 1,
            broker_epoch: 7,
            ..RegisterBroker::default()
        }));
        let leased = apply(Record::RestartLease(lease(1, 100)));
        let renewed = apply(Record::RestartLease(lease(2, 100)));
        let ended = apply(Record::RestartLease(lease(2, 0)));
        let expired = |generation| vec![Command::ExpireRestartLease(lease(generation, 100))];

        let mut leases = Leases::default();
        assert_eq!(leases.tick(Time(0), &registered), []);
        assert_eq!(leases.tick(Time(10), &leased), []);
        assert_eq!(leases.tick(Time(109), &leased), []);
        assert_eq!(leases.tick(Time(109), &renewed), []);
        assert_eq!(leases.tick(Time(208), &renewed), []);
        assert_eq!(leases.tick(Time(209), &renewed), expired(2));
        assert_eq!(leases.tick(Time(210), &ended), []);

        let mut successor = Leases::default();
        assert_eq!(successor.tick(Time(500), &leased), []);
        assert_eq!(successor.tick(Time(600), &leased), expired(1));
    }
}
