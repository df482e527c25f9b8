//! Compacted logs: what a consumer sees is the same before and after, whatever stops in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use broker_wire::record::{BatchHeader, Compression, RecordBatch};
use proptest::prelude::*;

use super::model::check_structure;
use super::*;
use crate::compaction::{CompactionError, Pace, Stopped};
use crate::config::CompactionConfig;
use crate::error::StorageError;
use crate::fs::memory::{Fault, FaultSpan, MemoryFs};
use crate::log::{IndexVerdict, ReplaceError, ScrubStep};

const DELETE_RETENTION_MS: u64 = 100;

fn config() -> LogConfig {
    LogConfig {
        compaction: Some(CompactionConfig {
            min_cleanable_dirty_ppm: 0,
            delete_retention_ms: DELETE_RETENTION_MS,
            ..CompactionConfig::default()
        }),
        ..small()
    }
}

struct Unhurried;

impl Pace for Unhurried {
    fn spend(&mut self, _bytes: usize) -> Result<(), Stopped> {
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: u8,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys, each with a value of that length or none, in one batch of that codec.
    Append(Vec<(u8, Option<usize>)>, Compression),
    NewEpoch,
    Checkpoint,
    /// After so many milliseconds, with room for so many bytes of keys.
    Compact(i64, usize),
    /// Percent of what is above the compacted part that stays.
    Truncate(u8),
    /// Percent of the log that goes.
    DeleteBefore(u8),
    Reopen {
        clean: bool,
    },
}

/// Who owns a compacted log: knows what was appended, and checks what is found.
struct Owner {
    disk: MemoryFs,
    fs: Arc<dyn Fs>,
    log: Option<Log>,
    history: BTreeMap<i64, Entry>,
    /// As the checkpoint files have it.
    recovery_point: Offset,
    log_start: Offset,
    compacted_upto: Offset,
    durable: i64,
    /// No pass was to touch what lies above.
    touched_upto: i64,
    start_max: i64,
    now: i64,
    epoch: i32,
    /// Last batches: where they end, and their producer.
    producers: BTreeMap<i64, Offset>,
}

impl Owner {
    fn new(seed: u64) -> Self {
        let disk = MemoryFs::new(seed);
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        fs.create_dir(Path::new("/data")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        Self {
            fs,
            disk,
            log: None,
            history: BTreeMap::new(),
            recovery_point: Offset(0),
            log_start: Offset(0),
            compacted_upto: Offset(0),
            durable: 0,
            touched_upto: 0,
            start_max: 0,
            now: 1_000,
            epoch: 0,
            producers: BTreeMap::new(),
        }
    }

    fn open(&mut self, clean_shutdown: bool) -> Result<(), OpenError> {
        let options = OpenOptions {
            clean_shutdown,
            recovery_point: self.recovery_point,
            log_start: self.log_start,
            disk_failed: false,
        };
        let (mut log, _) = open_with(&self.fs, config(), options)?;
        log.resume_compaction(self.compacted_upto);
        self.log = Some(log);
        Ok(())
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    fn apply(&mut self, step: &Step) -> Result<(), StorageError> {
        match step {
            Step::Append(records, codec) => self.append(records, *codec),
            Step::NewEpoch => {
                self.epoch += 1;
                let epoch = LeaderEpoch(self.epoch);
                self.log().assign_epoch(epoch);
                Ok(())
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Compact(after_ms, map_bytes) => {
                self.now += after_ms;
                self.compact(*map_bytes)
            }
            Step::Truncate(percent) => self.truncate(*percent),
            Step::DeleteBefore(percent) => {
                let (start, end) = (self.log().start_offset().0, self.log().end_offset().0);
                let offset = start + (end - start) * i64::from(*percent) / 100;
                self.start_max = self.start_max.max(offset);
                let deleted = self.log().delete_before(Offset(offset))?;
                deleted.remove().map_err(StorageError::from_io)
            }
            Step::Reopen { clean } => {
                if *clean {
                    self.checkpoint()?;
                }
                self.log = None;
                self.open(*clean)
                    .map_err(|error| StorageError::Io(std::io::Error::other(error.to_string())))
            }
        }
    }

    fn append(
        &mut self,
        records: &[(u8, Option<usize>)],
        codec: Compression,
    ) -> Result<(), StorageError> {
        let base = self.log().end_offset().0;
        self.now += 1;
        let producer = i64::from(records[0].0 % 3);
        let mut builder =
            BatchBuilder::new(0)
                .compression(codec)
                .producer(producer, 0, base as i32);
        let mut appended = Vec::new();
        for (i, (key, len)) in records.iter().enumerate() {
            let entry = Entry {
                key: *key,
                value: len.map(|len| vec![base as u8; len]),
                timestamp: self.now + i as i64,
            };
            builder.append(&NewRecord {
                timestamp: entry.timestamp,
                key: Some(&[*key]),
                value: entry.value.as_deref(),
                headers: &[],
            });
            appended.push((base + i as i64, entry));
        }
        let mut batch = builder.build().unwrap().to_vec();
        let epoch = LeaderEpoch(self.epoch);
        let result = self.log().append_as_leader(&mut batch, epoch, NOW);
        // After a failure any part of it may be there.
        self.history.extend(appended);
        match result {
            Ok(info) => {
                self.producers.insert(producer, info.end_offset);
                Ok(())
            }
            Err(crate::AppendError::Storage(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    fn checkpoint(&mut self) -> Result<(), StorageError> {
        let synced = self.log().checkpoint_handle().sync()?;
        self.log().synced(synced);
        self.durable = self.durable.max(self.log().durable_end().0);
        let log = self.log.as_mut().expect("the log is open");
        let checkpoint = log.checkpoint();
        self.log_start = checkpoint.start_offset;
        self.recovery_point = checkpoint.recovery_point;
        self.compacted_upto = log.compacted_upto();
        log.checkpointed(checkpoint);
        Ok(())
    }

    fn compact(&mut self, map_bytes: usize) -> Result<(), StorageError> {
        let now = Timestamp(self.now);
        let end = self.log().end_offset();
        let Some(mut pass) = self.log().begin_compaction(now, end) else {
            return Ok(());
        };
        pass.keep_producers(self.producers.clone().into_iter());
        let backlog = self.log().compaction_backlog(now, end).unwrap();
        self.touched_upto = self.touched_upto.max(backlog.upto.0);
        pass.read_keys(map_bytes, &mut Unhurried).map_err(storage)?;
        while let Some(cleaned) = pass.next_group(&mut Unhurried).map_err(storage)? {
            match self.log().replace(cleaned) {
                Ok(replaced) => replaced.finish()?,
                Err(ReplaceError::Storage(error)) => return Err(error),
                Err(ReplaceError::Superseded) => panic!("nothing else changes the log"),
            }
        }
        assert!(pass.compacted_upto() > backlog.dirty_from, "a pass goes on");
        self.log().compacted(&pass);
        if pass.compacted_upto() == backlog.upto {
            self.check_compacted(backlog.upto.0);
        }
        Ok(())
    }

    /// Below `upto` each key is there once.
    fn check_compacted(&mut self, upto: i64) {
        let start = self.log().start_offset().0;
        let mut seen = BTreeSet::new();
        for (offset, entry) in self.found() {
            let duplicate = (start..upto).contains(&offset) && !seen.insert(entry.key);
            assert!(!duplicate, "key {} again at {offset}", entry.key);
        }
    }

    /// Only what is above the compacted part, as only that may differ from a leader's.
    fn truncate(&mut self, percent: u8) -> Result<(), StorageError> {
        let (from, end) = (self.touched_upto, self.log().end_offset().0);
        let offset = from + (end - from) * i64::from(percent) / 100;
        let is_all = Offset(offset) <= self.log().segments[0].base;
        // A log that is cut as a whole may be found without its new start.
        let cut = match is_all {
            true => 0,
            false => self.log().find_batch_base(offset),
        };
        self.durable = self.durable.min(cut);
        self.log().truncate_to(Offset(offset))?;
        let end = self.log().end_offset().0;
        self.history.retain(|at, _| *at < end);
        self.producers.retain(|_, at| at.0 <= end);
        self.epoch += 1;
        Ok(())
    }

    fn found(&self) -> Vec<(i64, Entry)> {
        let log = self.log.as_ref().expect("the log is open");
        let mut found = Vec::new();
        for bytes in read_all(log, log.start_offset()) {
            let batch = RecordBatch::open(&bytes, 1 << 20).unwrap();
            for record in batch.records() {
                let record = record.unwrap();
                let entry = Entry {
                    key: record.key.unwrap()[0],
                    value: record.value.map(<[u8]>::to_vec),
                    timestamp: record.timestamp,
                };
                found.push((record.offset, entry));
            }
        }
        found
    }

    /// Compares what is found with what was appended.
    fn check(&mut self) {
        let (start, end) = (self.log().start_offset().0, self.log().end_offset().0);
        assert!(
            end >= self.durable,
            "ends at {end}, durable: {}",
            self.durable
        );
        assert!(start <= self.start_max);
        self.history.retain(|at, _| *at < end);
        let found = self.found();
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (offset, entry) in &found {
            assert_eq!(self.history.get(offset), Some(entry), "offset {offset}");
        }
        let found: BTreeMap<_, _> = found.into_iter().collect();
        let mut latest = BTreeMap::new();
        for (offset, entry) in self.history.range(start..) {
            latest.insert(entry.key, *offset);
            let untouched = *offset >= self.touched_upto;
            assert!(!untouched || found.contains_key(offset), "offset {offset}");
        }
        for (key, offset) in latest {
            if found.contains_key(&offset) {
                continue;
            }
            assert_eq!(self.history[&offset].value, None, "key {key} is lost");
            let older = found.range(start..offset).find(|(_, e)| e.key == key);
            assert_eq!(older, None, "a deleted key is back");
        }
        self.check_batches();
        check_structure(self.log.as_ref().unwrap());
    }

    /// Epochs can be read from headers, and producers recognised.
    fn check_batches(&mut self) {
        let producers = self.producers.clone();
        let log = self.log.as_ref().expect("the log is open");
        let batches = read_all(log, log.start_offset());
        let headers: Vec<_> = batches
            .iter()
            .map(|bytes| BatchHeader::parse(bytes).unwrap())
            .collect();
        // The oldest may begin where the log once did, in the middle of what is gone, and may have gone as
        // a whole.
        for entry in log.epochs().entries().iter().skip(1) {
            let at = entry.start_offset.0;
            if (log.start_offset().0 + 1..log.end_offset().0).contains(&at) {
                let header = headers.iter().find(|header| header.base_offset == at);
                let epoch = header.map(|header| header.partition_leader_epoch);
                assert_eq!(epoch, Some(entry.epoch.0), "epoch at {at}");
            }
        }
        for header in &headers {
            let epoch = log.epochs().epoch_of(Offset(header.last_offset()));
            assert_eq!(
                epoch,
                Some(LeaderEpoch(header.partition_leader_epoch)),
                "epoch of {header:?}"
            );
        }
        for (id, end) in producers {
            if end > log.start_offset() && end <= log.end_offset() {
                let last = headers.iter().rev().find(|h| h.producer_id == id);
                assert_eq!(last.map(|h| h.next_offset()), Some(end.0), "producer {id}");
            }
        }
    }

    /// What a power failure leaves.
    fn recover(&mut self) {
        self.log = None;
        self.disk.crash();
        self.open(false)
            .unwrap_or_else(|error| panic!("durable up to {}: {error}", self.durable));
        let end = self.log().end_offset();
        self.producers.retain(|_, at| *at <= end);
        self.epoch += 1;
        self.check();
    }
}

impl Log {
    /// Where the batch begins that holds an offset.
    fn find_batch_base(&self, offset: i64) -> i64 {
        let segment = &self.segments[self.segment_index(Offset(offset))];
        let found = segment.find(Offset(offset)).unwrap();
        found.map_or(offset, |(_, header)| header.base_offset.min(offset))
    }
}

fn storage(error: CompactionError) -> StorageError {
    match error {
        CompactionError::NoSpace => StorageError::NoSpace,
        CompactionError::Io(error) => StorageError::Io(error),
        other => panic!("{other}"),
    }
}

fn put(keys: &[u8]) -> Step {
    let records = keys.iter().map(|key| (*key, Some(30)));
    Step::Append(records.collect(), Compression::None)
}

fn delete(key: u8) -> Step {
    Step::Append(vec![(key, None)], Compression::Lz4)
}

/// Keys that are written again and again, deleted and compacted.
fn history() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..3u8 {
        steps.extend((0..9).map(|i| put(&[i % 4, round, i % 2 + 5])));
        steps.extend([delete(1), delete(round + 5), Step::NewEpoch, put(&[7, 0])]);
        steps.extend((0..5).map(|i| put(&[i, 9])));
        steps.push(Step::Checkpoint);
        steps.push(Step::Compact(60, 1 << 10));
        steps.push(put(&[3]));
    }
    steps.push(Step::Checkpoint);
    steps.push(Step::Compact(0, 120));
    steps.push(Step::Compact(200, 120));
    steps
}

#[test]
fn the_last_record_of_each_key_survives_a_stop_at_every_operation() {
    for seed in 1..=3 {
        for after in 0.. {
            let mut owner = Owner::new(seed);
            owner
                .disk
                .fail_after(after, Fault::Crash, FaultSpan::Lasting);
            let done =
                owner.open(false).is_ok() && history().iter().all(|step| owner.apply(step).is_ok());
            owner.recover();
            owner.checkpoint().unwrap();
            owner.compact(1 << 10).unwrap();
            owner.check();
            if done {
                break;
            }
        }
    }
}

/// Runs the history until an operation fails. Whether that was reached.
fn stopped(seed: u64, after: u64) -> (Owner, bool) {
    let mut owner = Owner::new(seed);
    owner
        .disk
        .fail_after(after, Fault::Crash, FaultSpan::Lasting);
    let done = owner.open(false).is_ok() && history().iter().all(|step| owner.apply(step).is_ok());
    owner.log = None;
    (owner, !done)
}

#[test]
fn the_recovery_of_a_compacted_log_survives_a_stop_at_every_operation() {
    for after in (0..).step_by(5) {
        for again in 0.. {
            let (mut owner, reached) = stopped(after + 1, after);
            if !reached {
                return;
            }
            owner.disk.crash();
            owner
                .disk
                .fail_after(again, Fault::Crash, FaultSpan::Lasting);
            let recovered = owner.open(false).is_ok();
            owner.recover();
            if recovered {
                break;
            }
        }
    }
}

#[test]
fn a_killed_process_leaves_what_was_compacted() {
    for after in 0.. {
        let mut owner = Owner::new(1);
        owner
            .disk
            .fail_after(after, Fault::Crash, FaultSpan::Lasting);
        let done =
            owner.open(false).is_ok() && history().iter().all(|step| owner.apply(step).is_ok());
        owner.disk.heal();
        owner.log = None;
        owner.open(false).unwrap();
        owner.check();
        if done {
            break;
        }
    }
}

#[test]
fn a_full_disk_only_delays_compaction() {
    for after in 0..60 {
        let mut owner = Owner::new(1);
        owner.open(false).unwrap();
        let history = history();
        let (last, before) = history.split_last().unwrap();
        before
            .iter()
            .try_for_each(|step| owner.apply(step))
            .unwrap();
        owner
            .disk
            .fail_after(after, Fault::NoSpace, FaultSpan::Once);
        let compacted = owner.apply(last);
        owner.disk.heal();
        owner.check();
        if !owner.log().is_failed() {
            owner.apply(&put(&[1])).unwrap();
            owner.compact(1 << 10).unwrap();
            owner.check();
        }
        owner.recover();
        if compacted.is_ok() {
            return;
        }
    }
    panic!("it is never done");
}

#[test]
fn damage_is_not_taken_over() {
    let mut owner = Owner::new(1);
    owner.open(false).unwrap();
    for i in 0..20 {
        owner.apply(&put(&[i % 3, 4, 5])).unwrap();
    }
    owner.checkpoint().unwrap();
    let path = dir().join("00000000000000000000.log");
    owner.disk.corrupt(&path, 100, b"damage").unwrap();
    let end = owner.log().end_offset();
    let mut pass = owner.log().begin_compaction(NOW, end).unwrap();
    let error = pass.read_keys(1 << 10, &mut Unhurried).unwrap_err();
    assert!(matches!(error, CompactionError::Damaged { .. }), "{error}");
}

#[test]
fn a_log_that_changes_meanwhile_keeps_its_segments() {
    let mut owner = Owner::new(1);
    owner.open(false).unwrap();
    for i in 0..30 {
        owner.apply(&put(&[i % 3, 4, 5])).unwrap();
    }
    owner.checkpoint().unwrap();
    let end = owner.log().end_offset();
    let mut pass = owner.log().begin_compaction(NOW, end).unwrap();
    pass.read_keys(1 << 10, &mut Unhurried).unwrap();
    let cleaned = pass.next_group(&mut Unhurried).unwrap().unwrap();
    owner.apply(&Step::DeleteBefore(50)).unwrap();
    let replaced = owner.log().replace(cleaned);
    assert!(matches!(replaced, Err(ReplaceError::Superseded)));
    let files = owner.fs.list(&dir()).unwrap();
    assert!(files.iter().all(|file| !file.name.ends_with(".cleaned")));
    owner.check();
}

#[test]
fn the_scrub_finds_compacted_segments_and_their_indexes_sound() {
    let mut owner = Owner::new(1);
    owner.open(false).unwrap();
    let mut headers_only = 0;
    for step in history() {
        owner.apply(&step).unwrap();
        let mut from = Offset(0);
        while let Some(mut scrub) = owner.log().scrub_from(from) {
            from = scrub.end();
            let done = std::iter::repeat_with(|| scrub.step(1 << 10).unwrap())
                .find(|step| *step != ScrubStep::More);
            assert_eq!(done, Some(ScrubStep::Done(IndexVerdict::Sound)), "{from}");
        }
        let log = owner.log();
        let batches = read_all(log, log.start_offset());
        let headers = batches
            .iter()
            .map(|bytes| BatchHeader::parse(bytes).unwrap());
        headers_only += headers.filter(|header| header.record_count == 0).count();
    }
    assert!(headers_only > 0, "no batch was emptied");
}

fn step() -> impl Strategy<Value = Step> {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let codec = prop::sample::select(vec![None, None, Gzip, Snappy, Lz4, Zstd]);
    let record = (0..8u8, prop::option::weighted(0.8, 0..90usize));
    let records = prop::collection::vec(record, 1..5);
    prop_oneof![
        14 => (records, codec).prop_map(|(records, codec)| Step::Append(records, codec)),
        1 => Just(Step::NewEpoch),
        3 => Just(Step::Checkpoint),
        3 => (0..150i64, 0..400usize).prop_map(|(ms, bytes)| Step::Compact(ms, bytes)),
        1 => (0..100u8).prop_map(Step::Truncate),
        1 => (0..40u8).prop_map(Step::DeleteBefore),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_consumer_sees_the_same_before_and_after(
        seed in any::<u64>(),
        runs in prop::collection::vec(
            (prop::collection::vec(step(), 1..60), 0..600u64), 1..4),
    ) {
        let mut owner = Owner::new(seed);
        owner.open(false).unwrap();
        for (history, after) in &runs {
            owner.disk.fail_after(*after, Fault::Crash, FaultSpan::Lasting);
            for step in history {
                if owner.apply(step).is_err() {
                    break;
                }
                owner.check();
            }
            owner.recover();
        }
    }
}
