//! Throttle of replication to and from replicas that catch up (KIP-73), and of clients (KIP-124): a
//! token bucket that may be overdrawn, because a batch goes as a whole.
//!
//! Over any span of time no more than the rate plus [`BURST`] and one transfer passes.

use crate::{Duration, Time};

/// An idle bucket saves up for so long.
const BURST: Duration = Duration::from_secs(1);

/// How much may pass: bytes, or what else is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// `None`: no limit.
    per_second: Option<u64>,
    /// Below zero after a transfer that was larger than what was left; times milliseconds per
    /// second, so that nothing is lost to rounding.
    available: i128,
    filled_at: Time,
}

const MS_PER_SECOND: i128 = 1_000;

impl Rate {
    /// Changes the rate, `None` for no limit. What was overdrawn under the old rate is forgotten.
    pub fn set_rate(&mut self, now: Time, per_second: Option<u64>) {
        if per_second == self.per_second {
            return;
        }
        *self = Self {
            per_second,
            available: 0,
            filled_at: now,
        };
    }

    /// The rate, `None` without limit.
    #[must_use]
    pub const fn per_second(&self) -> Option<u64> {
        self.per_second
    }

    /// How long nothing may pass; zero when something may.
    pub fn wait(&mut self, now: Time) -> Duration {
        let Some(rate) = self.per_second else {
            return Duration::ZERO;
        };
        self.fill(now, rate);
        if self.available >= 0 {
            return Duration::ZERO;
        }
        let ms = self
            .available
            .unsigned_abs()
            .div_ceil(u128::from(rate.max(1)));
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// So much has passed.
    pub fn record(&mut self, now: Time, amount: u64) {
        if let Some(rate) = self.per_second {
            self.fill(now, rate);
            self.available -= i128::from(amount) * MS_PER_SECOND;
        }
    }

    fn fill(&mut self, now: Time, rate: u64) {
        let passed_ms = now.since(self.filled_at).as_millis() as i128;
        let most = i128::from(rate) * BURST.as_millis() as i128;
        self.available = (self.available + passed_ms * i128::from(rate)).min(most);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_large_transfer_is_waited_off() {
        let mut bucket = Rate::default();
        bucket.record(Time(0), 1_000_000);
        assert_eq!(bucket.wait(Time(0)), Duration::ZERO, "no limit");
        bucket.set_rate(Time(0), Some(1_000));
        assert_eq!(bucket.wait(Time(0)), Duration::ZERO);
        bucket.record(Time(0), 5_000);
        assert_eq!(bucket.wait(Time(0)), Duration::from_secs(5));
        assert_eq!(bucket.wait(Time(4_999)), Duration::from_millis(1));
        assert_eq!(bucket.wait(Time(5_000)), Duration::ZERO);
        bucket.set_rate(Time(5_000), None);
        bucket.record(Time(5_000), 1_000_000);
        assert_eq!(bucket.wait(Time(5_000)), Duration::ZERO);
    }

    #[test]
    fn an_idle_bucket_saves_up_for_a_burst_only() {
        let mut bucket = Rate::default();
        bucket.set_rate(Time(0), Some(1_000));
        bucket.record(Time(1_000_000), 2_000);
        assert_eq!(bucket.wait(Time(1_000_000)), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_passes(
            rate in 1..100_000u64,
            steps in prop::collection::vec((0..2_000u64, 1..50_000u64), 1..60),
        ) {
            let mut bucket = Rate::default();
            bucket.set_rate(Time(0), Some(rate));
            let (mut now, mut passed, mut last) = (Time(0), 0, 0);
            for (pause_ms, amount) in steps {
                now = now.plus(Duration::from_millis(pause_ms));
                now = now.plus(bucket.wait(now));
                prop_assert_eq!(bucket.wait(now), Duration::ZERO);
                bucket.record(now, amount);
                passed += amount;
                last = amount;
            }
            prop_assert!((passed - last) * 1_000 <= rate * (now.0 + 1_000));
        }
    }
}
