//! Keeps time for a shard: its deadlines, and the offsets that grow too old.

use std::time::Duration;

use broker_core::group::Groups;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::shard::Shard;
use crate::clock;

/// How often old offsets are looked for (`offsets.retention.check.interval.ms`).
const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// Runs until the shard resigns.
pub(super) async fn run(shard: &Shard) {
    let mut retention = interval_at(
        Instant::now() + RETENTION_CHECK_INTERVAL,
        RETENTION_CHECK_INTERVAL,
    );
    retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let deadline = shard.next_deadline();
        let due = async {
            match deadline {
                Some(deadline) => sleep(deadline.since(clock::now())).await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            () = shard.resigned.cancelled() => return,
            () = shard.rescheduled.notified() => Ok(()),
            () = due => shard.with_groups(Groups::handle_tick),
            _ = retention.tick() => shard.with_groups(Groups::expire_offsets),
        };
        if done.is_err() {
            return;
        }
    }
}
