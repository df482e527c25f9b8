//! This broker's permission to lead partitions, which it loses by not running.
//!
//! A process that was paused may have been fenced and replaced meanwhile. When it goes on it must not
//! answer clients from what it knew before: so the permission is a time, and whoever serves compares
//! it with the clock. A broker that runs extends it all the time, also without a controller: nobody
//! else is elected then. Once it has lapsed, only the controller's answer to a later heartbeat counts.

use std::sync::atomic::{AtomicU64, Ordering};

use broker_core::{Duration, Time};

use crate::clock;

/// See the module's documentation. Lapsed until the controller has accepted the broker.
#[derive(Debug, Default)]
pub struct Lease {
    until: AtomicU64,
}

impl Lease {
    /// Whether this broker may serve as a leader now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds_at(clock::now())
    }

    fn holds_at(&self, now: Time) -> bool {
        now.0 < self.until.load(Ordering::Acquire)
    }

    /// The controller counts on this broker since a heartbeat that was sent at `sent_at`.
    pub fn accept(&self, sent_at: Time, duration: Duration) {
        self.until
            .fetch_max(sent_at.plus(duration).0, Ordering::AcqRel);
    }

    /// This broker runs at `now`.
    pub fn extend(&self, now: Time, duration: Duration) {
        if self.holds_at(now) {
            self.accept(now, duration);
        }
    }

    /// The controller has fenced this broker.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_millis(100);

    #[test]
    fn a_broker_that_did_not_run_waits_for_the_controller() {
        let lease = Lease::default();
        assert!(!lease.holds_at(Time(0)), "not accepted yet");
        lease.extend(Time(0), DURATION);
        assert!(!lease.holds_at(Time(1)));
        lease.accept(Time(10), DURATION);
        assert!(lease.holds_at(Time(109)));
        lease.extend(Time(60), DURATION);
        assert!(lease.holds_at(Time(159)), "it runs");
        lease.extend(Time(500), DURATION);
        assert!(!lease.holds_at(Time(500)), "it was paused");
        lease.accept(Time(155), DURATION);
        assert!(
            !lease.holds_at(Time(500)),
            "an answer from before the pause"
        );
        lease.accept(Time(510), DURATION);
        assert!(lease.holds_at(Time(511)));
        lease.end();
        assert!(!lease.holds_at(Time(511)));
    }
}
