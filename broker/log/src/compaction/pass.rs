//! One pass over a log, without its lock.
//!
//! What a pass reads is verified first: damage is never taken over into a new file.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use broker_core::{Offset, Timestamp};
use broker_wire::record::{BatchError, BatchHeader, RecordBatch, RecordError};

use super::fate::{ABORTED_MAX, Fate, Fates};
use super::key_map::KeyMap;
use super::plan::{Backlog, GroupLimits, SegmentSummary, groups};
use super::retain::{DECOMPRESSED_BYTES_MAX, HeaderNeed, Retain, RetainError, Retained};
use crate::config::{CompactionConfig, LogConfig};
use crate::fs::{Fs, FsFile, is_no_space};
use crate::scan::{BatchWalk, WalkError};
use crate::segment::Segment;
use crate::txn_index::AbortedTransaction;

/// Bytes that are collected for one write.
const WRITE_BYTES: usize = 1 << 20;

/// How fast a pass may go, and whether it shall go on: asked after every batch that was read and every
/// write.
pub trait Pace {
    /// Accounts for `bytes` of input or output, and waits if need be.
    ///
    /// # Errors
    /// [`Stopped`] ends the pass.
    fn spend(&mut self, bytes: usize) -> Result<(), Stopped>;
}

/// The pass shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compaction was stopped")]
pub struct Stopped;

/// Why a pass ended early. The log is as it was, but for groups that were put in their place before.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// It was asked to.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk is full: a pass needs as much as it leaves of a segment.
    #[error("no space left on the device for a compacted segment")]
    NoSpace,
    /// A file could not be read or written.
    #[error("cannot compact the log: {0}")]
    Io(#[source] io::Error),
    /// A segment has more aborted transactions than a pass takes into account.
    #[error(
        "a segment has more than {ABORTED_MAX} aborted transactions; make segment.bytes smaller"
    )]
    TooManyAborted,
    /// A segment is damaged. Nothing of it was written anew.
    #[error("segment {segment} is damaged at position {position}: {source}")]
    Damaged {
        /// Base offset of the segment.
        segment: Offset,
        /// Byte position in its file.
        position: u64,
        /// What is wrong there.
        source: BatchError,
    },
    /// A batch can't be decoded within bounds, or encoded again.
    #[error("batch at offset {offset}: {source}")]
    Batch {
        /// Base offset of the batch.
        offset: Offset,
        /// What is wrong with it.
        source: RetainError,
    },
}

impl From<io::Error> for CompactionError {
    fn from(error: io::Error) -> Self {
        if is_no_space(&error) {
            Self::NoSpace
        } else {
            Self::Io(error)
        }
    }
}

/// Whose pass it is, and of which state of that log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) dir: PathBuf,
    pub(crate) truncations: u64,
}

/// A sealed segment as a pass reads it.
pub(crate) struct Source {
    pub(crate) summary: SegmentSummary,
    pub(crate) file: Arc<dyn FsFile>,
}

/// A group of segments in one new file, for [`crate::Log::replace`].
#[must_use = "its files stay until the log is opened again"]
pub struct CleanedSegment {
    pub(crate) origin: Origin,
    pub(crate) segment: Segment,
    /// Base offsets and sizes of the segments that it replaces.
    pub(crate) replaces: Vec<(Offset, u64)>,
    drops_markers: bool,
}

impl CleanedSegment {
    /// Whether markers of transactions are left out. An owner must not read the log again then from
    /// where one of these transactions was ongoing.
    #[must_use]
    pub fn drops_markers(&self) -> bool {
        self.drops_markers
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Different keys among the dirty records.
    pub keys: u64,
    /// Segments that were written anew.
    pub segments_before: u64,
    /// Segments that they became.
    pub segments_after: u64,
    /// Bytes of the ones.
    pub bytes_before: u64,
    /// Bytes of the others.
    pub bytes_after: u64,
}

/// One pass; see [`crate::Log::begin_compaction`].
pub struct Compaction {
    pub(crate) origin: Origin,
    fs: Arc<dyn Fs>,
    config: LogConfig,
    settings: CompactionConfig,
    now: Timestamp,
    sources: Vec<Source>,
    fates: Fates,
    /// Why the transactions are not known.
    fates_error: Option<CompactionError>,
    last_of_producer: BTreeMap<i64, Offset>,
    dirty_from: Offset,
    /// The keys, and up to where they were read; `None` before [`Self::read_keys`].
    keys: Option<(KeyMap, Offset)>,
    groups: std::vec::IntoIter<Range<usize>>,
    /// Leader epoch of the last batch that was looked at.
    epoch: Option<i32>,
    report: PassReport,
}

impl Compaction {
    pub(crate) fn new(
        origin: Origin,
        fs: Arc<dyn Fs>,
        config: (LogConfig, CompactionConfig),
        now: Timestamp,
        backlog: &Backlog,
        sources: Vec<Source>,
    ) -> Self {
        Self {
            origin,
            fs,
            config: config.0,
            settings: config.1,
            now,
            sources,
            fates: Fates::default(),
            fates_error: None,
            last_of_producer: BTreeMap::new(),
            dirty_from: backlog.dirty_from,
            keys: None,
            groups: Vec::new().into_iter(),
            epoch: None,
            report: PassReport::default(),
        }
    }

    /// What is known of transactions that were aborted, in the order of their markers, and have records in
    /// the dirty part: those before were dropped. Beyond [`ABORTED_MAX`] the rest is for another pass.
    pub(crate) fn skip_aborted(&mut self, aborted: io::Result<Vec<AbortedTransaction>>) {
        match aborted {
            Ok(aborted) => {
                let taken = &aborted[..aborted.len().min(ABORTED_MAX)];
                self.fates = Fates::new(taken);
                if taken.len() < aborted.len() {
                    let known_upto = taken
                        .last()
                        .map_or(self.dirty_from, |a| a.last_stable_offset);
                    self.sources
                        .retain(|source| source.summary.end <= known_upto);
                    let advances = self.sources.last();
                    if advances.is_none_or(|last| last.summary.end <= self.dirty_from) {
                        self.fates_error = Some(CompactionError::TooManyAborted);
                    }
                }
            }
            Err(error) => self.fates_error = Some(error.into()),
        }
    }

    /// Has the last batch of each producer stay, if only as a header: its id, and where the batch ends.
    pub fn keep_producers(&mut self, producers: impl Iterator<Item = (i64, Offset)>) {
        self.last_of_producer = producers.collect();
    }

    /// Reads the keys of dirty records until they fill `map_bytes_max` bytes of memory. The rest is for
    /// another pass.
    ///
    /// # Errors
    /// [`CompactionError`].
    pub fn read_keys(
        &mut self,
        map_bytes_max: usize,
        pace: &mut dyn Pace,
    ) -> Result<(), CompactionError> {
        let end = self
            .sources
            .last()
            .map_or(self.dirty_from, |s| s.summary.end);
        if let Some(error) = self.fates_error.take() {
            return Err(error);
        }
        let mut keys = KeyMap::new((end.0 - self.dirty_from.0).unsigned_abs(), map_bytes_max);
        let mut upto = end;
        let dirty_from = self.dirty_from;
        'segments: for source in self.sources.iter().filter(|s| s.summary.end > dirty_from) {
            let mut walk = source.walk();
            while let Some((_, header, bytes)) =
                walk.next_whole().map_err(|error| source.error(error))?
            {
                pace.spend(bytes.len())?;
                let counts = self.fates.of(&header) == Fate::Counts;
                if !counts || header.next_offset() <= dirty_from.0 {
                    continue;
                }
                if let Some(full_at) = put_keys(&mut keys, bytes, dirty_from)
                    .map_err(|source| batch_error(&header, source.into()))?
                {
                    upto = full_at;
                    break 'segments;
                }
            }
        }
        self.report.keys = keys.len() as u64;
        let reached = self
            .sources
            .partition_point(|source| source.summary.base < upto);
        self.sources.truncate(reached);
        let summaries: Vec<_> = self.sources.iter().map(|source| source.summary).collect();
        let limits = GroupLimits {
            segment_bytes: self.config.segment_bytes,
            index_bytes: self.config.segment_index_bytes,
        };
        self.groups = groups(&summaries, limits).into_iter();
        self.keys = Some((keys, upto));
        Ok(())
    }

    /// Writes what stays of the next group into new, durable files; `None` after the last. To be put in
    /// place before the next call. Only after [`Self::read_keys`].
    ///
    /// # Errors
    /// [`CompactionError`]; the new files are removed.
    pub fn next_group(
        &mut self,
        pace: &mut dyn Pace,
    ) -> Result<Option<CleanedSegment>, CompactionError> {
        let Some(group) = self.groups.next() else {
            return Ok(None);
        };
        let base = self.sources[group.start].summary.base;
        let mut segment = Segment::create_cleaned(&self.fs, &self.origin.dir, base, &self.config)?;
        let drops_markers = match self.write_group(group.clone(), &mut segment, pace) {
            Ok(drops_markers) => drops_markers,
            Err(error) => {
                // What stays is removed when the log is opened next.
                let _ = segment.discard(&*self.fs);
                return Err(error);
            }
        };
        let sources = &self.sources[group];
        self.report.segments_before += sources.len() as u64;
        self.report.segments_after += 1;
        self.report.bytes_before += sources.iter().map(|s| s.summary.size).sum::<u64>();
        self.report.bytes_after += segment.size;
        Ok(Some(CleanedSegment {
            origin: self.origin.clone(),
            segment,
            replaces: sources
                .iter()
                .map(|source| (source.summary.base, source.summary.size))
                .collect(),
            drops_markers,
        }))
    }

    /// Records below have no earlier one with the same key, once all groups are in place.
    pub fn compacted_upto(&self) -> Offset {
        self.keys
            .as_ref()
            .map_or(self.dirty_from, |(_, upto)| *upto)
    }

    /// What was done so far.
    pub fn report(&self) -> PassReport {
        self.report
    }

    /// Returns whether markers are left out.
    fn write_group(
        &mut self,
        group: Range<usize>,
        segment: &mut Segment,
        pace: &mut dyn Pace,
    ) -> Result<bool, CompactionError> {
        let (keys, upto) = self.keys.as_ref().expect("keys are read before groups");
        let retain = Retain {
            keys,
            upto: *upto,
            now: self.now,
            delete_retention_ms: self.settings.delete_retention_ms,
            last_of_producer: &self.last_of_producer,
        };
        let sources = &self.sources[group];
        let mut out = Output {
            segment,
            index_interval_bytes: self.config.index_interval_bytes,
            pending: Vec::new(),
        };
        let mut drops_markers = false;
        for (i, source) in sources.iter().enumerate() {
            let mut walk = source.walk();
            while let Some((position, header, bytes)) =
                walk.next_whole().map_err(|error| source.error(error))?
            {
                pace.spend(bytes.len())?;
                let first_of_epoch = self.epoch != Some(header.partition_leader_epoch);
                self.epoch = Some(header.partition_leader_epoch);
                let ends = position + bytes.len() as u64 == source.summary.size;
                let last = ends && i + 1 == sources.len();
                let need = match first_of_epoch || last {
                    true => HeaderNeed::Structure,
                    false => HeaderNeed::None,
                };
                let followed = self.fates.follow(&header, bytes);
                let fate = followed.map_err(|source| batch_error(&header, source.into()))?;
                let judged = retain.judge(bytes, fate, need);
                let retained = judged.map_err(|source| batch_error(&header, source))?;
                // The first change gives it its horizon.
                drops_markers |= fate == Fate::Spent
                    && header.delete_horizon_ms().is_some()
                    && retained != Retained::AsItIs;
                match retained {
                    Retained::AsItIs => out.put(bytes, pace)?,
                    Retained::Rewritten(bytes) => out.put(&bytes, pace)?,
                    Retained::Nothing => {}
                }
            }
        }
        out.finish(pace)?;
        segment.end = sources.last().map_or(segment.end, |last| last.summary.end);
        Ok(drops_markers)
    }
}

impl Source {
    fn walk(&self) -> BatchWalk<'_> {
        BatchWalk::scan(&*self.file, 0, self.summary.size)
    }

    fn error(&self, error: WalkError) -> CompactionError {
        match error {
            WalkError::Io(error) => error.into(),
            WalkError::Invalid { position, source } => CompactionError::Damaged {
                segment: self.summary.base,
                position,
                source,
            },
        }
    }
}

/// Collects batches for larger writes.
struct Output<'a> {
    segment: &'a mut Segment,
    index_interval_bytes: u64,
    pending: Vec<u8>,
}

impl Output<'_> {
    fn put(&mut self, batch: &[u8], pace: &mut dyn Pace) -> Result<(), CompactionError> {
        self.pending.extend_from_slice(batch);
        if self.pending.len() >= WRITE_BYTES {
            self.write(pace)?;
        }
        Ok(())
    }

    fn write(&mut self, pace: &mut dyn Pace) -> Result<(), CompactionError> {
        let size = self.segment.size + self.pending.len() as u64;
        if size > u64::from(u32::MAX) {
            let reason = "what is left of a segment, encoded anew, outgrows its index";
            return Err(CompactionError::Io(io::Error::other(reason)));
        }
        self.segment
            .append(&self.pending, self.index_interval_bytes)?;
        pace.spend(self.pending.len())?;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self, pace: &mut dyn Pace) -> Result<(), CompactionError> {
        self.write(pace)?;
        self.segment.seal()?;
        self.segment.sync()?;
        Ok(())
    }
}

/// Notes the keys of a batch; where it stopped if there is no more room.
fn put_keys(
    keys: &mut KeyMap,
    bytes: &[u8],
    dirty_from: Offset,
) -> Result<Option<Offset>, RecordError> {
    let batch = RecordBatch::open(bytes, DECOMPRESSED_BYTES_MAX)?;
    for record in batch.records() {
        let record = record?;
        let offset = Offset(record.offset);
        if let Some(key) = record.key.filter(|_| offset >= dirty_from)
            && keys.put(key, offset).is_err()
        {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

fn batch_error(header: &BatchHeader, source: RetainError) -> CompactionError {
    CompactionError::Batch {
        offset: Offset(header.base_offset),
        source,
    }
}
