//! What the last run of this broker may have lost (KIP-966): nothing when it stopped cleanly, nothing
//! either when only the process died, because the page cache outlives it until the kernel restarts.
//!
//! Every log directory keeps a record of the run. Only together do they tell that nothing is lost: a
//! directory that failed, is missing, or is new, may be the one that had what was acknowledged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use broker_core::BrokerEpoch;
use tokio::sync::watch;

use crate::log_dirs::Failures;

const FILE_NAME: &str = "broker-epoch";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Registration epoch that matches none: the last run may have lost acknowledged records.
const NO_EPOCH: i64 = -1;
/// In place of the directories' ids when one of them failed in the run.
const LOSSY: &str = "a directory failed";

/// What disks say about the run that used them last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// Its registration epoch, -1 on empty disks. Where only some of them are of that run, it counts
    /// nevertheless.
    pub epoch: i64,
    /// The same if all that it acknowledged is still there, else -1.
    pub lossless_epoch: i64,
}

/// The record of one run in one log directory: registration epoch, id of the kernel's boot, and the
/// ids of the directories in use.
pub struct RunRecord {
    path: PathBuf,
    directory_id: String,
    boot_id: String,
    /// Whether the directory's logs were closed when the last run ended.
    closed_cleanly: bool,
}

impl RunRecord {
    /// The record in the directory `dir`.
    #[must_use]
    pub fn new(dir: &Path, directory_id: &str, closed_cleanly: bool) -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self {
            path: dir.join(FILE_NAME),
            directory_id: directory_id.to_owned(),
            boot_id: boot_id.trim().to_owned(),
            closed_cleanly,
        }
    }

    /// Epoch of the last run that used the directory, -1 for none.
    #[must_use]
    pub fn last_epoch(&self) -> i64 {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let first = text.lines().next();
        first.and_then(|line| line.parse().ok()).unwrap_or(NO_EPOCH)
    }

    /// Epoch of the last run if that used the directories `ids` and nothing it wrote to this one can
    /// be lost.
    fn lossless_epoch(&self, ids: &str) -> i64 {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines = text.lines().skip(1);
        let boot_id = lines.next().unwrap_or_default();
        let same_boot = !boot_id.is_empty() && boot_id == self.boot_id;
        if lines.next() == Some(ids) && (self.closed_cleanly || same_boot) {
            self.last_epoch()
        } else {
            NO_EPOCH
        }
    }

    fn write(&self, epoch: BrokerEpoch, ids: &str) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, format!("{epoch}\n{}\n{ids}\n", self.boot_id))?;
        fs::rename(temporary, &self.path)
    }

    /// The next start counts as one after losses.
    pub(crate) fn mark_lossy(&self) {
        let epoch = BrokerEpoch(self.last_epoch());
        let marked = self
            .write(epoch, LOSSY)
            .or_else(|_| fs::remove_file(&self.path));
        if let Err(error) = marked {
            tracing::warn!(file = %self.path.display(), %error, "the record of this run stays");
        }
    }
}

/// The last run as far as the directories of `records` know of it.
#[must_use]
pub fn last_run(records: &[RunRecord]) -> LastRun {
    let ids = directory_ids(records);
    let epochs = records.iter().map(RunRecord::last_epoch);
    let epoch = epochs.max().unwrap_or(NO_EPOCH);
    let lossless = |record: &RunRecord| record.lossless_epoch(&ids) == epoch;
    LastRun {
        epoch,
        lossless_epoch: if records.iter().all(lossless) {
            epoch
        } else {
            NO_EPOCH
        },
    }
}

fn directory_ids(records: &[RunRecord]) -> String {
    let mut ids: Vec<&str> = records
        .iter()
        .map(|record| record.directory_id.as_str())
        .collect();
    ids.sort_unstable();
    ids.join(",")
}

/// Writes down every registration of this run, until a directory fails.
pub(crate) async fn keep(
    failures: std::sync::Arc<Failures>,
    mut epochs: watch::Receiver<Option<BrokerEpoch>>,
) {
    loop {
        let epoch = *epochs.borrow_and_update();
        if let Some(epoch) = epoch {
            failures.with_records(|records| write_all(records, epoch));
        }
        if epochs.changed().await.is_err() {
            return;
        }
    }
}

pub(crate) fn write_all(records: &[RunRecord], epoch: BrokerEpoch) {
    let ids = directory_ids(records);
    for record in records {
        if let Err(error) = record.write(epoch, &ids) {
            tracing::warn!(
                file = %record.path.display(), %error,
                "registration not written down; the next start counts as unclean"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Broker(Vec<TempDir>);

    impl Broker {
        fn with_directories(count: usize) -> Self {
            Self((0..count).map(|_| tempfile::tempdir().unwrap()).collect())
        }

        fn records(&self, closed_cleanly: bool) -> Vec<RunRecord> {
            let dirs = self.0.iter();
            dirs.map(|dir| RunRecord::new(dir.path(), dir.path().to_str().unwrap(), closed_cleanly))
                .collect()
        }
    }

    fn epochs(records: &[RunRecord]) -> (i64, i64) {
        let LastRun {
            epoch,
            lossless_epoch,
        } = last_run(records);
        (epoch, lossless_epoch)
    }

    #[test]
    fn a_run_lost_nothing_when_it_closed_cleanly_or_the_kernel_is_still_the_same() {
        let broker = Broker::with_directories(1);
        let records = broker.records(true);
        assert_eq!(epochs(&records), (-1, -1), "there was no earlier run");
        write_all(&records, BrokerEpoch(7));
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
    fn a_directory_that_was_emptied_replaced_or_left_out_counts_as_a_loss() {
        let mut broker = Broker::with_directories(3);
        write_all(&broker.records(true), BrokerEpoch(7));
        assert_eq!(epochs(&broker.records(true)), (7, 7));

        let records = broker.records(true);
        assert_eq!(epochs(&records[..2]), (7, -1), "one is left out");
        fs::remove_file(&records[1].path).unwrap();
        assert_eq!(epochs(&records), (7, -1), "one was emptied");

        write_all(&records, BrokerEpoch(8));
        broker.0[2] = tempfile::tempdir().unwrap();
        assert_eq!(epochs(&broker.records(true)), (8, -1), "one is new");
    }

    #[test]
    fn a_run_in_which_a_directory_failed_is_known_but_not_lossless() {
        let broker = Broker::with_directories(2);
        let records = broker.records(true);
        write_all(&records, BrokerEpoch(7));
        records[0].mark_lossy();
        assert_eq!(epochs(&records), (7, -1));
        records[1].mark_lossy();
        assert_eq!(epochs(&records), (7, -1));
    }
}
