//! Settings of one log, by Kafka's names.

/// Largest `segment.bytes`: positions in an index are 32 bits, and Kafka's setting is an `int`.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Topic settings that the log obeys. They may change while the log is open: [`crate::Log::set_config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it would grow past this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is rolled when a batch is this much younger than its first one.
    pub segment_ms: u64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, so that many logs do not
    /// roll at once.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`: bytes of log between two index entries.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`: a segment is rolled when an index would grow past this.
    pub segment_index_bytes: u64,
    /// `retention.ms`, `None` for no limit.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// `flush.messages`: records that may be appended without being durable; 1 is "before every
    /// acknowledgement". `None` leaves it to the operating system.
    pub flush_messages: Option<u64>,
    /// `flush.ms`: how long an appended record may stay without being durable.
    pub flush_ms: Option<u64>,
    /// `None` unless `cleanup.policy` has `compact`.
    pub compaction: Option<CompactionConfig>,
}

/// Settings of a compacted log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// `min.cleanable.dirty.ratio` in parts per million: share of bytes not compacted yet beyond which
    /// the log is compacted.
    pub min_cleanable_dirty_ppm: u32,
    /// `min.compaction.lag.ms`: younger records stay.
    pub min_lag_ms: u64,
    /// `max.compaction.lag.ms`: older records do not wait for the share to be reached.
    pub max_lag_ms: u64,
    /// `delete.retention.ms`: how long a tombstone stays from its first compaction on.
    pub delete_retention_ms: u64,
}

impl Default for CompactionConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            min_cleanable_dirty_ppm: 500_000,
            min_lag_ms: 0,
            max_lag_ms: u64::MAX,
            delete_retention_ms: DAY_MS,
        }
    }
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: WEEK_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(WEEK_MS),
            retention_bytes: None,
            flush_messages: None,
            flush_ms: None,
            compaction: None,
        }
    }
}
