//! Record batches (format v2, KIP-98): the unit that producers send, logs store and consumers
//! fetch. Older message sets (magic 0 and 1) are not supported.
//!
//! * [`BatchHeader`], [`batches`], [`verify_crc`] and the `patch_*` functions work on encoded
//!   batches in place; they are all that the hot path needs;
//! * [`RecordBatch`] looks inside one batch, decompressing into a bounded buffer;
//! * [`BatchBuilder`] encodes a new batch, [`rewrite`] what compaction keeps of one.

mod batch;
mod builder;
mod compression;
mod records;
mod rewrite;

pub use batch::{
    BATCH_HEADER_LEN, BatchError, BatchHeader, Batches, TimestampType, batches, patch_base_offset,
    patch_leader_epoch, patch_max_timestamp_log_append, verify_crc,
};
pub use builder::{BatchBuilder, BuildError, EndTransactionMarker, NewRecord};
pub use compression::{Compression, CompressionError, compress, decompress};
pub use records::{
    ControlRecordType, Record, RecordBatch, RecordError, RecordHeader, RecordHeaders, Records,
};
pub use rewrite::rewrite;

#[cfg(test)]
mod tests;
