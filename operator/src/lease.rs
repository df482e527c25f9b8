//! Leader election by a Lease object, as client-go does it.
//!
//! Another holder's lease counts as expired when it has not changed for its duration by this
//! process' own clock: clocks of other nodes are never compared. Every write carries the version
//! that was read, so that of two writers one fails.
//!
//! The time of acquisition, above every one before it, is the epoch of this operator: brokers refuse
//! changes of operators with lower ones.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use operator_plan::naming;
use tokio::time::Instant;

const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops; shorter than [`LEASE_DURATION`], after which
/// another one starts.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) struct LeaderLease {
    api: Api<Lease>,
    identity: String,
    /// Version of another holder's lease, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// When this process acquired the lease, once it has.
    acquired: Option<Timestamp>,
}

impl LeaderLease {
    pub(crate) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self {
            api,
            identity: identity.to_owned(),
            seen: None,
            acquired: None,
        }
    }

    /// Returns once the lease is held, with the epoch of this operator.
    pub(crate) async fn acquire(&mut self) -> u64 {
        loop {
            match self.try_hold().await {
                Ok(true) => {
                    let epoch = self.acquired.map_or(0, epoch);
                    tracing::info!(identity = %self.identity, epoch, "holding the lease");
                    return epoch;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot acquire the lease"),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Renews the lease; returns when it is lost.
    pub(crate) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(RETRY_INTERVAL).await;
            let remaining = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(remaining, self.try_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => tracing::warn!("the lease was not renewed"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
                Err(_) => tracing::warn!("renewing the lease timed out"),
            }
        }
    }

    /// Lets another replica take over at once.
    pub(crate) async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(naming::OPERATOR).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.api
                .replace(naming::OPERATOR, &PostParams::default(), &lease)
                .await?;
        }
        Ok(())
    }

    /// Takes or renews the lease if nobody else holds it.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let current = self.api.get_opt(naming::OPERATOR).await?;
        if current.as_ref().is_some_and(|lease| self.is_lost(lease)) {
            return Ok(false);
        }
        let params = PostParams::default();
        let held = self.held(current.clone().unwrap_or_default());
        let result = match current {
            Some(_) => self.api.replace(naming::OPERATOR, &params, &held).await,
            None => self.api.create(&params, &held).await,
        };
        let is_held = written(result)?;
        if is_held {
            self.acquired = held.spec.and_then(|spec| Some(spec.acquire_time?.0));
        }
        Ok(is_held)
    }

    /// Whether another one holds the lease, or has held it since this process acquired it: brokers
    /// know the other's epoch then.
    fn is_lost(&mut self, lease: &Lease) -> bool {
        let acquired = acquired(lease.spec.as_ref());
        let other_since = self.acquired.is_some() && self.acquired != acquired;
        self.held_by_another(lease) || other_since
    }

    fn held_by_another(&mut self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        if holder.is_none_or(|holder| holder.is_empty() || holder == self.identity) {
            self.seen = None;
            return false;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() < LEASE_DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                true
            }
        }
    }

    fn held(&self, lease: Lease) -> Lease {
        let now = Timestamp::now();
        let former = lease.spec.unwrap_or_default();
        let ours = former.holder_identity.as_deref() == Some(&self.identity);
        let transitions = former.lease_transitions.unwrap_or(0);
        let acquired = (self.acquired).unwrap_or_else(|| later(acquired(Some(&former)), now));
        Lease {
            metadata: ObjectMeta {
                name: Some(naming::OPERATOR.to_owned()),
                ..lease.metadata
            },
            spec: Some(LeaseSpec {
                acquire_time: Some(MicroTime(acquired)),
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// A conflict means that somebody else was faster.
fn written(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn acquired(spec: Option<&LeaseSpec>) -> Option<Timestamp> {
    Some(spec?.acquire_time.as_ref()?.0)
}

/// Now, or just after `former` where the clock of that holder was ahead. In whole microseconds, as the
/// API server keeps it.
fn later(former: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let micros = |time: Timestamp| time.as_microsecond();
    let after = former.map_or(0, |former| micros(former).saturating_add(1));
    Timestamp::from_microsecond(micros(now).max(after)).unwrap_or(Timestamp::MAX)
}

fn epoch(acquired: Timestamp) -> u64 {
    u64::try_from(acquired.as_microsecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_a_higher_epoch_than_those_before_it_whatever_the_clocks_say() {
        let at = |micros| Timestamp::from_microsecond(micros).unwrap();
        let (early, late) = (at(1_800_000_000_000_000), at(1_800_000_000_000_007));
        assert_eq!(later(None, early), early);
        assert_eq!(later(Some(early), late), late);
        assert_eq!(epoch(later(Some(late), early)), epoch(late) + 1);
        assert_eq!(epoch(later(Some(late), late)), epoch(late) + 1);
        let precise = Timestamp::from_nanosecond(1_800_000_000_000_000_999).unwrap();
        assert_eq!(later(None, precise), early, "as it is read back");
    }
}
