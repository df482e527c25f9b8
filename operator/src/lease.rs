//! Leader election by a Lease object, as client-go does it.
//!
//! Another holder's lease counts as expired when it has not changed for its duration by this
//! process' own clock: clocks of other nodes are never compared. Every write carries the version
//! that was read, so that of two writers one fails.

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
}

impl LeaderLease {
    pub(crate) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self {
            api,
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Returns once the lease is held.
    pub(crate) async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => {
                    tracing::info!(identity = %self.identity, "holding the lease");
                    return;
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
        let Some(current) = self.api.get_opt(naming::OPERATOR).await? else {
            let lease = self.held(Lease::default());
            return written(self.api.create(&PostParams::default(), &lease).await);
        };
        if self.held_by_another(&current) {
            return Ok(false);
        }
        let lease = self.held(current);
        written(
            self.api
                .replace(naming::OPERATOR, &PostParams::default(), &lease)
                .await,
        )
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
        let now = MicroTime(Timestamp::now());
        let former = lease.spec.unwrap_or_default();
        let ours = former.holder_identity.as_deref() == Some(&self.identity);
        let transitions = former.lease_transitions.unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(naming::OPERATOR.to_owned()),
                ..lease.metadata
            },
            spec: Some(LeaseSpec {
                acquire_time: if ours {
                    former.acquire_time
                } else {
                    Some(now.clone())
                },
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
                renew_time: Some(now),
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
