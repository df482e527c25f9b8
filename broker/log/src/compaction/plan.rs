//! When a log is to be compacted, how far, and which segments become one. Pure.

use std::ops::Range;

use broker_core::{Offset, Timestamp};

use crate::config::CompactionConfig;
use crate::segment::RELATIVE_OFFSET_MAX;

/// What a plan knows of a sealed segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSummary {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) size: u64,
    /// Bytes of the larger index.
    pub(crate) index_size: u64,
    /// Of the first batch.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// The largest.
    pub(crate) newest: Option<Timestamp>,
}

/// How far a log can be compacted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Records from here on may have an earlier one with the same key.
    pub dirty_from: Offset,
    /// End of what may be compacted.
    pub upto: Offset,
    /// Bytes of segments below `dirty_from`.
    pub clean_bytes: u64,
    /// Bytes of segments from there to `upto`.
    pub dirty_bytes: u64,
    /// A dirty record is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Backlog {
    /// Compares the sealed segments with what was compacted before. `upto` bounds what may be touched.
    pub(crate) fn of(
        sealed: &[SegmentSummary],
        dirty_from: Offset,
        upto: Offset,
        config: &CompactionConfig,
        now: Timestamp,
    ) -> Self {
        let mut backlog = Self {
            dirty_from,
            upto: dirty_from,
            clean_bytes: 0,
            dirty_bytes: 0,
            overdue: false,
        };
        let age_ms = |at: Option<Timestamp>| {
            let since = at.filter(|at| at.0 >= 0)?;
            Some(now.0.saturating_sub(since.0).max(0).unsigned_abs())
        };
        for segment in sealed.iter().take_while(|segment| segment.end <= upto) {
            if segment.end <= dirty_from {
                backlog.clean_bytes += segment.size;
                continue;
            }
            if age_ms(segment.newest).is_some_and(|age_ms| age_ms < config.min_lag_ms) {
                break;
            }
            backlog.overdue |=
                age_ms(segment.first_timestamp).is_some_and(|age_ms| age_ms > config.max_lag_ms);
            backlog.dirty_bytes += segment.size;
            backlog.upto = segment.end;
        }
        backlog
    }

    /// Share of the bytes that are dirty, in parts per million.
    #[must_use]
    pub fn dirty_ppm(&self) -> u32 {
        let all = self.clean_bytes + self.dirty_bytes;
        let ppm = u128::from(self.dirty_bytes) * 1_000_000 / u128::from(all.max(1));
        u32::try_from(ppm).unwrap_or(1_000_000)
    }

    /// Whether `config` asks for a compaction now.
    #[must_use]
    pub fn is_due(&self, config: &CompactionConfig) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.dirty_ppm() > config.min_cleanable_dirty_ppm)
    }
}

/// Sizes that a segment made of others must not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    pub(crate) segment_bytes: u64,
    pub(crate) index_bytes: u64,
}

/// Neighbours that fit into one segment together, even if nothing is removed from them.
pub(crate) fn groups(segments: &[SegmentSummary], limits: GroupLimits) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut size, mut index_size) = (0, 0);
    for (i, segment) in segments.iter().enumerate() {
        size += segment.size;
        index_size += segment.index_size;
        let fits = |group: &&mut Range<usize>| {
            size <= limits.segment_bytes
                && index_size <= limits.index_bytes
                && segment.end.0 - segments[group.start].base.0 <= RELATIVE_OFFSET_MAX
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.end = i + 1,
            None => {
                (size, index_size) = (segment.size, segment.index_size);
                groups.push(i..i + 1);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CompactionConfig = CompactionConfig {
        min_cleanable_dirty_ppm: 500_000,
        min_lag_ms: 0,
        max_lag_ms: u64::MAX,
        delete_retention_ms: 0,
    };
    const NOW: Timestamp = Timestamp(10_000);

    /// Segments of ten offsets and so many bytes, one second after the other.
    fn segments(sizes: &[u64]) -> Vec<SegmentSummary> {
        let summary = |(i, size): (usize, &u64)| {
            let (at, ms) = (10 * i as i64, 1_000 * i as i64);
            SegmentSummary {
                base: Offset(at),
                end: Offset(at + 10),
                size: *size,
                index_size: 8,
                first_timestamp: Some(Timestamp(ms)),
                newest: Some(Timestamp(ms + 900)),
            }
        };
        sizes.iter().enumerate().map(summary).collect()
    }

    #[test]
    fn a_log_is_due_when_enough_of_it_is_dirty() {
        let segments = segments(&[60, 50, 10]);
        for (dirty_from, upto, dirty_bytes, due) in [
            (0, 30, 120, true),
            (10, 30, 60, false),
            (20, 30, 10, false),
            (10, 20, 50, false),
            (30, 30, 0, false),
            (0, 9, 0, false),
            (5, 10, 60, true),
        ] {
            let backlog = Backlog::of(&segments, Offset(dirty_from), Offset(upto), &CONFIG, NOW);
            assert_eq!(backlog.dirty_bytes, dirty_bytes, "{dirty_from} to {upto}");
            assert_eq!(backlog.is_due(&CONFIG), due, "{dirty_from} to {upto}");
        }
    }

    #[test]
    fn records_may_be_too_young_or_too_old_to_wait() {
        let segments = segments(&[60, 5, 10]);
        let young = CompactionConfig {
            min_lag_ms: 8_000,
            ..CONFIG
        };
        let backlog = Backlog::of(&segments, Offset(0), Offset(30), &young, NOW);
        assert_eq!((backlog.upto, backlog.dirty_bytes), (Offset(20), 65));
        let mut ahead = segments.clone();
        ahead[0].newest = Some(Timestamp(NOW.0 + 1));
        let backlog = Backlog::of(&ahead, Offset(0), Offset(30), &young, NOW);
        assert_eq!(backlog.dirty_bytes, 0, "a record from the future is young");
        let backlog = Backlog::of(&ahead, Offset(0), Offset(30), &CONFIG, NOW);
        assert_eq!(backlog.dirty_bytes, 75);

        let old = |max_lag_ms| CompactionConfig {
            max_lag_ms,
            ..CONFIG
        };
        for (max_lag_ms, due) in [(9_000, false), (8_999, true)] {
            let config = old(max_lag_ms);
            let backlog = Backlog::of(&segments, Offset(10), Offset(30), &config, NOW);
            assert_eq!(backlog.is_due(&config), due);
        }
    }

    #[test]
    fn small_segments_become_one() {
        let limits = |segment_bytes, index_bytes| GroupLimits {
            segment_bytes,
            index_bytes,
        };
        let few = segments(&[60, 50, 10, 10, 90]);
        assert_eq!(groups(&few, limits(100, 100)), [0..1, 1..4, 4..5]);
        assert_eq!(groups(&few, limits(1_000, 16)), [0..2, 2..4, 4..5]);
        assert_eq!(groups(&few, limits(10, 1)).len(), 5);

        let mut far = segments(&[1, 1]);
        far[1].end = Offset(RELATIVE_OFFSET_MAX + 1);
        assert_eq!(groups(&far, limits(100, 100)).len(), 2);
    }
}
