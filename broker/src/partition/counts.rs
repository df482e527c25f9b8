//! How many replicas are here, and in which state, for metrics.

use std::sync::atomic::Ordering;

use super::PartitionManager;

/// How many partitions are here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub replicas: usize,
    pub leaders: usize,
    /// Replicas that can't be served.
    pub offline: usize,
    pub failed_dirs: usize,
    pub slow_dirs: usize,
    /// Size of their logs.
    pub bytes: u64,
    /// Replicas whose log is damaged or gone.
    pub damaged: usize,
    /// Those that copy their log anew after damage.
    pub rebuilding: usize,
    /// Damaged logs that were set aside.
    pub quarantined: usize,
    /// Times that all sealed segments were verified.
    pub scrub_passes: u64,
    /// Bytes that were verified.
    pub scrubbed_bytes: u64,
    /// Segments that were found to be damaged.
    pub scrub_damaged_segments: u64,
    /// Segments whose indexes were found to be damaged and made anew.
    pub scrub_indexes_rebuilt: u64,
    /// Those whose last append found the disk full.
    pub disk_full: usize,
    /// Committed records that they lost to unclean elections.
    pub records_given_up: u64,
    /// Replicas that a reassignment adds and that are not in sync yet.
    pub adding: usize,
    /// What these lack of what their leaders have committed.
    pub offsets_to_copy: u64,
    /// Most committed offsets that a follower lacks.
    pub lag_offsets_max: u64,
    /// Replicas on their way to another log directory.
    pub moving: usize,
}

impl PartitionManager {
    /// Counts all partitions.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let conditions = self.dirs().conditions();
        let mut counts = Counts {
            offline: self.offline.read().len(),
            failed_dirs: conditions.iter().filter(|c| c.is_failed()).count(),
            slow_dirs: conditions.iter().filter(|c| c.is_slow()).count(),
            damaged: self.shared.damaged.count()
                + self.shared.damaged_offline.load(Ordering::Relaxed),
            quarantined: self.shared.quarantined.load(Ordering::Relaxed),
            scrub_passes: self.shared.scrub.passes.load(Ordering::Relaxed),
            scrubbed_bytes: self.shared.scrub.bytes.load(Ordering::Relaxed),
            scrub_damaged_segments: self.shared.scrub.damaged_segments.load(Ordering::Relaxed),
            scrub_indexes_rebuilt: self.shared.scrub.indexes_rebuilt.load(Ordering::Relaxed),
            records_given_up: self.shared.records_given_up.load(Ordering::Relaxed),
            moving: self.moves.len(),
            ..Counts::default()
        };
        for partition in self.partitions.read().values() {
            counts.replicas += 1;
            counts.leaders += usize::from(partition.is_leader());
            counts.bytes += partition.size_bytes();
            if let Some(offsets) = partition.offsets_to_copy(self.me()) {
                counts.adding += 1;
                counts.offsets_to_copy += offsets;
            }
            counts.lag_offsets_max = counts.lag_offsets_max.max(partition.lag_offsets());
            counts.disk_full += usize::from(partition.is_disk_full());
            counts.rebuilding += usize::from(partition.rebuilds(self.me()));
        }
        counts
    }
}
