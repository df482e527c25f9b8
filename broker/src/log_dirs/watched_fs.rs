//! A file system that notices what becomes of its directory: every failure of the disk reaches the
//! directory's [`Condition`], and every write and sync is timed. After a failure nothing is tried
//! again: the directory's replicas are gone until the broker restarts.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker_log::fs::{DirEntry, FileLock, FileMap, Fs, FsFile, OpenMode};
use rustix::io::Errno;

use super::condition::Condition;

/// See the module's documentation.
pub(super) struct WatchedFs {
    inner: Arc<dyn Fs>,
    condition: Arc<Condition>,
}

impl WatchedFs {
    pub(super) fn new(inner: Arc<dyn Fs>, condition: Arc<Condition>) -> Self {
        Self { inner, condition }
    }

    fn watch<T>(
        &self,
        kind: Operation,
        operation: impl FnOnce(&dyn Fs) -> io::Result<T>,
    ) -> io::Result<T> {
        self.condition.check()?;
        let done = operation(&*self.inner);
        self.condition.note(kind, done)
    }
}

/// What a failure of an operation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Only the disk's own errors count: a file may be missing or damaged.
    Read,
    /// What the system refuses leaves the directory in a state that nobody knows.
    Change,
    /// As a change, but whatever goes wrong once the file is open: what was to be durable may be
    /// lost.
    Sync,
}

impl Operation {
    /// Whether `error` takes the directory offline.
    pub(super) fn is_fatal(self, error: &io::Error) -> bool {
        let errno = Errno::from_io_error(error);
        let disk_failed = matches!(
            errno,
            Some(
                Errno::IO
                    | Errno::NXIO
                    | Errno::NODEV
                    | Errno::ROFS
                    | Errno::STALE
                    | Errno::UCLEAN
                    | Errno::BADMSG
                    | Errno::REMOTEIO
                    | Errno::NOTCONN
                    | Errno::SHUTDOWN
            )
        );
        match self {
            Self::Read => disk_failed,
            Self::Change => !is_passing(error),
            Self::Sync => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ),
        }
    }
}

/// A full disk, a lack of descriptors or memory pass; a missing file is its log's own matter.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::Interrupted
    ) || matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

impl Fs for WatchedFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let kind = match mode {
            OpenMode::Existing => Operation::Read,
            OpenMode::OrCreate | OpenMode::Truncate => Operation::Change,
        };
        let inner = self.watch(kind, |fs| fs.open(path, mode))?;
        Ok(Arc::new(WatchedFile {
            inner,
            condition: Arc::clone(&self.condition),
            unsynced_bytes: AtomicU64::new(0),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watch(Operation::Change, |fs| fs.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.watch(Operation::Change, |fs| fs.remove(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.watch(Operation::Change, |fs| fs.create_dir(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.watch(Operation::Change, |fs| fs.remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.watch(Operation::Sync, |fs| fs.sync_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.watch(Operation::Read, |fs| fs.list(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.watch(Operation::Read, |fs| fs.exists(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.watch(Operation::Change, |fs| fs.lock(path))
    }
}

struct WatchedFile {
    inner: Arc<dyn FsFile>,
    condition: Arc<Condition>,
    /// Written since the last sync, which takes the longer for it.
    unsynced_bytes: AtomicU64,
}

impl WatchedFile {
    fn read<T>(&self, read: impl FnOnce(&dyn FsFile) -> io::Result<T>) -> io::Result<T> {
        self.condition.check()?;
        self.condition.note(Operation::Read, read(&*self.inner))
    }
}

impl FsFile for WatchedFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.condition.check()?;
        let timed = self.condition.begin();
        let written = self.inner.write_at(bytes, position);
        self.condition.end(timed, 0);
        let len = bytes.len() as u64;
        self.unsynced_bytes.fetch_add(len, Ordering::Relaxed);
        self.condition.note(Operation::Change, written)
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read(|file| file.read_at(buf, position))
    }

    fn len(&self) -> io::Result<u64> {
        self.read(|file| file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.condition.check()?;
        self.condition
            .note(Operation::Change, self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.condition.check()?;
        let bytes = self.unsynced_bytes.swap(0, Ordering::Relaxed);
        let timed = self.condition.begin();
        let synced = self.inner.sync_data();
        self.condition.end(timed, bytes);
        self.condition.note(Operation::Sync, synced)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }

    fn release_cached(&self, position: u64, len: u64) {
        self.inner.release_cached(position, len);
    }

    fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>> {
        self.read(|file| file.map(capacity))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use broker_core::slow_disk::DiskWindow;
    use broker_log::fs::memory::{Fault, FaultSpan, MemoryFs};

    use super::*;
    use crate::log_dirs::failures::Failures;

    fn watched(inner: &MemoryFs) -> (WatchedFs, Arc<Condition>) {
        let failures = Arc::new(Failures::default());
        let condition = Arc::new(Condition::new(PathBuf::from("/d"), failures, 0));
        let fs = WatchedFs::new(Arc::new(inner.clone()), Arc::clone(&condition));
        (fs, condition)
    }

    #[test]
    fn after_a_failed_sync_nothing_is_tried_again() {
        let disk = MemoryFs::new(1);
        let (fs, condition) = watched(&disk);
        let file = fs.open(Path::new("/a"), OpenMode::OrCreate).unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.fail_after(0, Fault::Io, FaultSpan::Once);
        file.sync_data().unwrap_err();
        assert!(condition.is_failed());
        let operations = disk.operations();
        file.sync_data().unwrap_err();
        file.write_at(b"y", 1).unwrap_err();
        fs.open(Path::new("/b"), OpenMode::OrCreate).err().unwrap();
        assert_eq!(disk.operations(), operations, "the disk was asked again");
    }

    #[test]
    fn a_full_disk_or_a_missing_file_is_no_failure_of_the_directory() {
        let disk = MemoryFs::new(1);
        let (fs, condition) = watched(&disk);
        fs.open(Path::new("/none"), OpenMode::Existing)
            .err()
            .unwrap();
        fs.remove(Path::new("/none")).unwrap_err();
        let file = fs.open(Path::new("/a"), OpenMode::OrCreate).unwrap();
        disk.fail_after(0, Fault::NoSpace, FaultSpan::Once);
        file.write_at(b"x", 0).unwrap_err();
        assert!(!condition.is_failed());
        file.write_at(b"x", 0).unwrap();
    }

    /// A file whose syncs take their time.
    struct SlowFile(Arc<dyn FsFile>);

    const SLOW: Duration = Duration::from_millis(20);

    impl FsFile for SlowFile {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            self.0.write_at(bytes, position)
        }

        fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
            self.0.read_at(buf, position)
        }

        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            std::thread::sleep(SLOW);
            self.0.sync_data()
        }

        fn as_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>> {
            self.0.map(capacity)
        }
    }

    /// Syncs a slow file that has so many bytes to sync. Returns the operations that count as slow.
    fn slow_operations(bytes: u64) -> u32 {
        let slow_ms = u64::try_from(SLOW.as_millis()).unwrap() / 2;
        let failures = Arc::new(Failures::default());
        let condition = Arc::new(Condition::new(PathBuf::from("/d"), failures, slow_ms));
        let fs = MemoryFs::new(1);
        let file = fs.open(Path::new("/a"), OpenMode::OrCreate).unwrap();
        let file = WatchedFile {
            inner: Arc::new(SlowFile(file)),
            condition: Arc::clone(&condition),
            unsynced_bytes: AtomicU64::new(bytes),
        };
        file.sync_data().unwrap();
        let window = condition.take_window();
        assert_eq!(window.operations, 1);
        assert!(window.longest >= SLOW, "{window:?}");
        assert_eq!(window.stalled, Duration::ZERO);
        assert_eq!(condition.take_window(), DiskWindow::default());
        window.slow_operations
    }

    #[test]
    fn a_sync_counts_as_slow_unless_there_was_much_to_sync() {
        assert_eq!(slow_operations(0), 1);
        assert_eq!(slow_operations(1 << 40), 0);
    }

    #[test]
    fn only_errors_of_the_disk_make_a_failed_read_fatal() {
        let error = |errno: Errno| io::Error::from(errno);
        for (operation, errno, fatal) in [
            (Operation::Read, Errno::IO, true),
            (Operation::Read, Errno::NOENT, false),
            (Operation::Read, Errno::ACCESS, false),
            (Operation::Change, Errno::ROFS, true),
            (Operation::Change, Errno::ACCESS, true),
            (Operation::Change, Errno::MFILE, false),
            (Operation::Change, Errno::NOSPC, false),
            (Operation::Sync, Errno::NOSPC, true),
            (Operation::Sync, Errno::IO, true),
        ] {
            assert_eq!(
                operation.is_fatal(&error(errno)),
                fatal,
                "{operation:?} {errno:?}"
            );
        }
    }
}
