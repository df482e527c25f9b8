//! Which leader epoch each stretch of the log was written in (KIP-101, KIP-279, KIP-320).
//!
//! Kept in `leader-epoch-checkpoint`, `<epoch> <start offset>` for each line. The file is written
//! before the recovery point passes an epoch's first batch; later epochs are found again by the
//! scan that recovers the log.
//!
//! Invariant: epochs and start offsets both rise strictly from entry to entry.

use std::io;
use std::path::{Path, PathBuf};
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

    /// The same file, after its directory was renamed.
    pub(crate) fn in_dir(&self, dir: &Path) -> Self {
        Self {
            fs: Arc::clone(&self.fs),
            path: dir.join(Self::NAME),
            stored: Mutex::new(*self.stored.lock()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        for &(epoch, start) in entries {
            assert_eq!(history.assign(LeaderEpoch(epoch), Offset(start)), Ok(true));
        }
        history
    }

    fn entries(history: &EpochHistory) -> Vec<(i32, i64)> {
        history
            .entries()
            .iter()
            .map(|entry| (entry.epoch.0, entry.start_offset.0))
            .collect()
    }

    #[test]
    fn end_offsets_are_answered_as_kip_320_says() {
        let history = history(&[(2, 10), (4, 30), (7, 50)]);
        let end_of = |epoch| {
            let end = history.end_offset_for(LeaderEpoch(epoch), Offset(60));
            end.map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(end_of(-1), None, "undefined");
        assert_eq!(end_of(0), Some((0, 10)), "older than all");
        assert_eq!(end_of(2), Some((2, 30)));
        assert_eq!(end_of(3), Some((2, 30)), "not in the log: the one before");
        assert_eq!(end_of(4), Some((4, 50)));
        assert_eq!(end_of(7), Some((7, 60)), "the latest ends with the log");
        assert_eq!(end_of(8), None, "newer than all");
    }

    #[test]
    fn an_epoch_without_records_gives_way() {
        let mut history = history(&[(1, 0), (3, 20)]);
        assert_eq!(history.assign(LeaderEpoch(2), Offset(20)), Ok(true));
        assert_eq!(entries(&history), [(1, 0), (2, 20)]);
        assert_eq!(
            history.assign(LeaderEpoch(1), Offset(30)),
            Err(LeaderEpoch(2))
        );
        assert_eq!(history.assign(LeaderEpoch(2), Offset(30)), Ok(false));
    }

    #[test]
    fn truncation_keeps_the_epoch_that_the_start_lies_in() {
        let mut history = history(&[(1, 0), (2, 20), (3, 40)]);
        assert!(history.truncate_from_start(Offset(25)));
        assert_eq!(entries(&history), [(2, 25), (3, 40)]);
        assert!(!history.truncate_from_end(Offset(41)));
        assert!(history.truncate_from_end(Offset(40)));
        assert_eq!(entries(&history), [(2, 25)]);
    }
}
