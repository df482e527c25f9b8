mod aborted;
mod basic;
mod compact;
mod crash;
mod damage;
mod defects;
mod faults;
mod model;
mod owner;
mod scrub;

use std::path::PathBuf;
use std::sync::Arc;

use broker_core::{LeaderEpoch, Offset, Timestamp};
use broker_wire::record::{BatchBuilder, NewRecord, batches};
use bytes::Bytes;

use super::{Log, MinOneBatch, OpenOptions, RecoveryProgress, RecoveryReport};
use crate::config::LogConfig;
use crate::error::OpenError;
use crate::fs::Fs;

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(0);

/// Small limits, so that a few records touch every boundary.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        segment_index_bytes: 120,
        retention_ms: None,
        ..LogConfig::default()
    }
}

pub(crate) const FRESH: OpenOptions = OpenOptions {
    clean_shutdown: false,
    recovery_point: Offset(0),
    log_start: Offset(0),
    disk_failed: false,
};

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/events-0")
}

pub(crate) fn open_with(
    fs: &Arc<dyn Fs>,
    config: LogConfig,
    options: OpenOptions,
) -> Result<(Log, RecoveryReport), OpenError> {
    Log::open(
        fs.clone(),
        dir(),
        config,
        options,
        &RecoveryProgress::default(),
    )
}

/// A batch of `count` records with values of `value_len` bytes made from `seed`.
pub(crate) fn batch(count: usize, value_len: usize, seed: u8, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0);
    for i in 0..count {
        let value = vec![seed.wrapping_add(i as u8); value_len];
        builder.append(&NewRecord {
            timestamp: timestamp + i as i64,
            key: None,
            value: Some(&value),
            headers: &[],
        });
    }
    builder.build().unwrap().to_vec()
}

/// Everything that can be read from `from` on, batch by batch.
pub(crate) fn read_all(log: &Log, from: Offset) -> Vec<Bytes> {
    let mut next = from;
    let mut read = Vec::new();
    while let Some(slice) = log
        .read(next, log.end_offset(), 150, MinOneBatch::Yes)
        .unwrap()
    {
        let bytes = slice.read_to_bytes().unwrap();
        for batch in batches(&bytes) {
            let (header, batch) = batch.unwrap();
            assert!(header.last_offset() >= next.0, "a read never goes back");
            next = Offset(header.next_offset());
            read.push(bytes.slice_ref(batch));
        }
    }
    read
}
