//! Producer snapshots on disk: `<end offset, 20 digits>.snapshot` in the log's directory, in Kafka's
//! format. A producer has an entry for each remembered batch, oldest first; Kafka and its tools, which
//! remember one, end up with the newest. One whose batches belong to an older epoch has an entry
//! without a sequence.
//!
//! Invariants: a snapshot covers durable records only, and is written after them; it is whole or not
//! there, and its checksum tells when the disk changed it; the newest [`KEPT`] stay.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::partition::{BatchSnapshot, ProducerSnapshot, Producers};
use broker_core::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use broker_log::Log;
use broker_log::fs::{Fs, OpenMode};
use bytes::{Buf, BufMut};

const SUFFIX: &str = ".snapshot";
const VERSION: i16 = 1;
/// What the checksum covers begins here, behind the version and itself.
const CRC_COVERS_FROM: usize = 6;
const ENTRY_LEN: usize = 46;
/// Largest file that is read; more than all producers that a partition remembers take, with transactions
/// and without, and five batches each.
const LEN_MAX: u64 = 64 << 20;
/// Snapshots that stay: a truncation or damage may take the newest.
const KEPT: usize = 3;
/// No sequence, no offset.
const NONE: i32 = -1;
const NO_OFFSET: i64 = -1;
/// Sequences wrap behind `i32::MAX`.
const SEQUENCES: i64 = 1 << 31;

/// The state of producers at the end of a log, on its way to disk. Taken under the partition's lock,
/// written without it once the records are durable, and put in place under the lock again.
pub(in crate::partition) struct Snapshot {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    end: Offset,
    truncations: u64,
    bytes: Vec<u8>,
}

impl Snapshot {
    pub(in crate::partition) fn take(fs: &Arc<dyn Fs>, log: &Log, producers: &Producers) -> Self {
        Self {
            fs: Arc::clone(fs),
            dir: log.dir().to_owned(),
            end: log.end_offset(),
            truncations: log.truncations(),
            bytes: encode(producers),
        }
    }

    /// Whether there is nothing that it would spare the next start to read: nothing was ever appended,
    /// or the snapshot of this end is there. Whoever cuts a log removes those of what is cut first.
    pub(in crate::partition) fn is_superfluous(&self) -> bool {
        let path = self.dir.join(file_name(self.end));
        self.end == Offset(0) || self.fs.exists(&path).unwrap_or(false)
    }

    /// Writes it durably under a name that nobody reads. Blocks.
    pub(in crate::partition) fn write(self) -> io::Result<PendingSnapshot> {
        let path = self.dir.join(file_name(self.end));
        let temporary = path.with_extension("snapshot.tmp");
        let written = self
            .fs
            .open(&temporary, OpenMode::Truncate)
            .and_then(|file| {
                file.write_at(&self.bytes, 0)?;
                file.sync_data()
            });
        if let Err(error) = written {
            // The next start removes what can't be removed now.
            let _ = self.fs.remove(&temporary);
            return Err(error);
        }
        Ok(PendingSnapshot {
            fs: self.fs,
            dir: self.dir,
            truncations: self.truncations,
            temporary,
            path,
        })
    }
}

/// A snapshot that is written and not in place.
#[must_use = "nobody reads it before `put`"]
pub(in crate::partition) struct PendingSnapshot {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    truncations: u64,
    temporary: PathBuf,
    path: PathBuf,
}

impl PendingSnapshot {
    /// Puts it in place, unless what it covers may have been cut meanwhile. To be called under the
    /// partition's lock.
    pub(in crate::partition) fn put(&self, log: &Log) -> io::Result<()> {
        if self.truncations == log.truncations() {
            self.fs.rename(&self.temporary, &self.path)
        } else {
            self.fs.remove(&self.temporary)
        }
    }

    /// Once it is in place durably, removes those that are not needed any more. Blocks.
    pub(in crate::partition) fn retire_older(&self) -> io::Result<()> {
        self.fs.sync_dir(&self.dir)?;
        let snapshots = SnapshotDir::new(&*self.fs, &self.dir);
        let kept = snapshots.list()?.into_iter().rev().take(KEPT).min();
        snapshots.discard(|at| Some(at) < kept)
    }
}

/// The snapshots of one log.
pub(super) struct SnapshotDir<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
}

impl<'a> SnapshotDir<'a> {
    pub(super) const fn new(fs: &'a dyn Fs, dir: &'a Path) -> Self {
        Self { fs, dir }
    }

    /// End offsets of the snapshots, rising.
    pub(super) fn list(&self) -> io::Result<Vec<Offset>> {
        let names = self.fs.list(self.dir)?.into_iter();
        Ok(names.filter_map(|entry| offset_of(&entry.name)).collect())
    }

    /// Removes snapshots by their end offsets.
    pub(super) fn discard(&self, unwanted: impl Fn(Offset) -> bool) -> io::Result<()> {
        let listed = self.list()?;
        let mut unwanted = listed.into_iter().filter(|at| unwanted(*at)).peekable();
        if unwanted.peek().is_none() {
            return Ok(());
        }
        for at in unwanted {
            match self.fs.remove(&self.dir.join(file_name(at))) {
                // Old ones are removed without the partition's lock.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.fs.sync_dir(self.dir)
    }

    /// `None` for one that is damaged.
    pub(super) fn read(&self, at: Offset) -> io::Result<Option<Producers>> {
        let path = self.dir.join(file_name(at));
        let file = self.fs.open(&path, OpenMode::Existing)?;
        let len = file.len()?;
        if len > LEN_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).expect("bounded by LEN_MAX")];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(decode(&bytes, at))
    }
}

fn file_name(end: Offset) -> String {
    format!("{:020}{SUFFIX}", end.0)
}

fn offset_of(name: &str) -> Option<Offset> {
    let offset = Offset(name.strip_suffix(SUFFIX)?.parse().ok()?);
    (file_name(offset) == name).then_some(offset)
}

fn encode(producers: &Producers) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0;
    for entry in producers.snapshot() {
        let delta = entry.batch.as_ref().map_or(0, offset_delta);
        let last_sequence = entry.batch.map_or(NONE, |batch| batch.last_sequence);
        let last_offset = entry
            .batch
            .map_or(NO_OFFSET, |batch| batch.base_offset.0 + i64::from(delta));
        entries.put_i64(entry.producer_id.0);
        entries.put_i16(entry.producer_epoch.0);
        entries.put_i32(last_sequence);
        entries.put_i64(last_offset);
        entries.put_i32(delta);
        entries.put_i64(entry.timestamp.0);
        entries.put_i32(entry.coordinator_epoch.0);
        let start = entry.transaction_start;
        entries.put_i64(start.map_or(NO_OFFSET, |start| start.0));
        count += 1;
    }
    let mut covered = Vec::with_capacity(4 + entries.len());
    covered.put_i32(count);
    covered.extend(entries);
    let mut bytes = Vec::with_capacity(CRC_COVERS_FROM + covered.len());
    bytes.put_i16(VERSION);
    bytes.put_u32(crc32c::crc32c(&covered));
    bytes.extend(covered);
    bytes
}

/// `None` when the bytes are not what [`encode`] wrote for a log that ended at `end`.
fn decode(bytes: &[u8], end: Offset) -> Option<Producers> {
    let mut rest = bytes;
    if rest.try_get_i16().ok()? != VERSION {
        return None;
    }
    let crc = rest.try_get_u32().ok()?;
    if crc != crc32c::crc32c(rest) {
        return None;
    }
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    if rest.len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    let mut producers = Producers::default();
    while rest.has_remaining() {
        producers.restore(&decode_entry(&mut rest, end)?);
    }
    Some(producers)
}

/// Reads an entry, for which there are bytes enough.
fn decode_entry(bytes: &mut &[u8], end: Offset) -> Option<ProducerSnapshot> {
    let producer_id = ProducerId(bytes.get_i64());
    let producer_epoch = ProducerEpoch(bytes.get_i16());
    let last_sequence = bytes.get_i32();
    let last_offset = bytes.get_i64();
    let delta = bytes.get_i32();
    let timestamp = Timestamp(bytes.get_i64());
    let coordinator_epoch = CoordinatorEpoch(bytes.get_i32());
    let start = Offset(bytes.get_i64());
    if last_offset >= end.0 || delta < 0 || last_sequence < NONE || start >= end {
        return None;
    }
    let first = (i64::from(last_sequence) - i64::from(delta)).rem_euclid(SEQUENCES);
    let batch = BatchSnapshot {
        first_sequence: i32::try_from(first).ok()?,
        last_sequence,
        base_offset: Offset(last_offset.checked_sub(i64::from(delta))?),
    };
    Some(ProducerSnapshot {
        producer_id,
        producer_epoch,
        batch: (last_sequence > NONE).then_some(batch),
        timestamp,
        coordinator_epoch,
        transaction_start: (start >= Offset(0)).then_some(start),
    })
}

/// Last offset of the batch minus its first.
fn offset_delta(batch: &BatchSnapshot) -> i32 {
    let delta = i64::from(batch.last_sequence) - i64::from(batch.first_sequence);
    i32::try_from(delta.rem_euclid(SEQUENCES)).expect("smaller than SEQUENCES")
}

#[cfg(test)]
mod tests {
    use broker_core::partition::{EndMarker, SequencedBatch, TransactionOutcome};

    use super::*;

    fn record(producers: &mut Producers, id: i64, sequences: (i32, i32), base_offset: i64) {
        let batch = SequencedBatch {
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(2),
            first_sequence: sequences.0,
            last_sequence: sequences.1,
            transactional: false,
        };
        producers.record(&batch, Offset(base_offset), Timestamp(1_000 + base_offset));
    }

    /// As `ProducerStateManager` of Kafka reads it: version, CRC-32C, entries.
    #[test]
    fn a_snapshot_has_kafkas_format() {
        let mut producers = Producers::default();
        record(&mut producers, 7, (10, 14), 100);
        let expected = [
            &[0, 1][..],
            &crc32c::crc32c(&encode(&producers)[CRC_COVERS_FROM..]).to_be_bytes(),
            &[0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 2],
            &[0, 0, 0, 14],
            &[0, 0, 0, 0, 0, 0, 0, 104],
            &[0, 0, 0, 4],
            &[0, 0, 0, 0, 0, 0, 4, 76],
            &[255; 12],
        ];
        assert_eq!(encode(&producers), expected.concat());
    }

    #[test]
    fn every_remembered_batch_comes_back_also_across_the_wrap_of_sequences() {
        let mut producers = Producers::default();
        for id in [3, i64::MAX] {
            record(&mut producers, id, (i32::MAX - 9, i32::MAX - 2), 10);
            record(&mut producers, id, (i32::MAX - 1, 3), 2_000);
            record(&mut producers, id, (4, 4), 2_006);
        }
        let bytes = encode(&producers);
        assert_eq!(decode(&bytes, Offset(2_007)), Some(producers));
        assert_eq!(decode(&bytes, Offset(2_006)), None, "ends behind the log");
        assert_eq!(
            decode(&encode(&Producers::default()), Offset(0)),
            Some(Producers::default())
        );
    }

    #[test]
    fn transactions_and_epochs_without_a_batch_come_back() {
        let mut producers = Producers::default();
        let transactional = SequencedBatch {
            producer_id: ProducerId(5),
            producer_epoch: ProducerEpoch(2),
            first_sequence: 0,
            last_sequence: 2,
            transactional: true,
        };
        producers.record(&transactional, Offset(10), Timestamp(1));
        let fenced = EndMarker {
            producer_id: ProducerId(6),
            producer_epoch: ProducerEpoch(9),
            coordinator_epoch: CoordinatorEpoch(4),
            outcome: TransactionOutcome::Abort,
        };
        assert_eq!(
            producers.end_transaction(&fenced, Offset(13), Timestamp(2)),
            None,
            "without records"
        );
        let restored = decode(&encode(&producers), Offset(14)).unwrap();
        assert_eq!(restored, producers);
        assert_eq!(restored.first_unstable_offset(), Some(Offset(10)));
    }

    #[test]
    fn a_changed_or_torn_snapshot_is_not_believed() {
        let mut producers = Producers::default();
        record(&mut producers, 7, (0, 0), 5);
        record(&mut producers, 7, (1, 3), 6);
        let bytes = encode(&producers);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(decode(&changed, Offset(9)), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], Offset(9)), None, "cut at {at}");
        }
    }
}
