//! What time brings for a shard: transactions that last too long are aborted, unused ids forgotten.
//! The records of one look are stored together.

use std::sync::Arc;
use std::time::Duration;

use broker_core::transaction::{RECORDS_MAX, TransactionRecord};
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::shard::Shard;
use crate::clock;

/// How often transactions that last too long are looked for.
const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often unused ids are looked for.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Runs until the shard resigns.
pub(super) async fn run(shard: &Arc<Shard>) {
    let mut timeouts = interval(TIMEOUT_CHECK_INTERVAL);
    timeouts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut expiry = interval_at(
        Instant::now() + EXPIRY_CHECK_INTERVAL,
        EXPIRY_CHECK_INTERVAL,
    );
    loop {
        let records = tokio::select! {
            () = shard.resigned.cancelled() => return,
            _ = timeouts.tick() => shard.with(|transactions| {
                let records = transactions.timed_out(clock::timestamp());
                records.iter().for_each(|record| transactions.begin(record));
                records
            }),
            _ = expiry.tick() => shard.with(|transactions| {
                let records = transactions.expired(clock::timestamp());
                records.iter().for_each(|record| transactions.begin(record));
                records
            }),
        };
        let Ok(records) = records else { return };
        if records.len() == RECORDS_MAX {
            expiry.reset_after(TIMEOUT_CHECK_INTERVAL);
        }
        join_all(records.into_iter().map(|record| store(shard, record))).await;
    }
}

/// What is not stored is found again at the next look.
async fn store(shard: &Arc<Shard>, record: TransactionRecord) {
    let aborts = record.value.is_some();
    let id = Arc::clone(&record.id);
    if Shard::store(shard, record).await.is_ok() && aborts {
        shard.counts.note_timed_out();
        tracing::info!(%id, "a transaction timed out and is aborted");
    }
}
