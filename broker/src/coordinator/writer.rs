//! Puts a shard's records into the log, several decisions to a batch: whatever is queued while one
//! batch is being replicated shares the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker_core::group::{AppendError, AppendId, GroupRecord};
use broker_wire::record::{BatchBuilder, NewRecord};
use bytes::Bytes;

use super::codec;
use super::log::PartitionLog;
use super::shard::Shard;
use crate::clock;

/// A batch takes no further record that would make it longer than this.
const BATCH_BYTES_TARGET: usize = 256 * 1024;
/// How long a batch may take to be replicated (`offsets.commit.timeout.ms`).
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Records that wait to be written, in order.
#[derive(Default)]
pub(super) struct Queue(VecDeque<Unwritten>);

struct Unwritten {
    id: AppendId,
    records: Arc<[GroupRecord]>,
    /// How many of the records are in earlier batches.
    written: usize,
}

/// A batch, and the appends that are complete with it.
struct Batch {
    bytes: Bytes,
    completes: Vec<AppendId>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, id: AppendId, records: Arc<[GroupRecord]>) {
        self.0.push_back(Unwritten {
            id,
            records,
            written: 0,
        });
    }

    /// The next batch. A record that is longer than a batch should be is alone in one.
    fn next_batch(&mut self) -> Option<Batch> {
        let timestamp = clock::timestamp().0;
        let mut builder = BatchBuilder::new(0);
        let mut completes = Vec::new();
        'batch: while let Some(unwritten) = self.0.front_mut() {
            for record in &unwritten.records[unwritten.written..] {
                let codec::Encoded { key, value } = codec::encode(record);
                let len = key.len() + value.as_ref().map_or(0, Vec::len);
                if !builder.is_empty() && builder.len() + len > BATCH_BYTES_TARGET {
                    break 'batch;
                }
                let (key, value) = (Some(key.as_slice()), value.as_deref());
                builder.append(&NewRecord {
                    timestamp,
                    key,
                    value,
                    headers: &[],
                });
                unwritten.written += 1;
            }
            completes.push(unwritten.id);
            self.0.pop_front();
        }
        if builder.is_empty() {
            return None;
        }
        let bytes = builder
            .build()
            .expect("uncompressed records of bounded size make a batch");
        Some(Batch { bytes, completes })
    }

    /// Gives up the append that is partly in a batch that failed.
    fn drop_partly_written(&mut self) -> Option<AppendId> {
        self.0
            .pop_front_if(|unwritten| unwritten.written > 0)
            .map(|unwritten| unwritten.id)
    }
}

/// Writes until the shard resigns.
pub(super) async fn run(shard: Arc<Shard>, log: Arc<impl PartitionLog>) {
    while let Some(()) = shard
        .resigned
        .run_until_cancelled(shard.queued.notified())
        .await
    {
        while let Some(batch) = shard.with_queue(Queue::next_batch) {
            let append = tokio::time::timeout(COMMIT_TIMEOUT, log.append(batch.bytes));
            let Some(result) = shard.resigned.run_until_cancelled(append).await else {
                return;
            };
            let result = result.unwrap_or(Err(AppendError::NotReplicated));
            let mut completes = batch.completes;
            if let Err(error) = result {
                tracing::warn!(partition = %shard.partition, %error, "group records were not stored");
                completes.extend(shard.with_queue(Queue::drop_partly_written));
            }
            shard.appended(&completes, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_core::PartitionIndex;
    use broker_wire::record::BatchHeader;

    use super::*;

    fn tombstones(count: i32) -> Arc<[GroupRecord]> {
        let tombstone = |partition| GroupRecord::OffsetCommit {
            group: "g".into(),
            topic: "t".repeat(200),
            partition: PartitionIndex(partition),
            value: None,
        };
        (0..count).map(tombstone).collect()
    }

    #[test]
    fn decisions_share_a_batch_and_large_ones_are_split() {
        let mut queue = Queue::default();
        queue.push(AppendId(0), tombstones(1));
        queue.push(AppendId(1), tombstones(3000));
        queue.push(AppendId(2), tombstones(1));
        let mut records = 0;
        let mut completes = Vec::new();
        while let Some(batch) = queue.next_batch() {
            assert!(batch.bytes.len() < BATCH_BYTES_TARGET + 64 * 1024);
            records += BatchHeader::parse(&batch.bytes).unwrap().record_count;
            completes.push(batch.completes);
        }
        assert_eq!(records, 3002);
        assert_eq!(
            completes,
            [vec![AppendId(0)], vec![], vec![AppendId(1), AppendId(2)]]
        );
    }

    #[test]
    fn a_failed_part_fails_the_whole() {
        let mut queue = Queue::default();
        queue.push(AppendId(0), tombstones(3000));
        queue.push(AppendId(1), tombstones(1));
        assert!(queue.next_batch().unwrap().completes.is_empty());
        assert_eq!(queue.drop_partly_written(), Some(AppendId(0)));
        assert_eq!(queue.next_batch().unwrap().completes, [AppendId(1)]);
        assert_eq!(queue.drop_partly_written(), None);
    }
}
