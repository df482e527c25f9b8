//! Who owns a log, as a broker does: it keeps a data directory with checkpoints beside it, knows what
//! it was promised, and checks what it finds again.

use std::path::Path;

use broker_core::TopicId;

use super::model::{Model, check_epochs, check_structure};
use super::*;
use crate::checkpoint::OffsetEntry;
use crate::dir::LogDir;
use crate::error::{AppendError, StorageError};
use crate::fs::memory::MemoryFs;

const TOPIC: &str = "events";

/// One thing that an owner does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Batches of so many records of so many bytes, as the leader.
    Append {
        sizes: Vec<(usize, usize)>,
        timestamp: i64,
    },
    /// Two batches as a follower, the first `gap` offsets after the end.
    AppendAsFollower { gap: i64 },
    /// The next append is of a newer epoch.
    NewEpoch,
    /// The group commit of `flush.messages`.
    Flush,
    /// Records, indexes and epochs are made durable, and the checkpoints are written. Something is
    /// appended while the disk is busy.
    Checkpoint { meanwhile: bool },
    /// Checkpoint files alone.
    WriteCheckpoints,
    /// Percent of the log that stays.
    Truncate(u8),
    /// Starts over at the log end and so many offsets more.
    StartOver(i64),
    /// Percent of the log that goes.
    DeleteBefore(u8),
    /// Keeps so many bytes.
    Retain(u64),
    /// The process ends and another takes over.
    Reopen(Stop),
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// After all was closed.
    Clean,
    /// `kill -9`: what was written is there.
    Killed,
}

/// What is gone when an owner looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Only the process.
    Process,
    /// What was not synced, in whole or in part.
    Power,
}

pub(super) struct Owner {
    pub(super) disk: MemoryFs,
    fs: Arc<dyn Fs>,
    running: Option<(LogDir, Log)>,
    /// Everything appended and not truncated.
    pub(super) model: Model,
    /// Records below were confirmed to be durable and not truncated since.
    durable: i64,
    /// Offsets below were confirmed to stay deleted.
    start_min: i64,
    /// Offsets below may be deleted by what was asked for.
    start_max: i64,
    /// The log may be empty and begin here: it is being started over.
    starting_over_at: Option<i64>,
    epoch: i32,
    /// An operation failed in the last run.
    disk_failed: bool,
}

impl Owner {
    pub(super) fn new(seed: u64) -> Self {
        let disk = MemoryFs::new(seed);
        Self {
            fs: Arc::new(disk.clone()),
            disk,
            running: None,
            model: Model::default(),
            durable: 0,
            start_min: 0,
            start_max: 0,
            starting_over_at: None,
            epoch: 0,
            disk_failed: false,
        }
    }

    /// The same memory with another disk of the same contents.
    pub(super) fn fork(&self) -> Self {
        assert!(self.running.is_none(), "open files belong to the old disk");
        let disk = self.disk.fork();
        Self {
            fs: Arc::new(disk.clone()),
            disk,
            running: None,
            model: self.model.clone(),
            ..*self
        }
    }

    pub(super) fn log(&mut self) -> &mut Log {
        &mut self.running.as_mut().expect("the log is open").1
    }

    /// Opens directory and log, as a broker does at its start.
    pub(super) fn open(&mut self) -> Result<RecoveryReport, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let path = Path::new("/data");
        let dir = LogDir::open(self.fs.clone(), path, "cluster", 1, "directory");
        let dir = dir.map_err(|error| text(&error))?;
        let found = dir.scan().map_err(|error| text(&error))?;
        if found.iter().all(|found| found.metadata.is_none()) {
            let created = dir.create_partition(TOPIC, 0, TopicId([7; 16]), "log");
            created.map_err(|error| text(&error))?;
        }
        let checkpointed = |entries: std::io::Result<Vec<OffsetEntry>>| {
            let entries = entries.map_err(|error| text(&error))?;
            Ok::<_, String>(entries.first().map_or(Offset(0), |entry| entry.offset))
        };
        let options = OpenOptions {
            clean_shutdown: dir.clean_shutdown(),
            recovery_point: checkpointed(dir.recovery_points())?,
            log_start: checkpointed(dir.log_starts())?,
            disk_failed: self.disk_failed,
        };
        let opened = open_with(&self.fs, small(), options);
        let (log, report) = opened.map_err(|error| text(&error))?;
        self.running = Some((dir, log));
        self.disk_failed = false;
        Ok(report)
    }

    /// Leaves the log as a process does that is gone, and what `loss` says of the disk.
    pub(super) fn stop(&mut self, loss: Loss) {
        if let Some((_, log)) = self.running.take() {
            self.disk_failed |= log.is_failed();
            self.start_min = self.start_min.min(log.checkpointed_start().0);
        }
        match loss {
            Loss::Process => self.disk.heal(),
            Loss::Power => self.disk.crash(),
        }
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), StorageError> {
        match step {
            Step::Append { sizes, timestamp } => self.append(sizes, *timestamp),
            Step::AppendAsFollower { gap } => self.append_as_follower(*gap),
            Step::NewEpoch => {
                self.epoch += 1;
                let epoch = LeaderEpoch(self.epoch);
                self.log().assign_epoch(epoch);
                Ok(())
            }
            Step::Flush => {
                let synced = self.log().sync_handle().sync()?;
                self.note_durable(synced);
                Ok(())
            }
            Step::Checkpoint { meanwhile } => {
                let synced = self.log().checkpoint_handle().sync()?;
                let appended = match meanwhile {
                    true => self.append(&[(1, 150), (2, 90)], 7),
                    false => Ok(()),
                };
                self.note_durable(synced);
                self.write_checkpoints()?;
                appended
            }
            Step::WriteCheckpoints => self.write_checkpoints(),
            Step::Truncate(percent) => self.truncate(*percent),
            Step::StartOver(distance) => self.start_over(*distance),
            Step::DeleteBefore(percent) => {
                let (start, end) = (self.log().start_offset().0, self.log().end_offset().0);
                let offset = start + (end - start) * i64::from(*percent) / 100;
                self.start_max = self.start_max.max(offset);
                let deleted = self.log().delete_before(Offset(offset));
                self.note_start();
                deleted?.remove().map_err(StorageError::Io)
            }
            Step::Retain(bytes) => self.retain(*bytes),
            Step::Reopen(stop) => self.reopen(*stop),
        }
    }

    fn append(&mut self, sizes: &[(usize, usize)], timestamp: i64) -> Result<(), StorageError> {
        let seed = self.model.end as u8;
        let parts = sizes
            .iter()
            .map(|&(count, len)| batch(count, len, seed, timestamp));
        let mut records = parts.collect::<Vec<_>>().concat();
        let epoch = LeaderEpoch(self.epoch);
        let result = self.log().append_as_leader(&mut records, epoch, NOW);
        self.note_append(&records, result.map(|_| ()))
    }

    fn append_as_follower(&mut self, gap: i64) -> Result<(), StorageError> {
        let mut first = batch(2, 70, 9, 3);
        let mut second = batch(1, 200, 5, 4);
        for (batch, offset) in [(&mut first, gap), (&mut second, gap + 2)] {
            broker_wire::record::patch_base_offset(batch, self.model.end + offset);
            broker_wire::record::patch_leader_epoch(batch, self.epoch);
        }
        let records = [first, second].concat();
        let result = self.log().append_as_follower(&records, NOW).map(|_| ());
        self.note_append(&records, result)
    }

    fn note_append(
        &mut self,
        records: &[u8],
        result: Result<(), AppendError>,
    ) -> Result<(), StorageError> {
        let error = match result {
            Ok(()) => None,
            Err(AppendError::Storage(error)) => Some(error),
            Err(other) => panic!("{other}"),
        };
        match error {
            None => {
                self.model.append(records);
                assert_eq!(self.log().end_offset().0, self.model.end);
                Ok(())
            }
            Some(StorageError::Io(error)) => {
                // Any part of it may be there now; the log takes nothing more.
                self.model.append(records);
                Err(StorageError::Io(error))
            }
            Some(error) => Err(error),
        }
    }

    fn note_durable(&mut self, synced: crate::Synced) {
        self.log().synced(synced);
        self.durable = self.durable.max(self.log().durable_end().0);
    }

    fn note_start(&mut self) {
        let start = self.log().start_offset().0;
        self.model.start = self.model.start.max(start);
        self.start_max = self.start_max.max(start);
    }

    fn write_checkpoints(&mut self) -> Result<(), StorageError> {
        let (dir, log) = self.running.as_mut().expect("the log is open");
        let entry = |offset| {
            let topic = TOPIC.to_owned();
            [OffsetEntry {
                topic,
                partition: 0,
                offset,
            }]
        };
        let checkpoint = log.checkpoint();
        dir.write_log_starts(&entry(checkpoint.start_offset))
            .and_then(|()| dir.write_recovery_points(&entry(checkpoint.recovery_point)))
            .map_err(StorageError::from_io)?;
        log.checkpointed(checkpoint);
        self.start_min = log.checkpointed_start().0;
        Ok(())
    }

    fn truncate(&mut self, percent: u8) -> Result<(), StorageError> {
        let (start, end) = (self.log().start_offset().0, self.log().end_offset().0);
        let offset = start + (end - start) * i64::from(percent) / 100;
        // Whatever happens, nothing above the batch that holds the offset has to survive.
        let cut = self.model.batches.iter().find(|b| b.last >= offset);
        let cut = cut.map_or(offset, |b| b.base.min(offset));
        let before = self.durable;
        self.durable = self.durable.min(cut);
        if let Err(error) = self.log().truncate_to(Offset(offset)) {
            if matches!(error, StorageError::NoSpace) {
                self.durable = before;
            }
            return Err(error);
        }
        let end = self.log().end_offset().0;
        self.model.truncate_to(offset, end);
        self.model.end = end;
        self.durable = self.durable.min(end);
        self.epoch += 1;
        Ok(())
    }

    fn start_over(&mut self, distance: i64) -> Result<(), StorageError> {
        let at = (self.log().end_offset().0 + distance).max(0);
        let before = self.durable;
        self.durable = 0;
        self.starting_over_at = Some(at);
        let result = self.log().truncate_fully_and_start_at(Offset(at));
        match &result {
            Ok(()) => {
                self.starting_over_at = None;
                self.model = Model {
                    batches: Vec::new(),
                    start: at,
                    end: at,
                };
                self.start_max = at;
                self.durable = at;
            }
            Err(StorageError::NoSpace) => {
                self.durable = before;
                self.starting_over_at = None;
            }
            Err(_) => {}
        }
        result
    }

    fn retain(&mut self, bytes: u64) -> Result<(), StorageError> {
        let upto = self.log().end_offset();
        self.start_max = self.start_max.max(upto.0);
        self.log().set_config(LogConfig {
            retention_bytes: Some(bytes),
            ..small()
        });
        let deleted = self.log().apply_retention(NOW, upto);
        self.log().set_config(small());
        self.note_start();
        deleted?.remove().map_err(StorageError::from_io)
    }

    fn reopen(&mut self, stop: Stop) -> Result<(), StorageError> {
        if stop == Stop::Clean {
            self.close_cleanly()?;
        }
        self.start_min = self.start_min.min(self.log().checkpointed_start().0);
        self.running = None;
        let report = self
            .open()
            .map_err(|error| StorageError::Io(std::io::Error::other(error)))?;
        assert_eq!(report.bytes_truncated, 0, "nothing is torn: {report:?}");
        assert!(
            stop != Stop::Clean || report.bytes_scanned == 0,
            "a clean log needs no scan"
        );
        assert_eq!(self.log().end_offset().0, self.model.end, "{report:?}");
        self.check();
        Ok(())
    }

    pub(super) fn close_cleanly(&mut self) -> Result<(), StorageError> {
        let synced = self.log().checkpoint_handle().sync()?;
        self.note_durable(synced);
        self.write_checkpoints()?;
        let (dir, _) = self.running.as_ref().expect("the log is open");
        dir.mark_clean_shutdown().map_err(StorageError::from_io)
    }

    /// Checks what was found against what was there and what was promised, and goes on from it.
    pub(super) fn check(&mut self) {
        let promised = self
            .model
            .from(self.model.start)
            .filter(|b| b.last < self.durable);
        let durable = promised.map(|b| b.last + 1).max().unwrap_or(0);
        let log = &self.running.as_ref().expect("the log is open").1;
        let (start, end) = (log.start_offset().0, log.end_offset().0);
        if self.starting_over_at.take() == Some(start) && end == start {
            self.model = Model {
                batches: Vec::new(),
                start,
                end,
            };
            self.start_max = start;
        }
        let (start_min, start_max) = (self.start_min, self.start_max);
        assert!(end >= durable, "durable up to {durable}, found up to {end}");
        assert!(
            start >= start_min,
            "what lies below {start_min} was deleted, found from {start}"
        );
        assert!(
            start <= start_max,
            "nobody deleted below {start}, only below {start_max}"
        );
        let found = read_all(log, log.start_offset());
        let expected: Vec<_> = self
            .model
            .from(start)
            .take(found.len())
            .map(|b| Bytes::from(b.bytes.clone()))
            .collect();
        let offsets = |batches: &[Bytes]| -> Vec<_> {
            let base = |b: &Bytes| i64::from_be_bytes(b[..8].try_into().unwrap());
            batches.iter().map(base).collect()
        };
        assert!(
            found == expected,
            "{:?} is not {:?}",
            offsets(&found),
            offsets(&expected)
        );
        check_structure(log);
        self.model.batches.retain(|b| b.last < end);
        self.durable = self.durable.min(end);
        (self.model.start, self.model.end) = (start, end);
        check_epochs(log, &self.model);
        self.epoch = self
            .epoch
            .max(log.epochs().latest().map_or(0, |latest| latest.0));
    }

    /// Opens the log after a fault, checks it, and that opening it again changes nothing.
    pub(super) fn recover(&mut self) {
        self.open()
            .unwrap_or_else(|error| panic!("durable up to {}: {error}", self.durable));
        self.check();
        let ends = |log: &Log| {
            let (start, end) = (log.start_offset(), log.end_offset());
            let epochs = log.epochs().entries().iter().copied();
            let epochs: Vec<_> = epochs.filter(|epoch| epoch.start_offset < end).collect();
            (start, end, epochs)
        };
        let before = ends(self.log());
        self.stop(Loss::Process);
        let report = self.open().expect("it was opened before");
        assert_eq!(
            report.bytes_truncated, 0,
            "the second time finds no torn tail"
        );
        assert_eq!(ends(self.log()), before);
        self.check();
    }
}
