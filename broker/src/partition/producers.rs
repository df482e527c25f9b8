//! Sequence state of idempotent producers across restarts: a snapshot at a clean shutdown, and a
//! scan of batch headers for what the snapshot lacks.

use std::fs;
use std::io;
use std::path::Path;

use broker_core::partition::{Producers, SequencedBatch};
use broker_core::{Offset, ProducerEpoch, ProducerId, Timestamp};
use broker_log::{Log, MinOneBatch};
use broker_wire::record::{BATCH_HEADER_LEN, BatchError, BatchHeader};
use prost::Message;
use thiserror::Error;

use super::append::sequence;

const FILE_NAME: &str = "producer-state";

#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    /// End of the log that the snapshot covers.
    #[prost(int64, tag = "1")]
    end_offset: i64,
    #[prost(message, repeated, tag = "2")]
    batches: Vec<SnapshotBatch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct SnapshotBatch {
    #[prost(int64, tag = "1")]
    producer_id: i64,
    #[prost(int32, tag = "2")]
    producer_epoch: i32,
    #[prost(int32, tag = "3")]
    first_sequence: i32,
    #[prost(int32, tag = "4")]
    last_sequence: i32,
    #[prost(int64, tag = "5")]
    base_offset: i64,
    #[prost(int64, tag = "6")]
    timestamp: i64,
}

/// The log could not be read for its producers.
#[derive(Debug, Error)]
pub enum RebuildError {
    #[error(transparent)]
    Log(#[from] broker_log::ReadError),
    #[error("can't read a batch header: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Reads the state of a log that was just opened.
pub(super) fn load(dir: &Path, log: &Log) -> Result<Producers, RebuildError> {
    let path = dir.join(FILE_NAME);
    let mut producers = Producers::default();
    let mut from = log.start_offset();
    let snapshot = fs::read(&path)
        .ok()
        .and_then(|bytes| Snapshot::decode(bytes.as_slice()).ok());
    if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.end_offset <= log.end_offset().0) {
        for batch in &snapshot.batches {
            replay(&mut producers, batch);
        }
        from = from.max(Offset(snapshot.end_offset));
    }
    scan(log, from, &mut producers)?;
    Ok(producers)
}

/// Reads the state anew, as after a truncation: a snapshot may cover what was cut.
pub(super) fn rebuild(log: &Log) -> Result<Producers, RebuildError> {
    let mut producers = Producers::default();
    scan(log, log.start_offset(), &mut producers)?;
    Ok(producers)
}

/// Writes the snapshot. One that is lost or torn costs a scan, so it is not synced.
pub(super) fn save(dir: &Path, producers: &Producers, log_end: Offset) -> io::Result<()> {
    let snapshot = Snapshot {
        end_offset: log_end.0,
        batches: producers
            .snapshot()
            .map(|entry| SnapshotBatch {
                producer_id: entry.batch.producer_id.0,
                producer_epoch: i32::from(entry.batch.producer_epoch.0),
                first_sequence: entry.batch.first_sequence,
                last_sequence: entry.batch.last_sequence,
                base_offset: entry.base_offset.0,
                timestamp: entry.timestamp.0,
            })
            .collect(),
    };
    let temporary = dir.join("producer-state.tmp");
    fs::write(&temporary, snapshot.encode_to_vec())?;
    fs::rename(temporary, dir.join(FILE_NAME))
}

/// Removes the snapshot before the log goes on: it would lie after a truncation.
pub(super) fn forget(dir: &Path) {
    // One that isn't there needs no removal.
    let _ = fs::remove_file(dir.join(FILE_NAME));
}

fn replay(producers: &mut Producers, batch: &SnapshotBatch) {
    let sequenced = SequencedBatch {
        producer_id: ProducerId(batch.producer_id),
        producer_epoch: ProducerEpoch(i16::try_from(batch.producer_epoch).unwrap_or(i16::MAX)),
        first_sequence: batch.first_sequence,
        last_sequence: batch.last_sequence,
    };
    producers.record(
        &sequenced,
        Offset(batch.base_offset),
        Timestamp(batch.timestamp),
    );
}

fn scan(log: &Log, from: Offset, producers: &mut Producers) -> Result<(), RebuildError> {
    let mut next = from;
    while next < log.end_offset() {
        let Some(slice) = log.read(next, log.end_offset(), usize::MAX, MinOneBatch::Yes)? else {
            break;
        };
        let (mut position, end) = (slice.position, slice.position + slice.len as u64);
        while position < end {
            let mut bytes = [0; BATCH_HEADER_LEN];
            slice.file.read_exact_at(&mut bytes, position)?;
            let header = BatchHeader::parse(&bytes)?;
            if let Some(sequence) = sequence(&header) {
                let timestamp = Timestamp(header.max_timestamp);
                producers.record(&sequence, Offset(header.base_offset), timestamp);
            }
            next = Offset(header.next_offset());
            position += header.total_len() as u64;
        }
    }
    Ok(())
}
