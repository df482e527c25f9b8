//! The segmented commit log: record batches in files, byte for byte as they are on the wire.
//!
//! * [`Log`] is one partition's log: append, read, retention, truncation, durability, recovery;
//! * [`Compaction`] is one pass over a compacted log;
//! * [`LogDir`] is a data directory that holds many of them, with its checkpoints and markers;
//! * [`fs`] is the file system below, real or in memory with faults.
//!
//! Nothing here knows of clients, replication or time: the caller brings the clock.

mod checkpoint;
mod compaction;
mod config;
mod dir;
mod epochs;
mod error;
pub mod fs;
mod index;
mod index_check;
mod log;
mod scan;
mod segment;
mod slice;
mod txn_index;

pub use checkpoint::{CHECKPOINT_ENTRIES_MAX, OffsetEntry, read_text, replace as replace_file};
pub use compaction::{
    Backlog, CleanedSegment, Compaction, CompactionError, Pace, PassReport, RetainError, Stopped,
};
pub use config::{CompactionConfig, LogConfig, SEGMENT_BYTES_MAX};
pub use dir::{
    LogDir, LogDirError, MetaProperties, OpenJob, PartitionDir, PartitionMetadata, QuarantinedDir,
    open_logs,
};
pub use epochs::{EpochEntry, EpochHistory};
pub use error::{AppendError, OpenError, ReadError, StorageError};
pub use log::{
    AppendInfo, Checkpoint, DeletedSegment, DeletedSegments, DeletionReason, IndexVerdict, Log,
    MinOneBatch, NewIndexes, OpenOptions, RecoveryProgress, RecoveryReport, ReplaceError, Replaced,
    ScrubError, ScrubStep, SegmentFiles, SegmentScrub, SyncHandle, Synced,
};
pub use slice::{LogSlice, SliceError, TimestampError, TimestampedOffset};
pub use txn_index::AbortedTransaction;
