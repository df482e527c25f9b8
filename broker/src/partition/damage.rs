//! Records that are not what was appended: noticed by whoever reads them, and not handed on.
//!
//! A replica whose log is damaged gives way to another one ([`super::replica_health`]) and is copied
//! anew ([`super::quarantine`]). The only copy there is goes on serving, and verifies every record
//! that it hands out.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;

use broker_core::{Offset, TopicPartition};
use broker_log::{LogSlice, MinOneBatch, SliceError};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Partition, State};

/// Replicas that are in service although their logs are damaged.
#[derive(Debug, Default)]
pub(super) struct DamagedReplicas {
    ids: Mutex<BTreeSet<TopicPartition>>,
    added: Notify,
}

impl DamagedReplicas {
    fn add(&self, id: TopicPartition) {
        self.ids.lock().insert(id);
        self.added.notify_one();
    }

    pub(super) fn remove(&self, id: TopicPartition) {
        self.ids.lock().remove(&id);
    }

    pub(super) fn ids(&self) -> BTreeSet<TopicPartition> {
        self.ids.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.ids.lock().len()
    }

    /// Waits for the next one.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}

impl Partition {
    /// Whether the log has records that are not what was appended.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.state.lock().damaged
    }

    /// Somebody got damaged records among the `bytes_max` bytes from `from` on: looks whether it is
    /// the log that is damaged, and takes note if so. Reads them with the partition locked, so that
    /// nothing is cut off meanwhile.
    pub fn suspect(&self, from: Offset, bytes_max: usize) -> bool {
        let mut state = self.state.lock();
        let (start, end) = (state.log.start_offset(), state.log.end_offset());
        if state.closed || from < start || from >= end {
            return false;
        }
        let read = state.log.read(from, end, bytes_max, MinOneBatch::Yes);
        match state.checked(self, read) {
            Ok(Some(slice)) => {
                if let Err(error) = slice.read_verified()
                    && is_damage(&error)
                {
                    state.note_damage(self, &error);
                }
            }
            Ok(None) => state.note_damage(self, &format_args!("offset {from} is missing")),
            // Noted, or a matter of the disk.
            Err(_) => {}
        }
        state.damaged
    }

    /// Reads records for a follower, which verifies them before it appends; where the log is known
    /// to be `damaged`, they are verified here and end before the damage.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn read_for_follower(&self, slice: &LogSlice, damaged: bool) -> Result<Bytes, SliceError> {
        if damaged {
            return Ok(slice.verified()?.read_to_bytes()?);
        }
        slice.read_to_bytes().map_err(|error| {
            self.suspect(slice.base_offset, slice.len);
            error.into()
        })
    }
}

impl State {
    /// Takes note when a read finds the log damaged.
    pub(super) fn checked<T>(
        &mut self,
        partition: &Partition,
        read: Result<T, broker_log::ReadError>,
    ) -> Result<T, broker_log::ReadError> {
        if let Err(error @ broker_log::ReadError::Corrupt { .. }) = &read {
            self.note_damage(partition, error);
        }
        read
    }

    pub(super) fn note_damage(&mut self, partition: &Partition, what: &dyn Display) {
        if self.damaged || self.closed {
            return;
        }
        tracing::error!(
            %partition, dir = %self.log.dir().display(), damage = %what,
            "the log is damaged: it is copied anew from another replica if there is one in sync or eligible; \
             until then no record is handed out unverified"
        );
        self.damaged = true;
        partition.shared.damaged.add(partition.id);
    }
}

/// Whether the bytes are wrong or missing; else the disk did not answer.
fn is_damage(error: &SliceError) -> bool {
    match error {
        SliceError::Damaged { .. } => true,
        SliceError::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}
