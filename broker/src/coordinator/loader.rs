//! What the records of a partition of `__consumer_offsets` make: its groups.

use std::time::Instant;

use broker_core::group::{Ending, GroupConfig, Groups};
use broker_core::partition::TransactionOutcome;
use broker_core::transaction::Producer;
use broker_core::{Offset, ProducerEpoch, ProducerId};
use broker_wire::record::{BatchHeader, ControlRecordType, EndTransactionMarker};

use super::codec::{self, DecodeError, OffsetKey};
use super::log::PartitionLog;
use super::replay::{ReplayError, Replayed, for_each_record, replay};
use super::shard::Shard;

/// Loads until it succeeds or the shard resigns.
pub(super) async fn run(shard: &Shard, log: &impl PartitionLog, config: &GroupConfig) {
    let started = Instant::now();
    let load = replay(shard.partition, log, || Groups::new(config.clone()));
    if let Some(groups) = shard.resigned.run_until_cancelled(load).await {
        let elapsed_ms = started.elapsed().as_millis();
        let groups_loaded = groups.list().count();
        tracing::info!(partition = %shard.partition, groups_loaded, elapsed_ms, "groups loaded");
        shard.serve(groups);
    }
}

impl Replayed for Groups {
    fn apply_batch(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        from: Offset,
    ) -> Result<(), ReplayError> {
        if header.is_control() {
            if let Some(marker) = EndTransactionMarker::read(batch)? {
                end_transaction(self, &marker, Offset(header.base_offset));
            }
            return Ok(());
        }
        let producer = Producer {
            id: ProducerId(header.producer_id),
            epoch: ProducerEpoch(header.producer_epoch),
        };
        for_each_record(
            batch,
            from,
            |offset, key, value| -> Result<(), DecodeError> {
                match OffsetKey::decode(key)? {
                    Some(of) if !header.is_transactional() => {
                        let value = value.map(codec::decode_offset).transpose()?;
                        self.apply_offset(of.group, of.topic, of.partition, value, offset);
                        return Ok(());
                    }
                    _ => {}
                }
                match codec::decode(key, value)? {
                    Some(record) if header.is_transactional() => {
                        self.apply_pending(producer, &record, offset);
                    }
                    Some(record) => self.apply(&record, offset),
                    None => {}
                }
                Ok(())
            },
        )
    }
}

fn end_transaction(groups: &mut Groups, marker: &EndTransactionMarker, at: Offset) {
    let outcome = match marker.kind {
        ControlRecordType::Abort => TransactionOutcome::Abort,
        ControlRecordType::Commit => TransactionOutcome::Commit,
    };
    let producer = ProducerId(marker.producer_id);
    groups.end_transaction(producer, Ending::Before(at), outcome);
}
