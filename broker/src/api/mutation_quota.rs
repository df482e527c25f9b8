//! Bounds how many partitions a client has created and deleted (KIP-599). As in Kafka, the broker that
//! is the active controller gets these requests from its clients, and counts them.

use std::time::Duration;

use broker_wire::ErrorCode;

use super::context::{Context, RequestInfo};
use super::create_topics::Refusal;
use crate::client_quotas::throttle_ms;

/// The quota during one request.
pub(super) struct MutationQuota<'a> {
    ctx: &'a Context,
    client_id: &'a str,
    enforced: Enforced,
    throttle: Duration,
}

/// What clients of a request's version understand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Enforced {
    /// The error [`ErrorCode::ThrottlingQuotaExceeded`].
    ByRefusal,
    /// Waiting for what was done.
    ByThrottle,
}

impl Enforced {
    /// From `refusal_version` on, clients expect the error.
    pub(super) const fn of(info: &RequestInfo, refusal_version: i16) -> Self {
        if info.version >= refusal_version {
            Self::ByRefusal
        } else {
            Self::ByThrottle
        }
    }
}

impl<'a> MutationQuota<'a> {
    pub(super) fn new(ctx: &'a Context, info: &'a RequestInfo, enforced: Enforced) -> Self {
        Self {
            ctx,
            client_id: info.client_id(),
            enforced,
            throttle: Duration::ZERO,
        }
    }

    /// Counts partitions that are about to be created or deleted.
    ///
    /// # Errors
    /// The answer for their topic.
    pub(super) fn take(&mut self, partitions: usize) -> Result<(), Refusal> {
        let image = self.ctx.image();
        let (quotas, known) = (&image.client_quotas, &self.ctx.client_quotas);
        if self.enforced == Enforced::ByThrottle {
            self.throttle = known.record_mutations(quotas, self.client_id, partitions);
            return Ok(());
        }
        let admitted = known.admit_mutations(quotas, self.client_id, partitions);
        admitted.map_err(|wait| {
            self.throttle = wait;
            let message = format!(
                "controller_mutation_rate of client {:?} is exceeded; retry after {} ms",
                self.client_id,
                wait.as_millis()
            );
            Refusal::new(ErrorCode::ThrottlingQuotaExceeded, message)
        })
    }

    /// Milliseconds that the response tells the client to wait.
    pub(super) fn throttle_ms(&self) -> i32 {
        throttle_ms(self.throttle)
    }
}
