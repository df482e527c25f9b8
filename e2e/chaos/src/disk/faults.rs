//! How a disk misbehaves.

use std::thread::sleep;
use std::time::Duration;

use fuser::Errno;

/// How a disk misbehaves at a moment; not at all by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Every write takes so much longer
    pub(crate) write_delay: Duration,
    /// Every fsync takes so much longer
    pub(crate) sync_delay: Duration,
    /// Writes fail with EIO
    pub(crate) fail_writes: bool,
    /// fsync fails with EIO
    pub(crate) fail_syncs: bool,
    /// Nothing can grow: ENOSPC
    pub(crate) full: bool,
}

impl Faults {
    /// What a write that lets a file grow, or not, meets.
    ///
    /// # Errors
    /// The error that the writer gets.
    pub(super) fn on_write(self, grows: bool) -> Result<(), Errno> {
        sleep(self.write_delay);
        if self.fail_writes {
            return Err(Errno::EIO);
        }
        self.on_create(grows)
    }

    /// What a new file or directory meets.
    ///
    /// # Errors
    /// The error that the creator gets.
    pub(super) fn on_create(self, grows: bool) -> Result<(), Errno> {
        if self.full && grows {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// What an fsync meets.
    ///
    /// # Errors
    /// The error that the caller gets.
    pub(super) fn on_sync(self) -> Result<(), Errno> {
        sleep(self.sync_delay);
        if self.fail_syncs {
            return Err(Errno::EIO);
        }
        Ok(())
    }
}
