//! What the records of a partition of `__transaction_state` make: its transactional ids.

use std::sync::Arc;
use std::time::Instant;

use broker_core::Offset;
use broker_core::transaction::Transactions;
use broker_wire::record::BatchHeader;

use super::codec::{self, DecodeError};
use super::shard::Shard;
use crate::coordinator::replay::{ReplayError, Replayed, for_each_record, replay};

/// Loads until it succeeds or the shard resigns.
pub(super) async fn run(shard: &Arc<Shard>, empty: Transactions) {
    let started = Instant::now();
    let load = replay(shard.partition, &shard.log, || empty.clone());
    if let Some(transactions) = shard.resigned.run_until_cancelled(load).await {
        let elapsed_ms = started.elapsed().as_millis();
        let ids_loaded = transactions.list().count();
        tracing::info!(partition = %shard.partition, ids_loaded, elapsed_ms, "transactions loaded");
        shard.serve(transactions);
    }
}

impl Replayed for Transactions {
    fn apply_batch(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        from: Offset,
    ) -> Result<(), ReplayError> {
        // Markers are there if a client made the partition part of its own transaction.
        if header.is_control() {
            return Ok(());
        }
        for_each_record(batch, from, |_, key, value| -> Result<(), DecodeError> {
            if let Some(record) = codec::decode(key, value)? {
                self.apply(&record);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use broker_core::transaction::Config;
    use broker_core::{CoordinatorEpoch, Duration};
    use broker_wire::record::{ControlRecordType, EndTransactionMarker};

    use super::*;
    use crate::coordinator::replay::apply;

    #[test]
    fn a_marker_in_the_log_is_no_transactional_id() {
        let config = Config {
            timeout_max: Duration::from_secs(1),
            id_expiration: Duration::from_secs(1),
        };
        let mut transactions = Transactions::new(config, CoordinatorEpoch(0));
        for kind in [ControlRecordType::Abort, ControlRecordType::Commit] {
            let marker = EndTransactionMarker {
                kind,
                producer_id: 7,
                producer_epoch: 0,
                coordinator_epoch: 0,
                timestamp: 0,
            };
            let read = marker.build(4).unwrap();
            let next = apply(&mut transactions, &read, Offset(4)).unwrap();
            assert_eq!(next, Offset(5));
        }
        assert_eq!(transactions.list().count(), 0);
    }
}
