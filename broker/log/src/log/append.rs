//! Appending: offsets and epoch are patched in place, the bytes are written once.

use broker_core::{LeaderEpoch, Offset, Timestamp};
use broker_wire::record::{
    BatchHeader, batches, patch_base_offset, patch_leader_epoch, verify_crc,
};

use super::Log;
use crate::config::SEGMENT_BYTES_MAX;
use crate::error::{AppendError, StorageError};
use crate::segment::{RELATIVE_OFFSET_MAX, Segment};

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Log end offset after the append.
    pub end_offset: Offset,
    /// Largest timestamp of the records.
    pub max_timestamp: Timestamp,
}

impl Log {
    /// Appends one or more whole batches as the partition's leader: gives them the next offsets
    /// and `epoch`, in the caller's buffer, and writes that buffer.
    ///
    /// The caller has verified the checksums. `now` starts the clock of `flush.ms`. The write goes
    /// to the page cache; see [`Log::sync_handle`] for durability.
    pub fn append_as_leader(
        &mut self,
        records: &mut [u8],
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        self.check_leader_batches(records)?;
        self.check_epoch(epoch)?;
        self.number_batches(records, epoch);
        self.write(records, now)
    }

    /// Appends whole batches as the leader numbered them. Offsets must not lie before the end of
    /// the log and must rise; checksums are verified here. See [`Log::append_as_leader`] for `now`.
    pub fn append_as_follower(
        &mut self,
        records: &[u8],
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable()?;
        self.check_follower_batches(records)?;
        self.write(records, now)
    }

    fn check_leader_batches(&self, records: &[u8]) -> Result<(), AppendError> {
        let segment_bytes = self.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        for batch in batches(records) {
            let (header, bytes) = batch?;
            let BatchHeader {
                record_count,
                last_offset_delta,
                ..
            } = header;
            if record_count != last_offset_delta + 1 {
                return Err(AppendError::NotDense {
                    record_count,
                    last_offset_delta,
                });
            }
            if bytes.len() as u64 > segment_bytes {
                return Err(AppendError::TooLarge {
                    len: bytes.len(),
                    segment_bytes,
                });
            }
        }
        if records.is_empty() {
            Err(AppendError::Empty)
        } else {
            Ok(())
        }
    }

    fn check_follower_batches(&self, records: &[u8]) -> Result<(), AppendError> {
        let mut end = self.end_offset();
        let mut latest = self.epochs.latest_before(end);
        for batch in batches(records) {
            let (header, bytes) = batch?;
            verify_crc(bytes)?;
            let found = Offset(header.base_offset);
            if found < end {
                return Err(AppendError::OutOfOrder { end, found });
            }
            let epoch = LeaderEpoch(header.partition_leader_epoch);
            if latest.is_some_and(|latest| epoch < latest) {
                return Err(AppendError::EpochRegressed {
                    epoch,
                    latest: latest.unwrap_or(epoch),
                });
            }
            latest = Some(epoch);
            end = Offset(header.next_offset());
        }
        if records.is_empty() {
            Err(AppendError::Empty)
        } else {
            Ok(())
        }
    }

    fn check_epoch(&self, epoch: LeaderEpoch) -> Result<(), AppendError> {
        match self.epochs.latest_before(self.end_offset()) {
            Some(latest) if epoch < latest => Err(AppendError::EpochRegressed { epoch, latest }),
            _ => Ok(()),
        }
    }

    fn number_batches(&self, records: &mut [u8], epoch: LeaderEpoch) {
        let mut next = self.end_offset();
        let mut rest = records;
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).expect("the batches were checked");
            patch_base_offset(rest, next.0);
            patch_leader_epoch(rest, epoch.0);
            next = next.plus(i64::from(header.last_offset_delta) + 1);
            rest = &mut rest[header.total_len()..];
        }
    }

    /// Writes checked batches, rolling where a segment ends. When the disk is full the log stays as
    /// it was; after any other failure it is read-only and may end between the batches.
    fn write(&mut self, records: &[u8], now: Timestamp) -> Result<AppendInfo, AppendError> {
        let end_before = self.end_offset();
        let segments_before = self.segments.len();
        let size_before = self.active().size;
        match self.write_runs(records) {
            Ok(info) => {
                self.unsynced_since.get_or_insert(now);
                Ok(info)
            }
            Err(error) => {
                let partly =
                    self.segments.len() != segments_before || self.active().size != size_before;
                if partly && !self.is_failed() {
                    self.undo_append(end_before)?;
                }
                Err(error.into())
            }
        }
    }

    /// Writes runs of batches that go to the same segment, one write for each.
    fn write_runs(&mut self, records: &[u8]) -> Result<AppendInfo, StorageError> {
        let mut limits = self.roll_limits();
        let mut run = 0..0;
        let mut first_offset = None;
        let mut max_timestamp = i64::MIN;
        for (header, bytes) in batches(records).flatten() {
            first_offset.get_or_insert(Offset(header.base_offset));
            max_timestamp = max_timestamp.max(header.max_timestamp);
            let pending = (run.end - run.start) as u64;
            if self.active().must_roll(pending, &header, &limits) {
                self.write_run(&records[run.clone()])?;
                self.roll(self.base_of_next_segment(&header))?;
                limits = self.roll_limits();
                run.start = run.end;
            }
            run.end += bytes.len();
        }
        self.write_run(&records[run])?;
        let end_offset = self.end_offset();
        Ok(AppendInfo {
            first_offset: first_offset.expect("an empty append was refused"),
            last_offset: end_offset.plus(-1),
            end_offset,
            max_timestamp: Timestamp(max_timestamp),
        })
    }

    /// The end of the log, so that recovery notices when the end of a segment was lost; across a
    /// gap that a segment cannot span, the next batch.
    fn base_of_next_segment(&self, next: &BatchHeader) -> Offset {
        match next.last_offset() - self.end_offset().0 {
            distance if distance > RELATIVE_OFFSET_MAX => Offset(next.base_offset),
            _ => self.end_offset(),
        }
    }

    fn write_run(&mut self, run: &[u8]) -> Result<(), StorageError> {
        if run.is_empty() {
            return Ok(());
        }
        let index_interval_bytes = self.config.index_interval_bytes;
        if let Err(error) = self.active_mut().append(run, index_interval_bytes) {
            return Err(self.storage_error(error));
        }
        for (header, _) in batches(run).flatten() {
            let epoch = LeaderEpoch(header.partition_leader_epoch);
            let changed = epoch > LeaderEpoch::NONE
                && self
                    .epochs
                    .assign(epoch, Offset(header.base_offset))
                    .expect("epochs were checked before the write");
            self.epochs_version += u64::from(changed);
        }
        Ok(())
    }

    /// Seals the active segment and starts another at `base`.
    pub(super) fn roll(&mut self, base: Offset) -> Result<(), StorageError> {
        let recovery_point = self.recovery_point;
        let active = self.active_mut();
        let sealed = match active.size {
            0 => Ok(()),
            _ => active.seal(),
        };
        // The entry just written would lie below the recovery point without being durable.
        let sync = sealed.is_ok() && active.size > 0 && recovery_point >= active.end;
        if sync {
            // Not even for lack of space: what a failed sync has dropped is gone.
            active.sync().map_err(|error| self.fatal(error))?;
        }
        let made = sealed.and_then(|()| Segment::create(&self.fs, &self.dir, base, &self.config));
        let next = made.map_err(|error| self.storage_error(error))?;
        self.segments.push(next);
        self.dir_version += 1;
        if let [.., empty, _] = &self.segments[..]
            && empty.size == 0
            && empty.base < base
        {
            let empty = self.segments.remove(self.segments.len() - 2);
            self.remove_files(&empty)
                .map_err(|error| self.storage_error(error))?;
        }
        Ok(())
    }
}
