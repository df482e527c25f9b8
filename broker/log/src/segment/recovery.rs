//! Taking over a segment's files: after a truncation, a clean stop or a crash.

use std::io;

use broker_core::Offset;

use super::{BatchEnd, Segment, joins};
use crate::error::ReadError;
use crate::scan::{BatchWalk, WalkError};

/// Records that are read and written again at a time.
const REWRITE_BYTES_MAX: usize = 1 << 20;

impl Segment {
    /// Cuts everything from the batch on that holds or follows `offset`, and makes that durable
    /// together with what stays.
    pub(crate) fn truncate(&mut self, offset: Offset) -> io::Result<()> {
        let position = match self.find(offset) {
            Ok(found) => found.map_or(self.size, |(position, _)| position),
            Err(ReadError::Io(error)) => return Err(error),
            Err(corrupt) => return Err(io::Error::new(io::ErrorKind::InvalidData, corrupt)),
        };
        self.tail.clear();
        self.offsets.truncate(position)?;
        self.times.truncate(offset)?;
        self.aborted.truncate(offset)?;
        self.size = position;
        self.file.set_len(position)?;
        self.load_tail().map_err(into_io)?;
        self.sync()
    }

    /// Finds the largest timestamp: the time index covers what lies before the last entry of the
    /// offset index, the headers after that are read. They also say where the segment ends.
    pub(crate) fn load_tail(&mut self) -> Result<(), WalkError> {
        self.end = self.base;
        let indexed = self.offsets.last()?;
        self.newest = self.times.last()?;
        let position = indexed.map_or(0, |entry| entry.position);
        self.bytes_since_index = self.size - position;
        let file = self.file.clone();
        let mut walk = BatchWalk::lookup(&*file, position, self.size);
        while let Some((_, header)) = walk.next()? {
            self.note_time(&header);
            self.end = Offset(header.next_offset());
        }
        if self.size == 0 {
            self.first_timestamp = None;
        }
        Ok(())
    }

    /// Whether the index files have whole entries that point into the segment.
    pub(crate) fn indexes_plausible(&self) -> io::Result<bool> {
        Ok(self.offsets.entries().is_whole()?
            && self.times.entries().is_whole()?
            && self
                .offsets
                .last()?
                .is_none_or(|entry| entry.position < self.size))
    }

    /// As [`Self::indexes_plausible`]; a sealed segment has at least the entry that sealed it.
    pub(crate) fn sealed_indexes_plausible(&self) -> io::Result<bool> {
        Ok(self.indexes_plausible()? && (self.size == 0 || self.times.entries().len() > 0))
    }

    /// Where the last batch ends, by its header; `None` when what the last index entry leads to is not
    /// whole batches up to the end of the file.
    pub(crate) fn indexed_end(&self) -> io::Result<Option<Offset>> {
        let indexed = self.offsets.last()?.filter(|e| e.position < self.size);
        let mut walk = self.walk(indexed.map_or(0, |entry| entry.position));
        let mut end = self.base;
        loop {
            match walk.next() {
                Ok(Some((_, header))) => end = Offset(header.next_offset()),
                Ok(None) => return Ok(Some(end)),
                Err(WalkError::Io(error)) => return Err(error),
                Err(WalkError::Invalid { .. }) => return Ok(None),
            }
        }
    }

    /// As [`Self::indexed_end`], as far as there are whole batches from the start on.
    pub(crate) fn walked_end(&self) -> io::Result<Offset> {
        let mut walk = self.walk(0);
        let mut end = self.base;
        loop {
            match walk.next() {
                Ok(Some((_, header))) => end = Offset(header.next_offset()),
                Ok(None) | Err(WalkError::Invalid { .. }) => return Ok(end),
                Err(WalkError::Io(error)) => return Err(error),
            }
        }
    }

    /// Whether the last batch ends with the file, and the next segment follows it. Reads headers from
    /// the last index entry on; `false` also when the index misleads.
    pub(crate) fn reaches(&self, next: Offset) -> io::Result<bool> {
        Ok(self.indexed_end()?.is_some_and(|end| joins(end, next)))
    }

    /// Takes over a sealed segment as its indexes say.
    pub(crate) fn load_sealed(&mut self, next: Offset) -> io::Result<()> {
        self.newest = self.times.last()?;
        self.end = next;
        Ok(())
    }

    /// The end of the records below `recovery_point`, found by the index as far as it is to be
    /// trusted; index entries behind are dropped. The start when the index misleads.
    pub(crate) fn trust_up_to(&mut self, recovery_point: Offset) -> io::Result<BatchEnd> {
        let start = BatchEnd {
            position: 0,
            offset: self.base,
        };
        self.offsets.keep_rising_below(recovery_point)?;
        let indexed = self.offsets.last()?;
        let mut walk = self.walk(indexed.map_or(0, |entry| entry.position));
        let mut trusted = start;
        loop {
            match walk.next() {
                Ok(Some((position, header))) if header.last_offset() < recovery_point.0 => {
                    let misled = indexed.filter(|entry| entry.position == position);
                    if misled.is_some_and(|entry| entry.last_offset.0 != header.last_offset()) {
                        return Ok(start);
                    }
                    trusted.position = position + header.total_len() as u64;
                    trusted.offset = Offset(header.next_offset());
                }
                Err(WalkError::Io(error)) => return Err(error),
                Ok(_) | Err(WalkError::Invalid { .. }) => return Ok(trusted),
            }
        }
    }

    /// Makes fields and indexes anew: trusted before `from`, verified from there to `position_end`.
    pub(crate) fn rebuild(
        &mut self,
        from: BatchEnd,
        position_end: u64,
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        self.size = from.position;
        self.end = from.offset;
        self.offsets.keep_rising_below(from.offset)?;
        self.times.keep_rising_below(from.offset)?;
        if from.position == 0 {
            self.offsets.truncate(0)?;
            self.first_timestamp = None;
        }
        self.drop_unfounded_times()?;
        self.load_tail().map_err(into_io)?;
        self.end = from.offset;
        let file = self.file.clone();
        let mut walk = BatchWalk::scan(&*file, from.position, position_end);
        while let Some((position, header)) = walk.next().map_err(into_io)? {
            self.note(&header, position, index_interval_bytes);
        }
        Ok(())
    }

    /// Writes the records from `position` on once more, as they are.
    pub(crate) fn rewrite(&self, mut position: u64) -> io::Result<()> {
        self.file.set_len(self.size)?;
        let mut bytes = vec![0; REWRITE_BYTES_MAX];
        while position < self.size {
            let len = REWRITE_BYTES_MAX.min((self.size - position) as usize);
            self.file.read_exact_at(&mut bytes[..len], position)?;
            self.file.write_at(&bytes[..len], position)?;
            position += len as u64;
        }
        Ok(())
    }

    /// Drops entries at the end of the time index that do not agree with their batch: an entry
    /// written after the recovery point may be of a batch below it.
    fn drop_unfounded_times(&mut self) -> io::Result<()> {
        while let Some(entry) = self.times.last()? {
            let founded = match self.find(entry.offset) {
                Ok(Some((_, header))) => {
                    header.last_offset() == entry.offset.0
                        && header.max_timestamp == entry.timestamp.0
                }
                Ok(None) | Err(ReadError::Corrupt { .. } | ReadError::OutOfRange { .. }) => false,
                Err(ReadError::Io(error)) => return Err(error),
            };
            if founded {
                break;
            }
            let len = self.times.entries().len();
            self.times.entries_mut().truncate(len - 1)?;
        }
        Ok(())
    }
}

fn into_io(error: WalkError) -> io::Error {
    match error {
        WalkError::Io(error) => error,
        WalkError::Invalid { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
