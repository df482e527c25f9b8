//! How long clients wait that sent, got or cost more than their quotas allow (KIP-13, KIP-124, KIP-219).
//!
//! Nothing is held back: the request is served, and the answer says how long the connection is not
//! listened to. What the bucket of a client is overdrawn by counts for all of its connections, so that
//! together they keep to the rate. Only partitions that are created and deleted are refused (KIP-599),
//! and connections (KIP-612).

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use broker_core::client_quota::{
    ANONYMOUS_USER, ClientLimit, ClientQuotas as Quotas, QuotaKind, Sharers,
};
use broker_core::{Rate, Time};
use parking_lot::{Mutex, MutexGuard};

use crate::clock;

/// Clients whose traffic is remembered. Beyond, those are forgotten that keep to their quotas, and all
/// if that is not enough.
const SHARERS_MAX: usize = 10_000;
/// The longest time that one answer makes a client wait. What is left counts for the next one.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
/// A response has no more than a client may get in this time, or one would be muted for very long.
const RESPONSE_WINDOW_SECONDS: u64 = 10;

/// What clients have sent, got and cost lately.
#[derive(Debug, Default)]
pub struct ClientQuotas {
    produced: Mutex<Buckets>,
    fetched: Mutex<Buckets>,
    requested: Mutex<Buckets>,
    mutated: Mutex<Buckets>,
    connected: Mutex<Buckets>,
}

/// A thread is busy with a request of a client that has a quota.
pub(crate) struct Busy {
    limit: ClientLimit,
    since: Instant,
}

impl ClientQuotas {
    /// So much has passed. Returns how long the connection shall not be listened to.
    #[inline]
    pub(crate) fn record(
        &self,
        quotas: &Quotas,
        kind: QuotaKind,
        client_id: &str,
        amount: u64,
    ) -> Duration {
        match limit(quotas, kind, client_id) {
            Some(limit) => self.buckets(kind).record(clock::now(), limit, amount),
            None => Duration::ZERO,
        }
    }

    /// Awaits `serving`, a part of a request. Returns how long the connection shall not be listened to
    /// for the time that it kept a thread busy.
    pub(crate) async fn time<T>(
        &self,
        quotas: &Quotas,
        client_id: &str,
        serving: impl Future<Output = T>,
    ) -> (T, Duration) {
        let Some(limit) = limit(quotas, QuotaKind::Request, client_id) else {
            return (serving.await, Duration::ZERO);
        };
        let (output, busy) = busy_time(serving).await;
        (output, self.record_busy(limit, busy))
    }

    /// Something begins that does not wait; [`Self::end`] tells how long the connection shall not be
    /// listened to for it.
    #[inline]
    pub(crate) fn begin(quotas: &Quotas, client_id: &str) -> Option<Box<Busy>> {
        let limit = limit(quotas, QuotaKind::Request, client_id)?;
        let since = Instant::now();
        Some(Box::new(Busy { limit, since }))
    }

    #[inline]
    pub(crate) fn end(&self, busy: Option<Box<Busy>>) -> Duration {
        match busy {
            Some(busy) => self.record_busy(busy.limit, busy.since.elapsed()),
            None => Duration::ZERO,
        }
    }

    fn record_busy(&self, limit: ClientLimit, busy: Duration) -> Duration {
        let nanos = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        let mut buckets = self.buckets(QuotaKind::Request);
        buckets.record(clock::now(), limit, nanos)
    }

    /// So many partitions are created or deleted. Returns how long the connection shall not be
    /// listened to.
    pub(crate) fn record_mutations(
        &self,
        quotas: &Quotas,
        client_id: &str,
        partitions: usize,
    ) -> Duration {
        let kind = QuotaKind::ControllerMutation;
        let amount = kind.unit().saturating_mul(partitions as u64);
        self.record(quotas, kind, client_id, amount)
    }

    /// Whether so many partitions may be created or deleted now.
    ///
    /// # Errors
    /// How long the client has to wait before it tries again.
    pub(crate) fn admit_mutations(
        &self,
        quotas: &Quotas,
        client_id: &str,
        partitions: usize,
    ) -> Result<(), Duration> {
        let kind = QuotaKind::ControllerMutation;
        let Some(limit) = limit(quotas, kind, client_id) else {
            return Ok(());
        };
        let amount = kind.unit().saturating_mul(partitions as u64);
        self.buckets(kind).admit(clock::now(), limit, amount)
    }

    /// Whether a connection from `ip` may be opened now.
    ///
    /// # Errors
    /// How long the client has to wait before it tries again.
    pub(crate) fn admit_connection(&self, quotas: &Quotas, ip: &str) -> Result<(), Duration> {
        if quotas.is_empty() {
            return Ok(());
        }
        let Some(limit) = quotas.connection_limit(ip) else {
            return Ok(());
        };
        let kind = QuotaKind::ConnectionCreation;
        self.buckets(kind).admit(clock::now(), limit, kind.unit())
    }

    fn buckets(&self, kind: QuotaKind) -> MutexGuard<'_, Buckets> {
        let buckets = match kind {
            QuotaKind::Produce => &self.produced,
            QuotaKind::Fetch => &self.fetched,
            QuotaKind::Request => &self.requested,
            QuotaKind::ControllerMutation => &self.mutated,
            QuotaKind::ConnectionCreation => &self.connected,
        };
        buckets.lock()
    }
}

/// Without quotas, as most clusters are, this costs next to nothing.
#[inline]
fn limit(quotas: &Quotas, kind: QuotaKind, client_id: &str) -> Option<ClientLimit> {
    if quotas.is_empty() {
        return None;
    }
    quotas.limit(kind, ANONYMOUS_USER, client_id)
}

/// Awaits `future`, and tells how long it kept its thread busy.
async fn busy_time<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let mut future = pin!(future);
    let mut busy = Duration::ZERO;
    let output = poll_fn(|context| {
        let started = Instant::now();
        let polled = future.as_mut().poll(context);
        busy += started.elapsed();
        polled
    });
    let output = output.await;
    (output, busy)
}

/// A time that a client waits, as responses tell it.
pub(crate) fn throttle_ms(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

/// Bytes of records that a response may have, `None` without a quota.
pub(crate) fn response_bytes_max(quotas: &Quotas, client_id: &str) -> Option<usize> {
    let limit = limit(quotas, QuotaKind::Fetch, client_id)?;
    let bytes = limit.per_second.saturating_mul(RESPONSE_WINDOW_SECONDS);
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[derive(Debug, Default)]
struct Buckets(HashMap<Sharers, Rate>);

impl Buckets {
    fn record(&mut self, now: Time, limit: ClientLimit, amount: u64) -> Duration {
        let bucket = self.bucket(now, limit);
        bucket.record(now, amount);
        bucket.wait(now).min(THROTTLE_MAX)
    }

    /// Records `amount` unless the client has to wait.
    fn admit(&mut self, now: Time, limit: ClientLimit, amount: u64) -> Result<(), Duration> {
        let bucket = self.bucket(now, limit);
        match bucket.wait(now) {
            Duration::ZERO => {
                bucket.record(now, amount);
                Ok(())
            }
            wait => Err(wait.min(THROTTLE_MAX)),
        }
    }

    fn bucket(&mut self, now: Time, limit: ClientLimit) -> &mut Rate {
        if self.0.len() >= SHARERS_MAX && !self.0.contains_key(&limit.sharers) {
            self.make_room(now);
        }
        let bucket = self.0.entry(limit.sharers).or_default();
        bucket.set_rate(now, Some(limit.per_second));
        bucket
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

    fn limit(client: usize, per_second: u64) -> ClientLimit {
        ClientLimit {
            sharers: Sharers {
                client_id: Some(client.to_string()),
                ..Sharers::default()
            },
            per_second,
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
    fn what_is_admitted_may_overdraw_once() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.admit(Time(0), limit(1, 10), 50), Ok(()));
        let wait = Duration::from_secs(5);
        assert_eq!(buckets.admit(Time(0), limit(1, 10), 1), Err(wait));
        assert_eq!(buckets.admit(Time(0), limit(1, 10), 1), Err(wait), "free");
        assert_eq!(buckets.admit(Time(5_000), limit(1, 10), 1), Ok(()));
    }

    #[tokio::test]
    async fn waiting_does_not_keep_a_thread_busy() {
        let started = Instant::now();
        let (waited, busy) = busy_time(async {
            std::thread::sleep(Duration::from_millis(5));
            let from = Instant::now();
            tokio::time::sleep(Duration::from_millis(300)).await;
            from.elapsed()
        })
        .await;
        assert!(busy >= Duration::from_millis(5), "{busy:?}");
        assert!(busy < started.elapsed() - waited / 2, "{busy:?}");
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
