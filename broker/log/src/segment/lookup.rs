//! Finding batches: the index leads near, headers are walked from there.

use broker_core::{Offset, Timestamp};
use broker_wire::record::BatchHeader;

use super::{BatchSpan, Segment};
use crate::error::ReadError;
use crate::index::OffsetEntry;
use crate::scan::{BatchWalk, WalkError};

impl Segment {
    /// Where the first batch stands that ends after `offset`.
    pub(crate) fn locate(&self, offset: Offset) -> Result<Option<BatchSpan>, ReadError> {
        if let Some(batch) = self.tail.find(offset) {
            return Ok(Some(batch));
        }
        let Some((position, header)) = self.find(offset)? else {
            return Ok(None);
        };
        if header.next_offset() > self.end.0 {
            return Err(self.damaged(position, &header));
        }
        Ok(Some(BatchSpan::new(position, &header)))
    }

    /// The first batch whose last offset is `offset` or above, and its position.
    pub(crate) fn find(&self, offset: Offset) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let hint = self.offsets.last_before(offset)?;
        if let Some(found) = self.find_from(hint, offset) {
            return found.map_err(|error| self.read_error(error));
        }
        // The index misled us; the log itself is the truth.
        self.walk_to(self.walk(0), offset)
            .map_err(|error| self.read_error(error))
    }

    /// As [`Self::find`], from an index entry; `None` if the batch there is not the entry's.
    fn find_from(
        &self,
        hint: Option<OffsetEntry>,
        offset: Offset,
    ) -> Option<Result<Option<(u64, BatchHeader)>, WalkError>> {
        let Some(entry) = hint else {
            return Some(self.walk_to(self.walk(0), offset));
        };
        let mut walk = self.walk(entry.position);
        match walk.next() {
            Ok(Some((_, header))) if header.last_offset() == entry.last_offset.0 => {
                Some(self.walk_to(walk, offset))
            }
            Err(WalkError::Io(error)) => Some(Err(error.into())),
            _ => None,
        }
    }

    fn walk_to(
        &self,
        mut walk: BatchWalk<'_>,
        offset: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, WalkError> {
        while let Some((position, header)) = walk.next()? {
            if header.last_offset() >= offset.0 {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// An offset at or behind the end of the batch that ends at `position`.
    pub(crate) fn offset_bound(&self, position: u64) -> Result<Offset, ReadError> {
        if let Some(end) = self.tail.end_at(position) {
            return Ok(end);
        }
        let next = self.offsets.first_from(position)?;
        Ok(next.map_or(self.end, |entry| entry.last_offset.plus(1)))
    }

    /// End of the last whole batch from `start` on that ends at or below `position_max` and holds
    /// no record at or above `upto`; `start` when there is none.
    pub(crate) fn end_of_batches(
        &self,
        start: u64,
        position_max: u64,
        upto: Offset,
    ) -> Result<u64, ReadError> {
        if position_max >= self.size && upto >= self.end {
            return Ok(self.size);
        }
        if let Some(end) = self.tail.end_of_batches(start, position_max, upto) {
            return Ok(end);
        }
        let mut from = start;
        if let (Some(by_size), by_offset) = (
            self.offsets.last_at(position_max)?,
            self.offsets.last_before(upto)?,
        ) {
            let by_offset = by_offset.map_or(0, |entry| entry.position);
            from = from.max(by_size.position.min(by_offset));
        }
        self.walk_end(from, position_max, upto)
            .or_else(|_| self.walk_end(start, position_max, upto))
            .map_err(|error| self.read_error(error))
    }

    fn walk_end(&self, from: u64, position_max: u64, upto: Offset) -> Result<u64, WalkError> {
        let mut walk = self.walk(from);
        let mut end = from;
        while let Some((position, header)) = walk.next()? {
            let next = position + header.total_len() as u64;
            if next > position_max || header.next_offset() > upto.0 {
                break;
            }
            end = next;
        }
        Ok(end)
    }

    /// The first batch with a record as young as `timestamp` that reaches `from`, and its position.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let start = match self.times.last_at(timestamp)? {
            Some(entry) => self
                .find(entry.offset)?
                .map_or(self.size, |(position, _)| position),
            None => 0,
        };
        let mut walk = self.walk(start);
        while let Some((position, header)) = walk.next().map_err(|e| self.read_error(e))? {
            let reaches = header.max_timestamp >= timestamp.0 && header.last_offset() >= from.0;
            if reaches && header.record_count > 0 {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }
}
