//! The file system as the log sees it: whole-buffer positioned reads and writes, explicit durability.
//!
//! Contract of every implementation:
//!
//! * a write is visible to reads at once and durable only after [`FsFile::sync_data`];
//! * the creation, renaming or removal of a directory entry is durable only after [`Fs::sync_dir`]
//!   of the directory that holds it;
//! * a failed [`FsFile::sync_data`] may have dropped the writes it was to make durable, so callers
//!   never try again.

mod mapped;
pub mod memory;
mod real;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use real::RealFs;

/// What [`Fs::open`] does about a file that exists or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist.
    Existing,
    /// Made when it does not exist, kept as it is when it does.
    OrCreate,
    /// Made when it does not exist, emptied when it does.
    Truncate,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
}

/// Directories and names.
pub trait Fs: Send + Sync {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>>;
    /// Renames within one directory, replacing what stood there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; open handles keep its contents readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its missing parents; fine when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted. Names that are not UTF-8 are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Takes an exclusive lock on a file, made when missing, held until the result is dropped and
    /// released by the system when the process dies. `None` when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>>;
}

/// Keeps a lock of [`Fs::lock`].
pub struct FileLock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for FileLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileLock")
    }
}

/// An open file.
pub trait FsFile: Send + Sync {
    /// Writes all of `bytes`. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Reads what is there, up to the buffer's length; less only at the end of the file.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// The descriptor for `sendfile`, where the file has one.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
    /// Maps the first `capacity` bytes for reading. The file may be shorter and grow into the map.
    fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>>;

    /// These bytes will not be read again soon: other files' pages are worth more.
    fn release_cached(&self, _position: u64, _len: u64) {}

    /// Fills the buffer or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        match self.read_at(buf, position)? {
            read if read == buf.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file mapped into memory for reading.
pub trait FileMap: Send + Sync {
    /// Copies `buf.len()` bytes from `position`.
    ///
    /// The caller reads only what it knows to lie within both file and map; a position outside the
    /// map panics, one outside the file is undefined by the operating system (`SIGBUS`).
    fn copy_to(&self, buf: &mut [u8], position: usize);
}

/// Whether the error says that the disk or the quota is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
