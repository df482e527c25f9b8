//! Leader epochs: the file is believed as far as the batches agree with it.

use std::io;

use broker_core::{LeaderEpoch, Offset};
use broker_wire::record::BatchHeader;

use super::{Opener, Stop};
use crate::epochs::{EpochEntry, EpochHistory};
use crate::error::ReadError;
use crate::scan::WalkError;

impl Opener<'_> {
    /// Reads the epochs that lie below the recovery point; the scan finds the rest.
    pub(super) fn load_epochs(&mut self) -> io::Result<()> {
        match self.epoch_file.load() {
            Ok(epochs) => self.epochs = epochs,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(dir = %self.dir.display(), %error, "rebuilding leader epochs");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Compares the epochs with the batches that they begin with, and reads from headers what is
    /// missing: the file may be damaged or lost, or be younger than the checkpoint of the log start.
    pub(super) fn check_epochs(&mut self) -> Result<(), Stop> {
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            return Ok(());
        };
        let (start, end) = (self.options.log_start.max(first.base), last.end);
        let agree = |entry: &EpochEntry| match self.batch_at(entry.start_offset) {
            Ok(Some(header)) if header.base_offset <= entry.start_offset.0 => {
                header.partition_leader_epoch == entry.epoch.0
            }
            // Compaction removed what was there.
            Ok(Some(header)) => header.partition_leader_epoch >= entry.epoch.0,
            Ok(None) | Err(_) => true,
        };
        let held = |entry: &&EpochEntry| start <= entry.start_offset && entry.start_offset < end;
        if !self.epochs.entries().iter().filter(held).all(agree) {
            tracing::warn!(dir = %self.dir.display(), "leader epochs contradict the log, rebuilding");
            self.epochs = EpochHistory::default();
        }
        let known_from = self
            .epochs
            .entries()
            .first()
            .map_or(end, |e| e.start_offset);
        if start < known_from {
            self.read_epochs(start, known_from)?;
        }
        Ok(())
    }

    fn batch_at(&self, offset: Offset) -> Result<Option<BatchHeader>, ReadError> {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset);
        let Some(segment) = after.checked_sub(1).map(|i| &self.segments[i]) else {
            return Ok(None);
        };
        Ok(segment.find(offset)?.map(|(_, header)| header))
    }

    /// Reads the epochs of `from` to `upto` from batch headers; those from `upto` on stay.
    fn read_epochs(&mut self, from: Offset, upto: Offset) -> Result<(), Stop> {
        let mut epochs = EpochHistory::default();
        for segment in self
            .segments
            .iter()
            .filter(|s| from < s.end && s.base < upto)
        {
            let position = match segment.find(from) {
                Ok(found) => found.map_or(segment.size, |(position, _)| position),
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(_) => 0,
            };
            let mut walk = segment.walk(position);
            loop {
                match walk.next() {
                    Ok(Some((_, header))) if header.base_offset < upto.0 => {
                        let epoch = LeaderEpoch(header.partition_leader_epoch);
                        if epoch > LeaderEpoch::NONE {
                            // A falling epoch is no epoch of this log; the first one stands.
                            let _ = epochs.assign(epoch, Offset(header.base_offset).max(from));
                        }
                    }
                    Ok(_) => break,
                    Err(WalkError::Io(error)) => return Err(error.into()),
                    Err(WalkError::Invalid { position, .. }) => {
                        tracing::warn!(dir = %self.dir.display(), position, "invalid batch");
                        break;
                    }
                }
            }
        }
        for entry in self.epochs.entries() {
            let _ = epochs.assign(entry.epoch, entry.start_offset);
        }
        self.epochs_changed |= epochs != self.epochs;
        self.epochs = epochs;
        Ok(())
    }
}
