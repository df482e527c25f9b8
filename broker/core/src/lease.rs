//! This broker's permission to lead partitions, which it loses by not running.
//!
//! A process that was paused may have been fenced and replaced meanwhile. When it goes on it must not
//! answer clients from what it knew before: so the permission is a time, and whoever serves compares
//! it with the clock. A broker that runs extends it all the time, also without a controller: nobody
//! else is elected then. Once it has lapsed, only the controller's answer to a later heartbeat counts.
//!
//! A broker that runs, but is cut off, may have a successor all the same, and so may one that is behind
//! with its metadata. What it has committed stays true; where its log ends is told only while the lease
//! is confirmed, by a recent answer of a controller of which this broker knows all the metadata.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::mutation::{Mutation, mutated};
use crate::{Duration, Time};

/// See the module's documentation. Lapsed until the controller has accepted the broker.
#[derive(Debug, Default)]
pub struct Lease {
    until: AtomicU64,
    confirmed_until: AtomicU64,
}

impl Lease {
    /// Whether this broker may serve as a leader at `now`.
    #[must_use]
    pub fn holds(&self, now: Time) -> bool {
        now.0 < self.until.load(Ordering::Acquire) || mutated(Mutation::ServeWithoutLease)
    }

    /// Whether nobody else can lead in this broker's place, unless it was asked to within the lease's
    /// time: the controller has answered so recently that it can't have fenced this broker since.
    #[must_use]
    pub fn is_confirmed(&self, now: Time) -> bool {
        now.0 < self.confirmed_until.load(Ordering::Acquire)
    }

    /// The controller counts on this broker since a heartbeat that was sent at `sent_at`, and had no
    /// metadata that this broker has not applied.
    pub fn accept(&self, sent_at: Time, duration: Duration) {
        self.accept_behind(sent_at, duration);
        let until = sent_at.plus(duration).0;
        self.confirmed_until.fetch_max(until, Ordering::AcqRel);
    }

    /// As [`Lease::accept`], but the controller may have moved leaders away, which this broker has yet
    /// to apply.
    pub fn accept_behind(&self, sent_at: Time, duration: Duration) {
        let until = sent_at.plus(duration).0;
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// This broker runs at `now`.
    pub fn extend(&self, now: Time, duration: Duration) {
        if self.holds(now) {
            self.until.fetch_max(now.plus(duration).0, Ordering::AcqRel);
        }
    }

    /// The controller has fenced this broker.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
        self.confirmed_until.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_millis(100);

    #[test]
    fn a_broker_that_did_not_run_waits_for_the_controller() {
        let lease = Lease::default();
        assert!(!lease.holds(Time(0)), "not accepted yet");
        lease.extend(Time(0), DURATION);
        assert!(!lease.holds(Time(1)));
        lease.accept(Time(10), DURATION);
        assert!(lease.holds(Time(109)));
        lease.extend(Time(60), DURATION);
        assert!(lease.holds(Time(159)), "it runs");
        lease.extend(Time(500), DURATION);
        assert!(!lease.holds(Time(500)), "it was paused");
        lease.accept(Time(155), DURATION);
        assert!(!lease.holds(Time(500)), "an answer from before the pause");
        lease.accept(Time(510), DURATION);
        assert!(lease.holds(Time(511)));
        lease.end();
        assert!(!lease.holds(Time(511)));
    }

    #[test]
    fn only_the_controller_confirms() {
        let lease = Lease::default();
        lease.accept(Time(0), DURATION);
        lease.extend(Time(60), DURATION);
        assert!(lease.is_confirmed(Time(99)));
        assert!(lease.holds(Time(100)) && !lease.is_confirmed(Time(100)));
        lease.accept_behind(Time(85), DURATION);
        assert!(lease.holds(Time(180)) && !lease.is_confirmed(Time(180)));
        lease.accept(Time(90), DURATION);
        assert!(lease.is_confirmed(Time(189)));
        lease.end();
        assert!(!lease.is_confirmed(Time(91)));
    }
}
