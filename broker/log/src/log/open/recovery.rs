//! Segments taken as they are, or read from the recovery point on and cut behind the last valid batch.

use std::io;
use std::sync::atomic::Ordering;

use broker_core::{LeaderEpoch, Offset};
use broker_wire::record::BatchHeader;

use super::{Opener, Stop};
use crate::scan::WalkError;
use crate::segment::{BatchEnd, Segment, joins};

impl Opener<'_> {
    /// A segment that was durable as a whole: only its indexes are looked at.
    pub(super) fn load_sealed(&mut self, mut segment: Segment, next: Offset) -> Result<bool, Stop> {
        if segment.sealed_indexes_plausible()? && segment.reaches(next)? {
            segment.load_sealed(next)?;
            self.segments.push(segment);
            return Ok(true);
        }
        let start = BatchEnd {
            position: 0,
            offset: segment.base,
        };
        self.recover_from(segment, start, Some(next))
    }

    /// The active segment after a clean shutdown.
    pub(super) fn load_active(&mut self, mut segment: Segment) -> Result<bool, Stop> {
        if segment.indexes_plausible()? {
            match segment.load_tail() {
                Ok(()) => {
                    self.segments.push(segment);
                    return Ok(true);
                }
                Err(WalkError::Io(error)) => return Err(error.into()),
                Err(WalkError::Invalid { .. }) => {}
            }
        }
        let start = BatchEnd {
            position: 0,
            offset: segment.base,
        };
        self.recover_from(segment, start, None)
    }

    /// A segment that reaches past the recovery point: scanned from there.
    pub(super) fn recover(
        &mut self,
        mut segment: Segment,
        next: Option<Offset>,
    ) -> Result<bool, Stop> {
        self.report.segments_scanned += 1;
        let trusted = segment.trust_up_to(self.recovery_point)?;
        self.recover_from(segment, trusted, next)
    }

    /// Scans from the end of a batch on and rebuilds what the indexes hold from there. Returns
    /// whether the next segment may follow.
    fn recover_from(
        &mut self,
        mut segment: Segment,
        from: BatchEnd,
        next: Option<Offset>,
    ) -> Result<bool, Stop> {
        let file_len = segment.size;
        let valid = self.find_valid_end(&segment, from)?;
        // A segment begins where the one before ended.
        let cut = valid.position < file_len;
        let durable = |next| self.options.clean_shutdown || next <= self.recovery_point;
        let whole = !cut && next.is_none_or(|next| joins(valid.offset, next));
        let required = match next {
            Some(_) if whole => segment.base,
            Some(next) if durable(next) => next,
            Some(next) => next.min(self.recovery_point),
            // Nothing is torn after a clean shutdown, whatever is known of the recovery point.
            None if self.options.clean_shutdown && cut => valid.offset.plus(1),
            None => self.recovery_point,
        };
        if valid.offset < required && self.options.log_start < required {
            return Err(Stop::LostDurable {
                valid_end: valid.offset,
                durable_end: required,
            });
        }
        let sync = cut
            || self.limits.is_some()
            || self.options.clean_shutdown
            || next.is_some_and(durable);
        self.report.indexes_rebuilt += usize::from(from.position == 0 && file_len > 0);
        segment.rebuild(from, valid.position, self.config.index_interval_bytes)?;
        if cut {
            self.cut(&segment, file_len, valid)?;
        }
        if self.options.disk_failed {
            segment.rewrite(from.position)?;
        }
        if let Some(next) = next.filter(|_| whole) {
            segment.seal()?;
            segment.end = next;
        }
        if sync {
            segment.sync()?;
        }
        self.segments.push(segment);
        Ok(whole)
    }

    fn cut(&mut self, segment: &Segment, file_len: u64, valid: BatchEnd) -> io::Result<()> {
        let bytes = file_len - valid.position;
        tracing::warn!(
            dir = %self.dir.display(), segment = %segment.base, end = %valid.offset, bytes,
            "cut off an invalid tail"
        );
        self.report.bytes_truncated += bytes;
        segment.file.set_len(valid.position)
    }

    /// Reads batches as long as they are valid, taking note of the epochs past the recovery point.
    fn find_valid_end(&mut self, segment: &Segment, from: BatchEnd) -> Result<BatchEnd, Stop> {
        let mut valid = from;
        let mut walk = segment.scan(from.position);
        loop {
            match walk.next_verified() {
                Ok(Some((at, header))) if self.continues(&header, valid.offset) => {
                    let len = header.total_len() as u64;
                    valid.offset = Offset(header.next_offset());
                    valid.position = at + len;
                    self.report.bytes_scanned += len;
                    self.progress
                        .bytes_scanned
                        .fetch_add(len, Ordering::Relaxed);
                }
                Err(WalkError::Io(error)) => return Err(error.into()),
                Ok(_) | Err(WalkError::Invalid { .. }) => return Ok(valid),
            }
        }
    }

    /// Whether a batch may stand where the log ends at `end`.
    fn continues(&mut self, header: &BatchHeader, end: Offset) -> bool {
        let base = Offset(header.base_offset);
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        if base < end {
            return false;
        }
        let known = self.options.clean_shutdown || header.next_offset() <= self.recovery_point.0;
        if known || epoch <= LeaderEpoch::NONE {
            return true;
        }
        match self.epochs.assign(epoch, base) {
            Ok(changed) => {
                self.epochs_changed |= changed;
                true
            }
            Err(_) => false,
        }
    }
}
