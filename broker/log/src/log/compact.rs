//! Compaction as the log sees it: what a pass may read, and how its output takes its place.
//!
//! Only sealed segments below the recovery point are compacted. The new files are durable before they
//! take the place of old ones, the renaming of the records' file being the moment. The new time index is
//! renamed last: as long as it has its old name and the records have not, an open completes what
//! is left to do ([`super::open`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_core::{Offset, Timestamp};

use super::Log;
use crate::compaction::{
    ABORTED_MAX, Backlog, CleanedSegment, Compaction, Origin, SegmentSummary, Source,
};
use crate::error::StorageError;
use crate::fs::Fs;
use crate::segment::Segment;

/// Why a cleaned segment was not put in its place. Its files are removed and the log is as it was,
/// unless the storage failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// What it replaces is not in the log any more: it was truncated, or retention took it.
    #[error("the log changed while it was compacted")]
    Superseded,
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Segments that compaction replaced; their files may still be there.
#[must_use = "the files take up space until `finish`"]
pub struct Replaced {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    failed: Arc<AtomicBool>,
    paths: Vec<PathBuf>,
}

impl Replaced {
    /// Makes the replacement durable, then removes the files. To be called without the log's lock, and
    /// before the next segment is replaced.
    ///
    /// # Errors
    /// A failure of the sync makes the log read-only.
    pub fn finish(self) -> Result<(), StorageError> {
        if let Err(error) = self.fs.sync_dir(&self.dir) {
            self.failed.store(true, Ordering::Release);
            tracing::error!(dir = %self.dir.display(), %error, "sync failed, log is read-only now");
            return Err(StorageError::Io(error));
        }
        for path in &self.paths {
            self.fs.remove(path).map_err(StorageError::from_io)?;
        }
        Ok(())
    }
}

impl Log {
    /// How far the log can be compacted now; `None` unless it is to be. `upto` is what no change is to
    /// be expected below: the high watermark, or the first offset of an open transaction.
    pub fn compaction_backlog(&self, now: Timestamp, upto: Offset) -> Option<Backlog> {
        let config = self.config.compaction?;
        let upto = upto.min(self.recovery_point);
        let dirty_from = self.compacted_upto.max(self.start);
        let sealed: Vec<_> = self.sealed().map(summary).collect();
        Some(Backlog::of(&sealed, dirty_from, upto, &config, now))
    }

    /// Begins a pass, if the log is due.
    pub fn begin_compaction(&self, now: Timestamp, upto: Offset) -> Option<Compaction> {
        let config = self.config.compaction?;
        let backlog = self.compaction_backlog(now, upto)?;
        if !backlog.is_due(&config) || self.is_failed() {
            return None;
        }
        let sources = self
            .sealed()
            .take_while(|segment| segment.end <= backlog.upto)
            .map(|segment| Source {
                summary: summary(segment),
                file: segment.file.clone(),
            })
            .collect();
        let mut pass = Compaction::new(
            self.origin(),
            self.fs.clone(),
            (self.config.clone(), config),
            now,
            &backlog,
            sources,
        );
        pass.skip_aborted(self.first_aborted(backlog.dirty_from, backlog.upto, ABORTED_MAX + 1));
        Some(pass)
    }

    /// Puts a cleaned segment in the place of those that it was made from.
    ///
    /// # Errors
    /// [`ReplaceError`].
    pub fn replace(&mut self, cleaned: CleanedSegment) -> Result<Replaced, ReplaceError> {
        let Some(at) = self.find_replaced(&cleaned) else {
            // Those that stay are removed when the log is opened next.
            let _ = cleaned.segment.discard(&*self.fs);
            return Err(ReplaceError::Superseded);
        };
        self.check_writable()?;
        if let Err(error) = self.gather_aborted(at, cleaned.replaces.len()) {
            let _ = cleaned.segment.discard(&*self.fs);
            return Err(error.into());
        }
        let CleanedSegment {
            mut segment,
            replaces,
            ..
        } = cleaned;
        std::mem::swap(&mut segment.aborted, &mut self.segments[at].aborted);
        segment
            .take_place(&*self.fs, &self.dir)
            .map_err(|error| self.fatal(error))?;
        segment.release_index_files();
        let old = self
            .segments
            .splice(at..at + replaces.len(), [segment])
            .skip(1);
        let old: Vec<_> = old.collect();
        self.dir_version += 1;
        let mut replaced = Replaced {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            failed: self.failed.clone(),
            paths: Vec::new(),
        };
        for segment in &old {
            // One that stayed would come back when the log is cut before it.
            let renamed = self.rename_deleted(segment);
            replaced
                .paths
                .extend(renamed.map_err(|error| self.fatal(error))?);
        }
        self.segments[at]
            .finish_place(&*self.fs, &self.dir)
            .map_err(|error| self.fatal(error))?;
        Ok(replaced)
    }

    /// Takes note that all groups of a pass are in their places.
    pub fn compacted(&mut self, pass: &Compaction) {
        if pass.origin == self.origin() {
            self.compacted_upto = self.compacted_upto.max(pass.compacted_upto());
        }
    }

    /// Records below have no earlier one with the same key. To be checkpointed, and brought back by
    /// [`Log::resume_compaction`].
    pub fn compacted_upto(&self) -> Offset {
        self.compacted_upto
    }

    /// Goes on where a checkpoint says, after the log was opened.
    pub fn resume_compaction(&mut self, compacted_upto: Offset) {
        let limit = self
            .limits
            .map_or(compacted_upto, |limits| limits.recovery_point);
        self.compacted_upto = compacted_upto.min(limit).min(self.end_offset());
    }

    fn sealed(&self) -> impl Iterator<Item = &Segment> {
        self.segments[..self.segments.len() - 1].iter()
    }

    fn origin(&self) -> Origin {
        Origin {
            dir: self.dir.clone(),
            truncations: self.truncations,
        }
    }

    /// Where the segments are that are to be replaced, if all are still there as they were.
    fn find_replaced(&self, cleaned: &CleanedSegment) -> Option<usize> {
        let (first, _) = cleaned.replaces.first()?;
        let at = self.segments.iter().position(|s| s.base == *first)?;
        let here = self.segments[at..].iter().map(|s| (s.base, s.size));
        let unchanged = here
            .take(cleaned.replaces.len())
            .eq(cleaned.replaces.iter().copied());
        (unchanged && cleaned.origin == self.origin()).then_some(at)
    }
}

fn summary(segment: &Segment) -> SegmentSummary {
    let (offsets, times) = (segment.offsets.entries(), segment.times.entries());
    SegmentSummary {
        base: segment.base,
        end: segment.end,
        size: segment.size,
        index_size: offsets.size().max(times.size()),
        first_timestamp: segment.first_timestamp(),
        newest: segment.newest.map(|entry| entry.timestamp),
    }
}
