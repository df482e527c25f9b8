//! A copy of the log in another log directory takes the log's place.

use std::path::PathBuf;
use std::sync::Arc;

use super::Log;
use crate::epochs::EpochHistory;
use crate::error::StorageError;

impl Log {
    /// Copy: takes over the leader epochs of the original, which knows also of those without records.
    /// To be made durable with the next checkpoint handle.
    pub fn adopt_epochs(&mut self, original: &EpochHistory) {
        if self.epochs != *original {
            self.epochs.clone_from(original);
            self.epochs_version += 1;
        }
    }

    /// Copy: becomes the log in `dir`, instead of `original`, by a rename that is durable when this
    /// returns. The caller has seen to it that all that the original holds is durable here.
    ///
    /// What was to be synced or checkpointed of either of them is no news of this log any more.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] when nothing has happened. After any other error nobody knows which
    /// name the directory has.
    pub fn take_place_of(&mut self, original: &Self, dir: PathBuf) -> Result<(), StorageError> {
        debug_assert_eq!(
            (self.start_offset(), self.durable_end()),
            (original.start_offset(), original.end_offset())
        );
        self.check_writable()?;
        self.fs
            .rename(&self.dir, &dir)
            .map_err(|error| self.storage_error(error))?;
        if let Some(parent) = dir.parent() {
            self.fs
                .sync_dir(parent)
                .map_err(|error| self.fatal(error))?;
        }
        for segment in &mut self.segments {
            segment.set_dir(&dir);
        }
        self.epoch_file = Arc::new(self.epoch_file.in_dir(&dir));
        self.truncations = self.truncations.max(original.truncations) + 1;
        self.dir = dir;
        Ok(())
    }

    /// Makes the log read-only, as after a failure: another one may be taken for it at the next start.
    pub fn give_up(&self, error: &std::io::Error) {
        self.fail(error);
    }
}
