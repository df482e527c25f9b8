//! Log compaction: of records with the same key the last one stays.
//!
//! * `plan`: when a log is due, how far, which segments become one; pure;
//! * `retain`: what stays of a batch; pure;
//! * `key_map`: the offset of each key's last record, in bounded memory;
//! * `pass`: reads segments and writes what stays of them into new files, without the log's lock.
//!
//! A pass reads the keys of the dirty records, as many as fit, then writes the log anew from its front
//! up to there, group by group; [`crate::Log::replace`] puts each group in its place. Offsets stay what
//! they were. The order from the front matters: a tombstone goes only when all older values are gone.

mod fate;
mod key_map;
mod pass;
mod plan;
mod retain;

pub(crate) use fate::ABORTED_MAX;
pub use pass::{CleanedSegment, Compaction, CompactionError, Pace, PassReport, Stopped};
pub(crate) use pass::{Origin, Source};
pub use plan::Backlog;
pub(crate) use plan::SegmentSummary;
pub use retain::RetainError;
