//! What the last run of this broker may have lost (KIP-966): nothing when it stopped cleanly, nothing
//! either when only the process died, because the page cache outlives it until the kernel restarts.
//!
//! Every log directory keeps a record of the run. Only together do they tell that nothing is lost: a
//! directory that failed, is missing, or is new, may be the one that had what was acknowledged.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::BrokerEpoch;
use broker_log::fs::{Fs, OpenMode};
use broker_log::{read_text, replace_file};

use crate::log_dirs::Failures;

const FILE_NAME: &str = "broker-epoch";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Registration epoch that matches none: the last run may have lost acknowledged records.
const NO_EPOCH: i64 = -1;
/// Last line of the record of a run in which a directory failed.
const LOSSY: &str = "lossy";
/// More than the ids of all directories need.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What disks say about the run that used them last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// Its registration epoch; -1 on empty disks, or when one of its directories is gone without
    /// being offline: it was replaced.
    pub epoch: i64,
    /// The same if all that it acknowledged is still there, else -1.
    pub lossless_epoch: i64,
}

/// Whether a run may have lost what it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    None,
    /// A directory failed.
    Possible,
}

/// The record of one run in one log directory: registration epoch, id of the kernel's boot, and the
/// ids of the directories in use.
pub struct RunRecord {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    directory_id: String,
    boot_id: String,
    /// Whether the directory's logs were closed when the last run ended.
    closed_cleanly: bool,
}

/// A record as it was read.
#[derive(Default)]
struct Entry {
    epoch: Option<i64>,
    boot_id: String,
    directory_ids: BTreeSet<String>,
    lossy: bool,
}

impl RunRecord {
    /// The record in the directory `dir`.
    #[must_use]
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, directory_id: &str, closed_cleanly: bool) -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self {
            fs,
            path: dir.join(FILE_NAME),
            directory_id: directory_id.to_owned(),
            boot_id: boot_id.trim().to_owned(),
            closed_cleanly,
        }
    }

    /// Epoch of the last run that used the directory, -1 for none.
    #[must_use]
    pub fn last_epoch(&self) -> i64 {
        self.read().epoch.unwrap_or(NO_EPOCH)
    }

    /// Whether the directory failed in the last run, and the kernel has gone on since: what it shows
    /// of the logs may not be on the disk. A record that is missing could not be written.
    pub(crate) fn tells_of_failure(&self) -> bool {
        let entry = self.read();
        let other_boot = !entry.boot_id.is_empty() && entry.boot_id != self.boot_id;
        (entry.lossy || entry.epoch.is_none()) && !other_boot
    }

    fn read(&self) -> Entry {
        let text = read_text(&*self.fs, &self.path, RECORD_BYTES_MAX);
        let text = text.ok().flatten().unwrap_or_default();
        let mut lines = text.lines();
        let mut line = || lines.next().unwrap_or_default();
        let epoch = line().parse().ok();
        let boot_id = line().to_owned();
        let ids = line().split(',').filter(|id| !id.is_empty());
        let directory_ids = ids.map(str::to_owned).collect();
        Entry {
            epoch,
            boot_id,
            directory_ids,
            lossy: line() == LOSSY,
        }
    }

    /// Whether nothing that the run of `entry` wrote to this directory can be lost.
    fn is_lossless(&self, entry: &Entry) -> bool {
        let same_boot = !entry.boot_id.is_empty() && entry.boot_id == self.boot_id;
        !entry.lossy && (self.closed_cleanly || same_boot)
    }

    fn text(&self, epoch: i64, ids: &BTreeSet<String>, losses: Losses) -> String {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut text = format!("{epoch}\n{}\n{}\n", self.boot_id, ids.join(","));
        if losses == Losses::Possible {
            text += LOSSY;
            text += "\n";
        }
        text
    }

    fn write(&self, text: &str) -> io::Result<()> {
        // Durably, or a power failure leaves an older record, as of disks that were replaced.
        replace_file(&*self.fs, &self.path, text.as_bytes())
    }

    /// For a disk that syncs no more: until the kernel ends, this will do.
    fn write_unsynced(&self, text: &str) -> io::Result<()> {
        let file = self.fs.open(&self.path, OpenMode::Truncate)?;
        file.write_at(text.as_bytes(), 0)
    }

    /// The next start counts as one after losses.
    pub(crate) fn mark_lossy(&self) {
        let entry = self.read();
        let epoch = entry.epoch.unwrap_or(NO_EPOCH);
        let text = self.text(epoch, &entry.directory_ids, Losses::Possible);
        let marked = self
            .write(&text)
            .or_else(|_| self.write_unsynced(&text))
            .or_else(|_| self.fs.remove(&self.path));
        if let Err(error) = marked {
            tracing::warn!(file = %self.path.display(), %error, "the record of this run stays");
        }
    }
}

/// The last run as far as the directories of `records` know of it. `offline` is the number of
/// directories that can't be read.
#[must_use]
pub fn last_run(records: &[RunRecord], offline: usize) -> LastRun {
    let entries: Vec<Entry> = records.iter().map(RunRecord::read).collect();
    let ids = directory_ids(records);
    let newest = entries.iter().max_by_key(|entry| entry.epoch);
    let gone = |newest: &Entry| newest.directory_ids.difference(&ids).count();
    let epoch = newest
        .filter(|newest| gone(newest) <= offline)
        .and_then(|newest| newest.epoch)
        .unwrap_or(NO_EPOCH);
    let lossless = |(record, entry): (&RunRecord, &Entry)| {
        entry.epoch == Some(epoch) && entry.directory_ids == ids && record.is_lossless(entry)
    };
    LastRun {
        epoch,
        lossless_epoch: if records.iter().zip(&entries).all(lossless) {
            epoch
        } else {
            NO_EPOCH
        },
    }
}

fn directory_ids(records: &[RunRecord]) -> BTreeSet<String> {
    let ids = records.iter().map(|record| record.directory_id.clone());
    ids.collect()
}

/// Whether a registration is on the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As far as it can be: a directory that fails is not going to take it.
    Settled,
    /// A disk is full: once there is room, it can be written.
    NoSpace,
}

/// Writes down a registration of this run, so that it outlives a loss of power.
pub(crate) fn keep(failures: &Failures, epoch: BrokerEpoch) -> Kept {
    failures.with_records(|records, losses| write_all(records, epoch, losses))
}

pub(crate) fn write_all(records: &[RunRecord], epoch: BrokerEpoch, losses: Losses) -> Kept {
    let ids = directory_ids(records);
    let mut kept = Kept::Settled;
    for record in records {
        let text = record.text(epoch.0, &ids, losses);
        match record.write(&text) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => kept = Kept::NoSpace,
            Err(error) => tracing::warn!(
                file = %record.path.display(), %error,
                "registration not written down; the next start counts as unclean"
            ),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use broker_log::fs::RealFs;
    use broker_log::fs::memory::MemoryFs;
    use tempfile::TempDir;

    use super::*;

    struct Broker(Vec<TempDir>);

    impl Broker {
        fn with_directories(count: usize) -> Self {
            Self((0..count).map(|_| tempfile::tempdir().unwrap()).collect())
        }

        fn records(&self, closed_cleanly: bool) -> Vec<RunRecord> {
            let dirs = self.0.iter();
            dirs.map(|dir| {
                let id = dir.path().to_str().unwrap();
                RunRecord::new(Arc::new(RealFs), dir.path(), id, closed_cleanly)
            })
            .collect()
        }
    }

    fn epochs(records: &[RunRecord]) -> (i64, i64) {
        epochs_with_offline(records, 0)
    }

    fn epochs_with_offline(records: &[RunRecord], offline: usize) -> (i64, i64) {
        let LastRun {
            epoch,
            lossless_epoch,
        } = last_run(records, offline);
        (epoch, lossless_epoch)
    }

    fn run(records: &[RunRecord], epoch: i64) {
        write_all(records, BrokerEpoch(epoch), Losses::None);
    }

    #[test]
    fn a_run_lost_nothing_when_it_closed_cleanly_or_the_kernel_is_still_the_same() {
        let broker = Broker::with_directories(1);
        let records = broker.records(true);
        assert_eq!(epochs(&records), (-1, -1), "there was no earlier run");
        run(&records, 7);
        assert_eq!(epochs(&broker.records(false)), (7, 7));
        let rebooted = |closed_cleanly| {
            let mut records = broker.records(closed_cleanly);
            records[0].boot_id = "another".to_owned();
            epochs(&records)
        };
        assert_eq!(rebooted(false), (7, -1));
        assert_eq!(rebooted(true), (7, 7));
    }

    #[test]
    fn a_failure_is_of_no_concern_to_another_boot() {
        let broker = Broker::with_directories(1);
        let mut records = broker.records(true);
        run(&records, 7);
        records[0].mark_lossy();
        assert!(records[0].tells_of_failure());
        records[0].boot_id = "another".to_owned();
        assert!(!records[0].tells_of_failure());
    }

    #[test]
    fn a_registration_that_is_written_down_outlives_a_power_failure() {
        let dir = Path::new("/data");
        for seed in 0..50 {
            let disk = MemoryFs::new(seed);
            disk.create_dir(dir).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            let records = || [RunRecord::new(Arc::new(disk.clone()), dir, "id", false)];
            for epoch in 1..4 {
                run(&records(), epoch);
                disk.crash();
                assert_eq!(last_run(&records(), 0).epoch, epoch, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_full_disk_takes_a_registration_once_there_is_room() {
        let (dir, disk) = (Path::new("/data"), MemoryFs::new(1));
        disk.create_dir(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let records = || [RunRecord::new(Arc::new(disk.clone()), dir, "id", false)];
        let write = |epoch| write_all(&records(), BrokerEpoch(epoch), Losses::None);
        assert_eq!(write(1), Kept::Settled);
        disk.set_capacity(0);
        assert_eq!(write(2), Kept::NoSpace);
        assert_eq!(last_run(&records(), 0).epoch, 1, "the one before stays");
        disk.set_capacity(u64::MAX);
        assert_eq!(write(2), Kept::Settled);
        assert_eq!(last_run(&records(), 0).epoch, 2);
    }

    #[test]
    fn a_directory_that_was_replaced_or_left_out_counts_as_new_disks() {
        let mut broker = Broker::with_directories(3);
        run(&broker.records(true), 7);
        assert_eq!(epochs(&broker.records(true)), (7, 7));

        let records = broker.records(true);
        assert_eq!(epochs(&records[..2]), (-1, -1), "one is left out");
        let offline = epochs_with_offline(&records[..2], 1);
        assert_eq!(offline, (7, -1), "one can't be read");
        broker.0[2] = tempfile::tempdir().unwrap();
        assert_eq!(epochs(&broker.records(true)), (-1, -1), "one is new");
    }

    #[test]
    fn a_directory_that_is_added_or_comes_back_costs_the_place_in_the_elr_only() {
        let broker = Broker::with_directories(3);
        run(&broker.records(true)[..2], 7);
        let records = broker.records(true);
        assert_eq!(epochs(&records), (7, -1), "one is added");
        run(&records, 8);
        run(&records[..2], 9);
        assert_eq!(epochs(&records), (9, -1), "one is back");
    }

    #[test]
    fn a_run_in_which_a_directory_failed_is_known_but_not_lossless() {
        let broker = Broker::with_directories(2);
        let records = broker.records(true);
        run(&records, 7);
        records[0].mark_lossy();
        assert_eq!(epochs(&records), (7, -1));
        assert!(records[0].tells_of_failure() && !records[1].tells_of_failure());
        records[1].mark_lossy();
        assert_eq!(epochs(&records), (7, -1));
        write_all(&records, BrokerEpoch(8), Losses::Possible);
        assert_eq!(epochs(&records), (8, -1), "registered again");
    }
}
