//! One log directory in use.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use broker_log::LogDir;
use broker_log::fs::Fs;
use parking_lot::{Mutex, MutexGuard};

use super::checkpoints::{Checkpoints, LogName};
use super::condition::Condition;

/// A log directory that was opened. It stays so after its disk failed; then nothing succeeds in it.
pub struct Directory {
    fs: Arc<dyn Fs>,
    dir: LogDir,
    condition: Arc<Condition>,
    checkpoints: Mutex<Checkpoints>,
    replicas: AtomicUsize,
    /// A probe is under way.
    pub(super) probing: AtomicBool,
}

impl Directory {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: LogDir, condition: Arc<Condition>) -> Self {
        Self {
            fs,
            dir,
            condition,
            checkpoints: Mutex::default(),
            replicas: AtomicUsize::new(0),
            probing: AtomicBool::new(false),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    pub(crate) fn dir(&self) -> &LogDir {
        &self.dir
    }

    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether its disk failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.condition.is_failed()
    }

    /// Reads what was last written down of the logs.
    pub(crate) fn read_checkpoints(&self) -> io::Result<()> {
        *self.checkpoints.lock() = Checkpoints::read(&self.dir)?;
        Ok(())
    }

    /// Looks into what is written down of the logs.
    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock()
    }

    /// Changes what is written down of the logs, and writes it.
    pub(crate) fn write_checkpoints(
        &self,
        change: impl FnOnce(&mut Checkpoints),
    ) -> io::Result<()> {
        let mut checkpoints = self.checkpoints.lock();
        change(&mut checkpoints);
        checkpoints.write(&self.dir)
    }

    /// Forgets what is written down of a log, so that a new one of the name is not held against it.
    pub(crate) fn forget(&self, name: &LogName) -> io::Result<()> {
        self.write_checkpoints(|checkpoints| checkpoints.forget(name))
    }

    /// Replicas in it, for the choice of a directory for the next one.
    pub(super) fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    pub(crate) fn replica_added(&self) {
        self.replicas.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn replica_removed(&self) {
        self.replicas.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use broker_core::Offset;
    use broker_log::fs::memory::{Fault, FaultSpan, MemoryFs};

    use super::super::{Checkpointed, Failures};
    use super::*;

    #[test]
    fn what_a_full_disk_kept_of_a_deleted_log_was_held_against_the_next_one() {
        let disk = MemoryFs::new(1);
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let path = PathBuf::from("/d");
        let dir = LogDir::open(Arc::clone(&fs), &path, "c", 1, "id").unwrap();
        let condition = Condition::new(path, Arc::new(Failures::default()), 0);
        let directory = Directory::new(fs, dir, Arc::new(condition));
        let name = ("t".to_owned(), 0);
        let checkpointed = Checkpointed {
            recovery_point: Offset(7),
            ..Checkpointed::default()
        };
        let note = |c: &mut Checkpoints| c.set(name.clone(), checkpointed);
        directory.write_checkpoints(note).unwrap();

        disk.fail_after(0, Fault::NoSpace, FaultSpan::Once);
        directory.forget(&name).unwrap_err();
        directory.forget(&name).unwrap();
        directory.read_checkpoints().unwrap();
        assert_eq!(directory.checkpoints().get(&name), Checkpointed::default());
    }
}
