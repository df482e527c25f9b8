//! Which leader epoch each stretch of the log was written in (KIP-101, KIP-279, KIP-320).
//!
//! Kept in `leader-epoch-checkpoint`, `<epoch> <start offset>` for each line. The file is written
//! before the recovery point passes an epoch's first batch; later epochs are found again by the
//! scan that recovers the log.
//!
//! Invariant: epochs and start offsets both rise strictly from entry to entry.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use broker_core::{LeaderEpoch, Offset};
use parking_lot::Mutex;

use crate::checkpoint::{read_lines, write_lines};
use crate::fs::Fs;

/// The first offset of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

/// The leader epochs of a log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochHistory {
    entries: Vec<EpochEntry>,
}

impl EpochHistory {
    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch, `None` in a log that never had one.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The newest epoch that starts before `end`, which is the newest that holds records when
    /// `end` is the log end offset.
    pub fn latest_before(&self, end: Offset) -> Option<LeaderEpoch> {
        self.epoch_of(end.plus(-1))
    }

    /// Epoch that `offset` was written in.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// The largest epoch not above `epoch` and the offset where it ends (KIP-320,
    /// OffsetForLeaderEpoch). `None` when the log knows no newer epoch to bound the answer.
    ///
    /// `log_end` ends the newest epoch. When `epoch` is older than all of them, the answer is
    /// `epoch` itself with the start of the oldest.
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch == LeaderEpoch::NONE {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end));
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries.get(higher)?.start_offset;
        let floor = higher
            .checked_sub(1)
            .map_or(epoch, |i| self.entries[i].epoch);
        Some((floor, end))
    }

    /// Notes that records from `start_offset` on are of `epoch`. Epochs that start there or later
    /// held no records and are forgotten.
    ///
    /// Returns whether the history changed; the latest epoch when it holds records and is newer.
    pub(crate) fn assign(
        &mut self,
        epoch: LeaderEpoch,
        start_offset: Offset,
    ) -> Result<bool, LeaderEpoch> {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < start_offset);
        match kept.checked_sub(1).map(|i| self.entries[i].epoch) {
            Some(latest) if latest > epoch => return Err(latest),
            Some(latest) if latest == epoch => {
                let changed = kept < self.entries.len();
                self.entries.truncate(kept);
                return Ok(changed);
            }
            _ => {}
        }
        let entry = EpochEntry {
            epoch,
            start_offset,
        };
        if self.entries[kept..] == [entry] {
            return Ok(false);
        }
        self.entries.truncate(kept);
        self.entries.push(entry);
        Ok(true)
    }

    /// Forgets epochs that start at or after `end`. Returns whether there were any.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) -> bool {
        let kept = self
            .entries
            .partition_point(|entry| entry.start_offset < end);
        let changed = kept < self.entries.len();
        self.entries.truncate(kept);
        changed
    }

    /// Forgets what lies before `start`; the epoch that `start` belongs to then starts there.
    /// Returns whether anything changed.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) -> bool {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= start);
        let Some(first) = after.checked_sub(1) else {
            return false;
        };
        let changed = first > 0 || self.entries[0].start_offset < start;
        self.entries.drain(..first);
        self.entries[0].start_offset = start;
        changed
    }
}

/// The file of a history. Writers may race; the newest version stays.
pub(crate) struct EpochFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    stored: Mutex<u64>,
}

impl EpochFile {
    pub(crate) const NAME: &str = "leader-epoch-checkpoint";

    pub(crate) fn new(fs: Arc<dyn Fs>, path: PathBuf) -> Self {
        Self {
            fs,
            path,
            stored: Mutex::new(0),
        }
    }

    /// Reads the history. Entries that break the invariant make the file invalid.
    pub(crate) fn load(&self) -> io::Result<EpochHistory> {
        let entries = read_lines(&*self.fs, &self.path, |line| {
            let (epoch, start) = line.split_once(' ')?;
            Some(EpochEntry {
                epoch: LeaderEpoch(epoch.parse().ok()?),
                start_offset: Offset(start.parse().ok()?),
            })
        })?;
        let rising = entries.windows(2).all(|pair| {
            pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
        });
        if rising {
            Ok(EpochHistory { entries })
        } else {
            Err(crate::checkpoint::invalid(
                &self.path,
                "has epochs out of order",
            ))
        }
    }

    /// Makes `history` durable, unless a newer version already is.
    pub(crate) fn store(&self, version: u64, history: &EpochHistory) -> io::Result<()> {
        let mut stored = self.stored.lock();
        if version <= *stored {
            return Ok(());
        }
        let line = |e: &EpochEntry| format!("{} {}", e.epoch, e.start_offset);
        write_lines(&*self.fs, &self.path, history.entries.iter().map(line))?;
        *stored = version;
        Ok(())
    }
}
