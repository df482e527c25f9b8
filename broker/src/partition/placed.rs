//! Which log is in which directory.

use std::path::PathBuf;
use std::sync::Arc;

use broker_core::PartitionIndex;

use super::PartitionManager;

/// A replica's log in a log directory.
pub struct PlacedLog {
    pub dir: PathBuf,
    pub topic: Arc<str>,
    pub partition: PartitionIndex,
    pub size_bytes: u64,
    /// What it lacks: of the high watermark, or, when it is a future one, of the current log.
    pub offset_lag: i64,
    /// It is a copy being made, that will replace the current log.
    pub is_future: bool,
}

impl PartitionManager {
    /// All logs of hosted partitions.
    #[must_use]
    pub fn placed_logs(&self) -> Vec<PlacedLog> {
        let hosted = self.all().into_iter();
        hosted.map(|partition| partition.placed_log()).collect()
    }
}

impl super::Partition {
    fn placed_log(&self) -> PlacedLog {
        let state = self.state.lock();
        let lag = state.replica.high_watermark().0 - state.log.end_offset().0;
        PlacedLog {
            dir: state.directory.path().to_owned(),
            topic: Arc::clone(&self.topic),
            partition: self.id.partition,
            size_bytes: state.log.size_bytes(),
            offset_lag: lag.max(0),
            is_future: false,
        }
    }
}
