//! A look at disks that nothing else is asked of, so that one that failed is noticed before somebody
//! needs it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker_log::fs::OpenMode;
use tokio::time::{MissedTickBehavior, interval};

use super::LogDirs;
use super::directory::Directory;

const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// A file that is written in place, with nothing in it.
const PROBE_FILE: &str = ".klamm_probe";

impl LogDirs {
    /// Probes the directories for as long as the broker runs, each on its own: one that hangs gets no
    /// second probe.
    pub(crate) async fn probe(self: Arc<Self>) {
        let mut ticker = interval(PROBE_INTERVAL);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            for directory in self.opened() {
                if directory.is_failed() || directory.probing.swap(true, Ordering::AcqRel) {
                    continue;
                }
                let directory = Arc::clone(directory);
                tokio::task::spawn_blocking(move || {
                    directory.probe();
                    directory.probing.store(false, Ordering::Release);
                });
            }
        }
    }
}

impl Directory {
    /// Writes and syncs a byte. What becomes of it reaches the directory's condition as with every
    /// operation.
    pub(super) fn probe(&self) {
        if let Err(error) = self.write_probe() {
            tracing::debug!(dir = %self.path().display(), %error, "probe of a log directory");
        }
    }

    fn write_probe(&self) -> io::Result<()> {
        let path = self.path().join(PROBE_FILE);
        let file = self.fs().open(&path, OpenMode::OrCreate)?;
        file.write_at(b"\n", 0)?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use broker_log::LogDir;
    use broker_log::fs::Fs;
    use broker_log::fs::memory::{Fault, FaultSpan, MemoryFs};

    use super::super::watched_fs::WatchedFs;
    use super::super::{Condition, Failures};
    use super::*;

    fn directory(disk: &MemoryFs) -> Directory {
        let failures = Arc::new(Failures::default());
        let condition = Arc::new(Condition::new(PathBuf::from("/d"), failures, 0));
        let fs = WatchedFs::new(Arc::new(disk.clone()), Arc::clone(&condition));
        let fs: Arc<dyn Fs> = Arc::new(fs);
        let dir = LogDir::open(Arc::clone(&fs), Path::new("/d"), "c", 1, "id").unwrap();
        Directory::new(fs, dir, condition)
    }

    #[test]
    fn a_failed_disk_was_noticed_only_when_somebody_needed_it() {
        let disk = MemoryFs::new(1);
        let directory = directory(&disk);
        directory.probe();
        assert!(!directory.is_failed());
        disk.fail_after(0, Fault::Io, FaultSpan::Lasting);
        directory.probe();
        assert!(directory.is_failed());
    }

    #[test]
    fn a_full_disk_passes_the_probe() {
        let disk = MemoryFs::new(1);
        let directory = directory(&disk);
        for after in 0..2 {
            disk.fail_after(after, Fault::NoSpace, FaultSpan::Once);
            directory.probe();
            assert!(!directory.is_failed(), "operation {after}");
        }
    }
}
