//! Reading sealed segments again, for what rots while nobody reads it. Nothing here holds the log's
//! lock while it reads: a finding counts if the segment is still the log's when it is brought back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::{LeaderEpoch, Offset};
use broker_wire::record::BatchError;

use super::Log;
use crate::checkpoint::replace;
use crate::epochs::EpochHistory;
use crate::fs::{Fs, FsFile};
use crate::index::{OffsetIndex, TimeIndex};
use crate::index_check::IndexCheck;
use crate::scan::{BatchWalk, WalkError};
use crate::segment::{RELATIVE_OFFSET_MAX, joins};

/// A sealed, durable segment that is read again, a few batches at a time.
pub struct SegmentScrub {
    fs: Arc<dyn Fs>,
    file: Arc<dyn FsFile>,
    base: Offset,
    end: Offset,
    size: u64,
    index_paths: [PathBuf; 2],
    /// What was read and found right ends here.
    position: u64,
    offset: Offset,
    index_interval_bytes: u64,
    /// Checksums leave a batch's epoch out.
    epochs: EpochHistory,
    /// `None` before the first step.
    indexes: Option<IndexCheck>,
}

/// What there is to do after some batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// Read on.
    More,
    /// The segment is read.
    Done(IndexVerdict),
}

/// Whether the indexes of a segment fit its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexVerdict {
    Sound,
    /// One is damaged or missing: see [`SegmentScrub::write_indexes`].
    Damaged,
}

/// What was found in a segment.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The records are not those that were appended.
    #[error("segment {segment} is damaged at position {position}: {source}")]
    Damaged {
        segment: Offset,
        position: u64,
        source: BatchError,
    },
    /// The file could not be read.
    #[error("cannot read segment {segment}: {source}")]
    Io {
        segment: Offset,
        #[source]
        source: io::Error,
    },
}

/// New indexes of a segment, beside the old ones.
#[must_use = "the old indexes stay until `Log::replace_indexes`"]
pub struct NewIndexes(());

/// Where the segments of a log are, to look for them without a lock on it.
pub struct SegmentFiles {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    paths: Vec<PathBuf>,
}

impl SegmentFiles {
    /// One that is gone from the directory: it is read on until the log is closed, and lost then,
    /// unless the log has removed it meanwhile.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn first_missing(self) -> io::Result<Option<PathBuf>> {
        let names = self.fs.list(&self.dir)?;
        let is_there = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            names.iter().any(|entry| Some(&*entry.name) == name)
        };
        Ok(self.paths.into_iter().find(|path| !is_there(path)))
    }
}

impl SegmentScrub {
    /// Base offset of the segment.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Where the next one begins.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Bytes that were read and found right.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Verifies batches of about `bytes_max` bytes, and lets go of their pages. After an error the
    /// same batches may be tried again.
    ///
    /// # Errors
    /// [`ScrubError`].
    pub fn step(&mut self, bytes_max: u64) -> Result<ScrubStep, ScrubError> {
        let from = self.position;
        let indexes = match &mut self.indexes {
            Some(indexes) => indexes,
            None => {
                let [offsets, times] = &self.index_paths;
                let paths = [offsets.as_path(), times.as_path()];
                let begun =
                    IndexCheck::begin(&*self.fs, self.base, paths, self.index_interval_bytes);
                let begun = begun.map_err(|source| ScrubError::Io {
                    segment: self.base,
                    source,
                })?;
                self.indexes.insert(begun)
            }
        };
        let file = self.file.clone();
        let mut walk = BatchWalk::scan(&*file, from, self.size);
        let outcome = loop {
            if self.position - from >= bytes_max {
                break Ok(ScrubStep::More);
            }
            match walk.next_verified() {
                Ok(Some((position, header))) => {
                    let reaches = header.next_offset() - self.base.0;
                    if header.base_offset < self.offset.0 || reaches - 1 > RELATIVE_OFFSET_MAX {
                        break Err(self.damaged(position, header.base_offset));
                    }
                    let epoch = LeaderEpoch(header.partition_leader_epoch);
                    let expected = self.epochs.epoch_of(Offset(header.base_offset));
                    if expected.is_some_and(|expected| expected != epoch) {
                        break Err(self.other_epoch(position, epoch));
                    }
                    indexes.note(&header, position);
                    self.position = position + header.total_len() as u64;
                    self.offset = Offset(header.next_offset());
                }
                Ok(None) if joins(self.offset, self.end) => {
                    break Ok(ScrubStep::Done(indexes.verdict()));
                }
                Ok(None) => break Err(self.damaged(self.position, self.end.0)),
                Err(error) => break Err(self.error(error)),
            }
        };
        self.file.release_cached(from, self.position - from);
        outcome
    }

    /// Writes indexes made of the records that were read, when all were. Blocks.
    ///
    /// # Errors
    /// When the disk refuses; the old ones stay.
    pub fn write_indexes(&self) -> io::Result<NewIndexes> {
        let rebuilt = self.indexes.iter().flat_map(IndexCheck::rebuilt);
        for (path, content) in self.index_paths.iter().zip(rebuilt) {
            replace(&*self.fs, &renewed(path), content)?;
        }
        Ok(NewIndexes(()))
    }

    /// Offsets that do not fit, as if a batch began at `offset`.
    fn damaged(&self, position: u64, offset: i64) -> ScrubError {
        ScrubError::Damaged {
            segment: self.base,
            position,
            source: BatchError::InvalidField {
                field: "base_offset",
                value: offset,
            },
        }
    }

    fn other_epoch(&self, position: u64, epoch: LeaderEpoch) -> ScrubError {
        ScrubError::Damaged {
            segment: self.base,
            position,
            source: BatchError::InvalidField {
                field: "partition_leader_epoch",
                value: epoch.0.into(),
            },
        }
    }

    fn error(&self, error: WalkError) -> ScrubError {
        let segment = self.base;
        match error {
            WalkError::Invalid { position, source } => ScrubError::Damaged {
                segment,
                position,
                source,
            },
            WalkError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.damaged(self.position, self.end.0)
            }
            WalkError::Io(source) => ScrubError::Io { segment, source },
        }
    }
}

impl Log {
    /// The first sealed, durable segment that begins at `from` or later. Reads nothing yet.
    pub fn scrub_from(&self, from: Offset) -> Option<SegmentScrub> {
        let sealed = &self.segments[..self.segments.len() - 1];
        let mut durable = sealed.iter().filter(|s| s.end <= self.recovery_point);
        let segment = durable.find(|segment| segment.base >= from)?;
        let [_, offsets, times] = segment.paths();
        Some(SegmentScrub {
            fs: self.fs.clone(),
            file: segment.file.clone(),
            base: segment.base,
            end: segment.end,
            size: segment.size,
            index_interval_bytes: self.config.index_interval_bytes,
            epochs: self.epochs.clone(),
            indexes: None,
            index_paths: [offsets.to_owned(), times.to_owned()],
            position: 0,
            offset: segment.base,
        })
    }

    /// Whether what `scrub` has read is still a segment of the log, as it was.
    pub fn holds(&self, scrub: &SegmentScrub) -> bool {
        self.position_of(scrub).is_some()
    }

    /// Takes over new indexes. False when the segment is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn replace_indexes(&mut self, scrub: &SegmentScrub, _: NewIndexes) -> io::Result<bool> {
        let Some(at) = self.position_of(scrub) else {
            return Ok(false);
        };
        let [offsets, times] = &scrub.index_paths;
        for path in [offsets, times] {
            self.fs.rename(&renewed(path), path)?;
        }
        self.dir_version += 1;
        let bytes_max = self.config.segment_index_bytes;
        let mode = crate::fs::OpenMode::Existing;
        let (base, fs) = (scrub.base, &self.fs);
        let offsets = OffsetIndex::open(fs, offsets.clone(), base, mode, bytes_max)?;
        let times = TimeIndex::open(fs, times.clone(), base, mode, bytes_max)?;
        let segment = &mut self.segments[at];
        (segment.offsets, segment.times) = (offsets, times);
        segment.offsets.entries_mut().release_file();
        segment.times.entries_mut().release_file();
        Ok(true)
    }

    /// The segments that the log has now.
    pub fn segment_files(&self) -> SegmentFiles {
        let paths = self.segments.iter().map(|segment| segment.paths()[0]);
        SegmentFiles {
            fs: self.fs.clone(),
            dir: self.dir.clone(),
            paths: paths.map(PathBuf::from).collect(),
        }
    }

    /// Whether the file is a segment of the log.
    pub fn holds_file(&self, path: &Path) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.paths()[0] == path)
    }

    fn position_of(&self, scrub: &SegmentScrub) -> Option<usize> {
        self.segments.iter().position(|segment| {
            Arc::ptr_eq(&segment.file, &scrub.file)
                && (segment.end, segment.size) == (scrub.end, scrub.size)
        })
    }
}

/// Where a new index is until the log takes it over; removed when the log is opened.
fn renewed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new.tmp");
    PathBuf::from(name)
}
