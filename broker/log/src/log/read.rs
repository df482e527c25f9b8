//! Reading: an answer names a region of one file, which the caller sends or reads without the lock.

use broker_core::{Offset, Timestamp};

use super::Log;
use crate::error::ReadError;
use crate::segment::Segment;
use crate::slice::LogSlice;

/// Whether a read may exceed its limit so that a reader gets past a large batch (KIP-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinOneBatch {
    /// The first batch is returned even when it is larger than the limit.
    Yes,
    /// Nothing is returned when the first batch is larger than the limit.
    No,
}

impl Log {
    /// Whole batches of one segment, from the one that holds `from`, up to `bytes_max` bytes.
    ///
    /// No record at or above `upto` is returned: the high watermark, the last stable offset or the
    /// log end offset. `None` when there is nothing to return. The first batch may begin before
    /// `from`; clients skip what they did not ask for.
    pub fn read(
        &self,
        from: Offset,
        upto: Offset,
        bytes_max: usize,
        min_one_batch: MinOneBatch,
    ) -> Result<Option<LogSlice>, ReadError> {
        let (start, end) = (self.start, self.end_offset());
        if from < start || from > end {
            return Err(ReadError::OutOfRange {
                offset: from,
                start,
                end,
            });
        }
        let upto = upto.min(end);
        for segment in &self.segments[self.segment_index(from)..] {
            if segment.base >= upto {
                break;
            }
            let Some(first) = segment.locate(from)? else {
                continue;
            };
            if first.end > upto {
                break;
            }
            let position = first.position;
            let position_max = position.saturating_add(bytes_max as u64);
            let slice_end = match (first.position_end <= position_max, min_one_batch) {
                (true, _) => segment.end_of_batches(position, position_max, upto)?,
                (false, MinOneBatch::Yes) => first.position_end,
                (false, MinOneBatch::No) => break,
            };
            let more_follow = if segment.end <= upto {
                slice_end < segment.size || segment.end < upto
            } else {
                slice_end < segment.end_of_batches(position, u64::MAX, upto)?
            };
            return Ok(Some(LogSlice {
                more_follow,
                ..slice(segment, position, slice_end, first.base)
            }));
        }
        Ok(None)
    }

    /// The first batch with a record below `upto` whose timestamp is `timestamp` or later.
    ///
    /// [`LogSlice::first_at_or_after`] finds the record in it, without the lock.
    pub fn batch_for_timestamp(
        &self,
        timestamp: Timestamp,
        upto: Offset,
    ) -> Result<Option<LogSlice>, ReadError> {
        for segment in &self.segments {
            if segment.end <= self.start
                || segment
                    .newest
                    .is_none_or(|newest| newest.timestamp < timestamp)
            {
                continue;
            }
            if let Some((position, header)) = segment.find_timestamp(timestamp, self.start)? {
                let end = position + header.total_len() as u64;
                let below = header.base_offset < upto.0;
                return Ok(below.then(|| slice(segment, position, end, Offset(header.base_offset))));
            }
        }
        Ok(None)
    }

    /// The batch that holds the largest timestamp (ListOffsets -3, KIP-734), `None` when there are
    /// no records or it lies at or above `upto`.
    pub fn batch_of_max_timestamp(&self, upto: Offset) -> Result<Option<LogSlice>, ReadError> {
        let mut newest: Option<&Segment> = None;
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.end > self.start)
        {
            let timestamp_of = |segment: &Segment| segment.newest.map(|entry| entry.timestamp);
            if timestamp_of(segment) > newest.and_then(timestamp_of) {
                newest = Some(segment);
            }
        }
        let Some((segment, entry)) = newest.and_then(|s| s.newest.map(|entry| (s, entry))) else {
            return Ok(None);
        };
        let found = segment
            .find(entry.offset)?
            .filter(|(_, header)| header.base_offset < upto.0);
        Ok(found.map(|(position, header)| {
            slice(
                segment,
                position,
                position + header.total_len() as u64,
                Offset(header.base_offset),
            )
        }))
    }

    /// Index of the segment that holds `offset`, the first when all begin after it.
    pub(super) fn segment_index(&self, offset: Offset) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1)
    }
}

fn slice(segment: &Segment, position: u64, end: u64, base_offset: Offset) -> LogSlice {
    LogSlice {
        more_follow: false,
        file: segment.file.clone(),
        position,
        len: (end - position) as usize,
        base_offset,
    }
}
