//! A naive model of a log, and random histories of both side by side.

use proptest::prelude::*;

use super::*;
use crate::fs::memory::MemoryFs;

/// What a log must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) batches: Vec<Stored>,
    pub(super) start: i64,
    pub(super) end: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) epoch: i32,
    pub(super) max_timestamp: i64,
    pub(super) bytes: Vec<u8>,
}

impl Model {
    /// Takes in what was appended.
    pub(super) fn append(&mut self, records: &[u8]) {
        for batch in batches(records) {
            let (header, bytes) = batch.unwrap();
            self.batches.push(Stored {
                base: header.base_offset,
                last: header.last_offset(),
                epoch: header.partition_leader_epoch,
                max_timestamp: header.max_timestamp,
                bytes: bytes.to_vec(),
            });
            self.end = header.next_offset();
        }
    }

    /// `end` is where the log says it ends now; the model does not know where segments begin.
    pub(super) fn truncate_to(&mut self, offset: i64, end: i64) {
        if offset >= self.end {
            return;
        }
        self.batches.retain(|b| b.last < offset);
        assert!(end <= offset && self.batches.last().is_none_or(|b| b.last < end));
        self.end = end;
        self.start = self.start.min(self.end);
    }

    fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset);
    }

    fn restart_at(&mut self, offset: i64) {
        *self = Self {
            batches: Vec::new(),
            start: offset,
            end: offset,
        };
    }

    pub(super) fn from(&self, offset: i64) -> impl Iterator<Item = &Stored> {
        self.batches.iter().filter(move |b| b.last >= offset)
    }
}

/// Checks every invariant of a log, and that it holds exactly what the model does.
pub(super) fn check(log: &Log, model: &Model) {
    assert_eq!(log.start_offset().0, model.start, "start offset");
    assert_eq!(log.end_offset().0, model.end, "end offset");
    let expected: Vec<_> = model.from(model.start).map(|b| b.bytes.clone()).collect();
    assert_eq!(read_all(log, log.start_offset()), expected);
    check_structure(log);
    check_epochs(log, model);
}

/// Index entries point at batch starts, segments follow one another.
pub(super) fn check_structure(log: &Log) {
    let end = log.end_offset();
    assert!(log.start <= end && log.recovery_point <= log.durable_end && log.durable_end <= end);
    for pair in log.segments.windows(2) {
        assert!(pair[0].end <= pair[1].base);
    }
    for segment in &log.segments {
        let mut headers = Vec::new();
        let mut walk = segment.walk(0);
        while let Some(found) = walk.next().unwrap() {
            headers.push(found);
        }
        for i in 0..segment.offsets.entries().len() {
            let entry = segment.offsets.get(i).unwrap();
            let at = headers
                .iter()
                .find(|(position, _)| *position == entry.position);
            let (_, header) = at.expect("an index entry points at the start of a batch");
            assert_eq!(header.last_offset(), entry.last_offset.0);
        }
        for i in 0..segment.times.entries().len() {
            let entry = segment.times.get(i).unwrap();
            let at = headers
                .iter()
                .find(|(_, header)| header.last_offset() == entry.offset.0);
            let (_, header) = at.expect("a time index entry names the last offset of a batch");
            assert_eq!(header.max_timestamp, entry.timestamp.0);
        }
        let with_records = headers.iter().filter(|(_, header)| header.record_count > 0);
        let newest = with_records.map(|(_, header)| header.max_timestamp).max();
        assert_eq!(
            segment.newest.map(|entry| entry.timestamp.0),
            newest,
            "largest timestamp"
        );
    }
}

/// The history names the epoch of every batch, and rises.
pub(super) fn check_epochs(log: &Log, model: &Model) {
    for batch in model.from(model.start) {
        let held = log.epochs().epoch_of(Offset(batch.base.max(model.start)));
        assert_eq!(
            held,
            Some(LeaderEpoch(batch.epoch)),
            "epoch at {}",
            batch.base
        );
    }
    for pair in log.epochs().entries().windows(2) {
        assert!(pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset);
    }
}

#[derive(Clone, Debug)]
enum Op {
    AppendAsLeader {
        sizes: Vec<(usize, usize)>,
        timestamp: i64,
        newer_epoch: bool,
    },
    AppendAsFollower {
        gap: i64,
        timestamp: i64,
    },
    Read {
        from: i64,
        upto: i64,
        bytes_max: usize,
        min_one_batch: bool,
    },
    FindTimestamp {
        timestamp: i64,
    },
    TruncateTo(i64),
    RestartAt(i64),
    DeleteBefore(i64),
    RetainBytes {
        bytes: u64,
        upto: i64,
    },
    RetainAge {
        now: i64,
        upto: i64,
    },
    Checkpoint,
    Reopen {
        clean: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let sizes = prop::collection::vec((1..4usize, 0..120usize), 1..4);
    prop_oneof![
        8 => (sizes, 0..500i64, prop::bool::weighted(0.2)).prop_map(
            |(sizes, timestamp, newer_epoch)| Op::AppendAsLeader { sizes, timestamp, newer_epoch }),
        3 => (0..4i64, 0..500i64)
            .prop_map(|(gap, timestamp)| Op::AppendAsFollower { gap, timestamp }),
        4 => (-1..80i64, 0..90i64, 0..900usize, any::<bool>()).prop_map(
            |(from, upto, bytes_max, min_one_batch)| {
                Op::Read { from, upto, bytes_max, min_one_batch }
            }),
        2 => (0..600i64).prop_map(|timestamp| Op::FindTimestamp { timestamp }),
        2 => (0..80i64).prop_map(Op::TruncateTo),
        1 => (0..100i64).prop_map(Op::RestartAt),
        1 => (0..80i64).prop_map(Op::DeleteBefore),
        1 => (0..3000u64, 0..90i64).prop_map(|(bytes, upto)| Op::RetainBytes { bytes, upto }),
        1 => (100..900i64, 0..90i64).prop_map(|(now, upto)| Op::RetainAge { now, upto }),
        1 => Just(Op::Checkpoint),
        2 => any::<bool>().prop_map(|clean| Op::Reopen { clean }),
    ]
}

struct Pair {
    fs: Arc<dyn Fs>,
    log: Option<Log>,
    model: Model,
    epoch: i32,
}

impl Pair {
    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::AppendAsLeader {
                sizes,
                timestamp,
                newer_epoch,
            } => {
                self.epoch += i32::from(*newer_epoch);
                let epoch = LeaderEpoch(self.epoch);
                let parts = sizes
                    .iter()
                    .map(|&(count, len)| batch(count, len, 7, *timestamp));
                let mut records = parts.collect::<Vec<_>>().concat();
                self.log()
                    .append_as_leader(&mut records, epoch, NOW)
                    .unwrap();
                self.model.append(&records);
            }
            Op::AppendAsFollower { gap, timestamp } => {
                let mut records = batch(2, 10, 9, *timestamp);
                broker_wire::record::patch_base_offset(&mut records, self.model.end + gap);
                broker_wire::record::patch_leader_epoch(&mut records, self.epoch);
                self.log().append_as_follower(&records, NOW).unwrap();
                self.model.append(&records);
            }
            Op::Read {
                from,
                upto,
                bytes_max,
                min_one_batch,
            } => {
                self.read(*from, *upto, *bytes_max, *min_one_batch);
            }
            Op::FindTimestamp { timestamp } => self.find_timestamp(*timestamp),
            Op::TruncateTo(offset) => {
                let first = self.log().segments[0].base.0;
                self.log().truncate_to(Offset(*offset)).unwrap();
                if *offset <= first && *offset < self.model.end {
                    self.model.restart_at(*offset);
                } else {
                    let end = self.log().end_offset().0;
                    self.model.truncate_to(*offset, end);
                }
            }
            Op::RestartAt(offset) => {
                self.log()
                    .truncate_fully_and_start_at(Offset(*offset))
                    .unwrap();
                self.model.restart_at(*offset);
            }
            Op::DeleteBefore(offset) => {
                self.log()
                    .delete_before(Offset(*offset))
                    .unwrap()
                    .remove()
                    .unwrap();
                self.model.delete_before((*offset).min(self.model.end));
            }
            Op::RetainBytes { bytes, upto } => {
                self.retain(Some(*bytes), None, NOW, *upto);
            }
            Op::RetainAge { now, upto } => self.retain(None, Some(50), Timestamp(*now), *upto),
            Op::Checkpoint => {
                let synced = self.log().checkpoint_handle().sync().unwrap();
                self.log().synced(synced);
                assert_eq!(self.log().recovery_point().0, self.model.end);
            }
            Op::Reopen { clean } => self.reopen(*clean),
        }
    }

    fn read(&mut self, from: i64, upto: i64, bytes_max: usize, min_one_batch: bool) {
        let min_one = if min_one_batch {
            MinOneBatch::Yes
        } else {
            MinOneBatch::No
        };
        let result = self
            .log()
            .read(Offset(from), Offset(upto), bytes_max, min_one);
        if from < self.model.start || from > self.model.end {
            assert!(
                matches!(result, Err(crate::ReadError::OutOfRange { .. })),
                "{result:?}"
            );
            return;
        }
        let mut expected: Vec<&Stored> = Vec::new();
        let mut len = 0;
        for batch in self.model.from(from).take_while(|b| b.last < upto) {
            len += batch.bytes.len();
            if len > bytes_max && !(min_one_batch && expected.is_empty()) {
                break;
            }
            expected.push(batch);
        }
        let expected: Vec<_> = expected.into_iter().cloned().collect();
        let Some(slice) = result.unwrap() else {
            assert!(
                expected.is_empty(),
                "nothing read, {} batches expected",
                expected.len()
            );
            return;
        };
        let read = slice.read_to_bytes().unwrap();
        let count = batches(&read).count();
        let joined: Vec<u8> = expected
            .iter()
            .take(count)
            .flat_map(|b| b.bytes.clone())
            .collect();
        assert_eq!(read, joined);
        let wanted = self.model.from(from).take_while(|b| b.last < upto);
        let wanted = wanted.count();
        assert!(slice.more_follow || count == wanted, "{count} of {wanted}");
        if upto >= self.model.end && count == wanted {
            assert!(!slice.more_follow, "all {wanted} were read");
        }
        if let Some(next) = expected.get(count) {
            let last_read = expected[count - 1].last;
            let between = |base: i64| last_read < base && base <= next.base;
            let ended = self
                .log()
                .segments
                .iter()
                .any(|segment| between(segment.base.0));
            assert!(ended, "a read ends early only with its segment");
        }
    }

    fn find_timestamp(&mut self, timestamp: i64) {
        let end = self.log().end_offset();
        let found = self
            .log()
            .batch_for_timestamp(Timestamp(timestamp), end)
            .unwrap();
        let expected = self
            .model
            .from(self.model.start)
            .find(|b| b.max_timestamp >= timestamp);
        assert_eq!(
            found.map(|slice| slice.base_offset.0),
            expected.map(|b| b.base)
        );
        if self
            .model
            .batches
            .first()
            .is_none_or(|b| b.base >= self.model.start)
        {
            let newest = self.log().batch_of_max_timestamp(end).unwrap();
            let max = self
                .model
                .from(self.model.start)
                .map(|b| b.max_timestamp)
                .max();
            let expected = self
                .model
                .batches
                .iter()
                .find(|b| Some(b.max_timestamp) == max);
            assert_eq!(
                newest.map(|slice| slice.base_offset.0),
                expected.map(|b| b.base)
            );
        }
    }

    fn retain(&mut self, bytes: Option<u64>, ms: Option<u64>, now: Timestamp, upto: i64) {
        let config = LogConfig {
            retention_bytes: bytes,
            retention_ms: ms,
            ..small()
        };
        self.log().set_config(config);
        let deleted = self.log().apply_retention(now, Offset(upto)).unwrap();
        for segment in deleted.segments() {
            assert!(segment.base_offset.0 < upto);
        }
        deleted.remove().unwrap();
        let log = self.log.as_mut().unwrap();
        assert!(
            log.start_offset().0 <= upto.max(self.model.start),
            "deleted past the watermark"
        );
        let first = &log.segments[0];
        if let Some(bytes) = bytes.filter(|_| first.size > 0 && first.end.0 <= upto) {
            assert!(
                log.size_bytes() - first.size < bytes,
                "a segment too many was kept"
            );
        }
        self.model.start = log.start_offset().0;
        log.set_config(small());
    }

    fn reopen(&mut self, clean: bool) {
        let mut log = self.log.take().unwrap();
        log.checkpointed(log.checkpoint());
        let log_start = log.start_offset();
        let recovery_point = match clean {
            true => log.close().unwrap(),
            false => log.recovery_point(),
        };
        let options = OpenOptions {
            clean_shutdown: clean,
            recovery_point,
            log_start,
            disk_failed: false,
        };
        let (log, report) = open_with(&self.fs, small(), options).unwrap();
        assert!(
            !clean || report.bytes_scanned == 0,
            "a clean log needs no scan: {report:?}"
        );
        assert_eq!(report.bytes_truncated, 0);
        self.log = Some(log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_what_its_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new(1));
        fs.create_dir(dir().parent().unwrap()).unwrap();
        let (log, _) = open_with(&fs, small(), FRESH).unwrap();
        let mut pair = Pair { fs, log: Some(log), model: Model::default(), epoch: 0 };
        for op in &ops {
            pair.apply(op);
            check(pair.log.as_ref().unwrap(), &pair.model);
        }
    }
}
