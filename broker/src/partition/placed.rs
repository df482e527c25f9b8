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
        hosted
            .flat_map(|partition| partition.placed_logs())
            .collect()
    }
}

impl super::Partition {
    /// The log, and the copy that shall take its place.
    fn placed_logs(&self) -> impl Iterator<Item = PlacedLog> + use<> {
        let state = self.state.lock();
        let end = state.log.end_offset();
        let lag = state.replica.high_watermark().0 - end.0;
        let current = PlacedLog {
            dir: state.directory.path().to_owned(),
            topic: Arc::clone(&self.topic),
            partition: self.id.partition,
            size_bytes: state.log.size_bytes(),
            offset_lag: lag.max(0),
            is_future: false,
        };
        let future = state.moving.as_ref().map(|moving| PlacedLog {
            dir: moving.future.directory.path().to_owned(),
            topic: Arc::clone(&self.topic),
            partition: self.id.partition,
            size_bytes: moving.size_bytes,
            offset_lag: (end.0 - moving.end.0).max(0),
            is_future: true,
        });
        std::iter::once(current).chain(future)
    }
}
