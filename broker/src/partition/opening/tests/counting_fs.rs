//! A file system that counts the bytes that are read from it, mapped ones included.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use broker_log::fs::{DirEntry, FileLock, FileMap, FsFile, OpenMode};

use super::*;

#[derive(Clone)]
pub(super) struct CountingFs {
    inner: Arc<dyn Fs>,
    bytes: Arc<AtomicU64>,
}

impl CountingFs {
    pub(super) fn new() -> Self {
        Self {
            inner: Arc::new(RealFs),
            bytes: Arc::default(),
        }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Fs for CountingFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        Ok(Arc::new(CountingFile {
            inner: self.inner.open(path, mode)?,
            bytes: Arc::clone(&self.bytes),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.inner.lock(path)
    }
}

struct CountingFile {
    inner: Arc<dyn FsFile>,
    bytes: Arc<AtomicU64>,
}

impl FsFile for CountingFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.inner.write_at(bytes, position)
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.inner.read_at(buf, position)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }

    fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>> {
        Ok(Arc::new(CountingMap {
            inner: self.inner.map(capacity)?,
            bytes: Arc::clone(&self.bytes),
        }))
    }
}

struct CountingMap {
    inner: Arc<dyn FileMap>,
    bytes: Arc<AtomicU64>,
}

impl FileMap for CountingMap {
    fn copy_to(&self, buf: &mut [u8], position: usize) {
        self.inner.copy_to(buf, position);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
    }
}
