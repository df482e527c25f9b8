//! Room for the metadata quorum on a disk that is full of records: a file that takes space while there
//! is some, and is given up when the quorum finds none. Without it a full disk would end the broker,
//! and with it the reads that could go on.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Enough for tens of thousands of metadata records, and a snapshot in between.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
const FILE_NAME: &str = "reserved-space";

/// See the module's documentation. All that open one directory share its room.
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Takes the room in `directory`; on a full disk that is left for later.
    pub(crate) fn open(directory: &Path) -> Self {
        let reserve = Self {
            path: directory.join(FILE_NAME),
        };
        reserve.take();
        reserve
    }

    /// Takes the room unless it is held.
    pub(crate) fn take(&self) {
        if let Err(error) = allocate(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "no room is kept for metadata");
            // Half a reserve keeps room from others for nothing.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Does `write`, and once more with the room given up when it found none.
    pub(crate) fn with_room<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.give_up()? => write(),
            result => result,
        }
    }

    fn give_up(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        tracing::error!(path = %self.path.display(), "the disk is full: metadata uses the room that was kept for it; make space");
        Ok(true)
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_up_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path());
        let path = dir.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().len(), RESERVE_BYTES);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let written = reserve.with_room(|| if path.exists() { Err(full()) } else { Ok(7) });
        assert_eq!(written.unwrap(), 7);
        let refused = reserve.with_room(|| Err::<(), _>(full()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
        reserve.take();
        assert!(path.exists());
    }
}
