//! What deletions and compactions that were under way left of segments.

use std::io;

use broker_core::Offset;

use super::Opener;
use crate::segment::{
    CLEANED_SUFFIX, DELETED_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, Segment, TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX, file_name, joins,
};

impl Opener<'_> {
    /// Base offsets in order. Removes files that are no part of the log: of deleted segments,
    /// temporary ones, and indexes whose segment is gone.
    pub(super) fn list_segments(&mut self) -> io::Result<Vec<Offset>> {
        let names: Vec<_> = self
            .fs
            .list(self.dir)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let base_of = |name: &str, suffix| -> Option<Offset> {
            let base = Offset(
                name.strip_suffix(suffix)?
                    .parse()
                    .ok()
                    .filter(|base| *base >= 0)?,
            );
            (file_name(base, suffix) == name).then_some(base)
        };
        let bases: Vec<_> = names
            .iter()
            .filter_map(|name| base_of(name, LOG_SUFFIX))
            .collect();
        for name in &names {
            let orphan = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX]
                .into_iter()
                .filter_map(|suffix| base_of(name, suffix))
                .any(|base| bases.binary_search(&base).is_err());
            if orphan || name.ends_with(DELETED_SUFFIX) || name.ends_with(".tmp") {
                match self.fs.remove(&self.dir.join(name)) {
                    // Whoever deleted the segment was still at it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            } else if name.ends_with(CLEANED_SUFFIX) {
                self.cleaned.push(name.clone());
            }
        }
        Ok(bases)
    }

    /// Completes a replacement that the process began, which had the records take their place first
    /// and the time index last, and removes what never took its place.
    pub(super) fn finish_compaction(&mut self, bases: &mut Vec<Offset>) -> io::Result<()> {
        let cleaned = std::mem::take(&mut self.cleaned);
        let named = |base, suffix| file_name(base, suffix) + CLEANED_SUFFIX;
        for base in bases.clone() {
            let is_left = |suffix| cleaned.contains(&named(base, suffix));
            if !is_left(TIME_INDEX_SUFFIX) || is_left(LOG_SUFFIX) {
                continue;
            }
            let rename = |suffix| {
                let from = self.dir.join(named(base, suffix));
                self.fs
                    .rename(&from, &self.dir.join(file_name(base, suffix)))
            };
            if is_left(INDEX_SUFFIX) {
                rename(INDEX_SUFFIX)?;
            }
            self.remove_replaced(base, bases)?;
            rename(TIME_INDEX_SUFFIX)?;
        }
        self.remove_cleaned(&cleaned)
    }

    /// Removes the files of segments that never became part of the log, that of the records last.
    fn remove_cleaned(&self, names: &[String]) -> io::Result<()> {
        for suffix in [TIME_INDEX_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX] {
            let ending = suffix.to_owned() + CLEANED_SUFFIX;
            for name in names.iter().filter(|name| name.ends_with(&ending)) {
                let path = self.dir.join(name);
                if self.fs.exists(&path)? {
                    self.fs.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes segments that compaction had put into the one at `base`: nothing else makes segments
    /// overlap.
    fn remove_replaced(&self, base: Offset, bases: &mut Vec<Offset>) -> io::Result<()> {
        let segment = Segment::open(&self.fs, self.dir, base, &self.config)?;
        let end = match segment.indexed_end()? {
            Some(end) => end,
            None => segment.walked_end()?,
        };
        let first = bases.partition_point(|other| *other <= base);
        let next = bases.partition_point(|other| *other < end).max(first);
        if bases.get(next).is_some_and(|next| joins(end, *next)) {
            for base in bases.drain(first..next) {
                self.remove_segment_files(base)?;
            }
        }
        Ok(())
    }

    /// Removes segments that were deleted when the log start offset was checkpointed. Nobody made sure
    /// of their contents.
    pub(super) fn remove_deleted(&mut self, bases: &mut Vec<Offset>) -> io::Result<()> {
        let deleted = bases
            .iter()
            .skip(1)
            .take_while(|next| **next <= self.options.log_start)
            .count();
        for base in bases.drain(..deleted) {
            self.remove_segment_files(base)?;
        }
        Ok(())
    }

    pub(super) fn remove_segments(&mut self, bases: &[Offset]) -> io::Result<()> {
        for &base in bases.iter().rev() {
            self.remove_segment_files(base)?;
            self.report.segments_removed += 1;
        }
        self.fs.sync_dir(self.dir)
    }

    fn remove_segment_files(&self, base: Offset) -> io::Result<()> {
        for suffix in [
            LOG_SUFFIX,
            INDEX_SUFFIX,
            TIME_INDEX_SUFFIX,
            TXN_INDEX_SUFFIX,
        ] {
            let path = self.dir.join(file_name(base, suffix));
            if self.fs.exists(&path)? {
                self.fs.remove(&path)?;
            }
        }
        Ok(())
    }
}
