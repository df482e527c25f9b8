//! Ends a transaction that was decided: markers into all its partitions, again and again until every one
//! has it, then the record that says so.

use std::sync::Arc;
use std::time::Duration;

use broker_core::transaction::{Prepared, TransactionalId};
use tokio::time::{Instant, sleep};

use super::peers::Round;
use super::shard::Shard;
use crate::clock;

/// Pause before partitions are asked again.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// A partition that the metadata does not have for so long is gone: what is younger than the metadata
/// of this broker is there by then.
const GONE_AFTER: Duration = Duration::from_secs(5);

pub(super) fn start(shard: &Arc<Shard>, id: TransactionalId) {
    let shard = Arc::clone(shard);
    tokio::spawn(async move {
        shard.resigned.run_until_cancelled(end(&shard, &id)).await;
    });
}

async fn end(shard: &Arc<Shard>, id: &TransactionalId) {
    let Ok(Some(prepared)) = shard.with(|transactions| transactions.prepared(id)) else {
        return;
    };
    if !write_all(shard, prepared).await {
        return;
    }
    loop {
        let record = shard.with(|transactions| {
            let record = transactions.complete(clock::timestamp(), id)?;
            transactions.begin(&record);
            Some(record)
        });
        let Ok(Some(record)) = record else { return };
        // A second record on its way could be applied after what follows the first.
        if shard.append(record).await.is_ok() {
            return;
        }
        sleep(RETRY_BACKOFF).await;
    }
}

/// False when a newer coordinator is at work.
async fn write_all(shard: &Shard, mut prepared: Prepared) -> bool {
    let started = Instant::now();
    loop {
        let gone = started.elapsed() >= GONE_AFTER;
        match shard.peers.write_markers(&prepared).await {
            Round::Deposed => {
                tracing::warn!(partition = %shard.partition, "a newer coordinator writes markers");
                return false;
            }
            Round::Left {
                unanswered,
                unknown,
            } => {
                prepared.partitions = unanswered;
                if !gone {
                    prepared.partitions.extend(unknown);
                }
            }
        }
        if prepared.partitions.is_empty() {
            return true;
        }
        sleep(RETRY_BACKOFF).await;
    }
}
