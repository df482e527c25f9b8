//! How long clients wait that sent or got more than their quotas allow (KIP-13, KIP-219).
//!
//! Nothing is held back: the request is served, and the answer says how long the connection is not
//! listened to. What the bucket of a client is overdrawn by counts for all of its connections, so that
//! together they keep to the rate.

use std::collections::HashMap;
use std::time::Duration;

use broker_core::client_quota::{
    ANONYMOUS_USER, ClientLimit, ClientQuotas as Quotas, QuotaKind, Sharers,
};
use broker_core::{ByteRate, Time};
use parking_lot::Mutex;

use crate::clock;

/// Clients whose traffic is remembered. Beyond, those are forgotten that keep to their quotas, and all
/// if that is not enough.
const SHARERS_MAX: usize = 10_000;
/// The longest time that one answer makes a client wait. What is left counts for the next one.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
/// A response has no more than a client may get in this time, or one would be muted for very long.
const RESPONSE_WINDOW_SECONDS: u64 = 10;

/// What clients have sent and got lately.
#[derive(Debug, Default)]
pub struct ClientQuotas {
    produced: Mutex<Buckets>,
    fetched: Mutex<Buckets>,
}

impl ClientQuotas {
    /// So many bytes have passed. Returns how long the connection shall not be listened to.
    pub(crate) fn record(
        &self,
        quotas: &Quotas,
        kind: QuotaKind,
        client_id: &str,
        bytes: usize,
    ) -> Duration {
        if quotas.is_empty() {
            return Duration::ZERO;
        }
        let Some(limit) = quotas.limit(kind, ANONYMOUS_USER, client_id) else {
            return Duration::ZERO;
        };
        let buckets = match kind {
            QuotaKind::Produce => &self.produced,
            QuotaKind::Fetch => &self.fetched,
        };
        buckets.lock().record(clock::now(), limit, bytes)
    }
}

/// A time that a client waits, as responses tell it.
pub(crate) fn throttle_ms(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

/// Bytes of records that a response may have, `None` without a quota.
pub(crate) fn response_bytes_max(quotas: &Quotas, client_id: &str) -> Option<usize> {
    if quotas.is_empty() {
        return None;
    }
    let limit = quotas.limit(QuotaKind::Fetch, ANONYMOUS_USER, client_id)?;
    let bytes = limit
        .bytes_per_second
        .saturating_mul(RESPONSE_WINDOW_SECONDS);
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[derive(Debug, Default)]
struct Buckets(HashMap<Sharers, ByteRate>);

impl Buckets {
    fn record(&mut self, now: Time, limit: ClientLimit, bytes: usize) -> Duration {
        if self.0.len() >= SHARERS_MAX && !self.0.contains_key(&limit.sharers) {
            self.make_room(now);
        }
        let bucket = self.0.entry(limit.sharers).or_default();
        bucket.set_rate(now, Some(limit.bytes_per_second));
        bucket.record(now, bytes);
        bucket.wait(now).min(THROTTLE_MAX)
    }

    fn make_room(&mut self, now: Time) {
        self.0.retain(|_, bucket| !bucket.wait(now).is_zero());
        if self.0.len() >= SHARERS_MAX {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(client: usize, bytes_per_second: u64) -> ClientLimit {
        ClientLimit {
            sharers: Sharers {
                user: None,
                client_id: Some(client.to_string()),
            },
            bytes_per_second,
        }
    }

    #[test]
    fn a_client_waits_for_what_it_had_too_much() {
        let mut buckets = Buckets::default();
        let waits = |ms| Duration::from_millis(ms);
        assert_eq!(buckets.record(Time(0), limit(1, 1000), 500), waits(500));
        assert_eq!(buckets.record(Time(500), limit(1, 1000), 0), waits(0));
        let waited = buckets.record(Time(500), limit(1, 1000), 1_000_000);
        assert_eq!(waited, THROTTLE_MAX);
        assert_eq!(
            buckets.record(Time(60_500), limit(1, 1000), 0),
            THROTTLE_MAX
        );
        assert_eq!(buckets.record(Time(60_500), limit(2, 1000), 0), waits(0));
        assert_eq!(
            buckets.record(Time(60_500), limit(1, 2000), 100),
            waits(50),
            "a new rate begins anew"
        );
    }

    #[test]
    fn clients_that_are_remembered_are_bounded() {
        let mut buckets = Buckets::default();
        buckets.record(Time(0), limit(0, 1), 1_000);
        for client in 1..3 * SHARERS_MAX {
            buckets.record(Time(0), limit(client, 1000), 0);
            assert!(buckets.0.len() <= SHARERS_MAX);
        }
        let still = buckets.record(Time(0), limit(0, 1), 0);
        assert_eq!(still, THROTTLE_MAX, "who is over its quota is kept");
        for client in 0..3 * SHARERS_MAX {
            buckets.record(Time(0), limit(client, 1), 1_000);
            assert!(buckets.0.len() <= SHARERS_MAX);
        }
    }
}
