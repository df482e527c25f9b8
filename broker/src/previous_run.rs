//! What the last run of this broker may have lost (KIP-966): nothing when it stopped cleanly, nothing
//! either when only the process died, because the page cache outlives it until the kernel restarts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use broker_core::BrokerEpoch;
use tokio::sync::watch;

const FILE_NAME: &str = "broker-epoch";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Registration epoch that matches none: the last run may have lost acknowledged records.
const NONE: i64 = -1;

/// What disks say about the run that used them last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// Its registration epoch, -1 on empty disks.
    pub epoch: i64,
    /// The same if all that it acknowledged is still there, else -1.
    pub lossless_epoch: i64,
}

/// The record of one run in its data directory: registration epoch and id of the kernel's boot.
pub struct RunRecord {
    path: PathBuf,
    boot_id: String,
}

impl RunRecord {
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self {
            path: data_dir.join(FILE_NAME),
            boot_id: boot_id.trim().to_owned(),
        }
    }

    /// The last run as far as these disks know of it.
    #[must_use]
    pub fn last_run(&self, closed_cleanly: bool) -> LastRun {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines = text.lines();
        let epoch = lines
            .next()
            .and_then(|line| line.parse().ok())
            .unwrap_or(NONE);
        let same_boot = lines
            .next()
            .is_some_and(|boot_id| !boot_id.is_empty() && boot_id == self.boot_id);
        LastRun {
            epoch,
            lossless_epoch: if closed_cleanly || same_boot {
                epoch
            } else {
                NONE
            },
        }
    }

    /// Writes down every registration of this run.
    pub async fn keep(self, mut epochs: watch::Receiver<Option<BrokerEpoch>>) {
        loop {
            let epoch = *epochs.borrow_and_update();
            if let Some(epoch) = epoch
                && let Err(error) = self.write(epoch)
            {
                tracing::warn!(%error, "registration not written down; the next start counts as unclean");
            }
            if epochs.changed().await.is_err() {
                return;
            }
        }
    }

    fn write(&self, epoch: BrokerEpoch) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        fs::write(&temporary, format!("{epoch}\n{}\n", self.boot_id))?;
        fs::rename(temporary, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lost_nothing_when_it_closed_cleanly_or_the_kernel_is_still_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let record = RunRecord::new(dir.path());
        let last_run = |record: &RunRecord, closed_cleanly| {
            let LastRun {
                epoch,
                lossless_epoch,
            } = record.last_run(closed_cleanly);
            (epoch, lossless_epoch)
        };
        assert_eq!(
            last_run(&record, true),
            (-1, -1),
            "there was no earlier run"
        );
        record.write(BrokerEpoch(7)).unwrap();
        assert_eq!(last_run(&record, false), (7, 7));
        let rebooted = RunRecord {
            boot_id: "another".to_owned(),
            ..RunRecord::new(dir.path())
        };
        assert_eq!(last_run(&rebooted, false), (7, -1));
        assert_eq!(last_run(&rebooted, true), (7, 7));
    }
}
