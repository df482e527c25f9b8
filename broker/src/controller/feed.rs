//! Committed metadata as it becomes known on this broker: the newest image for everybody here, and
//! the latest batches for brokers that follow this one.
//!
//! It comes from the quorum, from another broker, or from both while this broker becomes a member or
//! ceases to be one. The same offset has the same image wherever it comes from; the newer one counts.

use std::collections::VecDeque;
use std::sync::Arc;

use broker_core::metadata::Image;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Batches kept for followers; one that is further behind gets a snapshot.
const BATCHES_MAX: usize = 4096;
/// Bytes of records kept for followers.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Records that were committed together; empty for the quorum's own entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedBatch {
    pub(crate) offset: u64,
    pub(crate) records: Vec<Bytes>,
}

/// An image with its place in the metadata log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// Metadata offset of the last batch in the image; `None` before the first one.
    pub(crate) offset: Option<u64>,
    pub(crate) image: Arc<Image>,
}

/// What a follower is missing.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The image replaces what the follower has.
    Snapshot(Position),
    /// Batches without gaps from the offset that was asked for; none when the follower has all
    /// that this broker has, or more.
    Batches(Vec<CommittedBatch>),
}

/// See the module's documentation.
pub(crate) struct Feed {
    position: watch::Sender<Position>,
    images: watch::Sender<Arc<Image>>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    batches: VecDeque<CommittedBatch>,
    bytes: usize,
    /// Offset after the last batch.
    end: u64,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let position = Position::default();
        Self {
            images: watch::Sender::new(Arc::clone(&position.image)),
            position: watch::Sender::new(position),
            recent: Mutex::new(Recent::default()),
        }
    }

    /// The newest image and its offset.
    pub(crate) fn position(&self) -> Position {
        self.position.borrow().clone()
    }

    /// Changes with every batch, whether it changes the image or not.
    pub(crate) fn positions(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Changes with the image.
    pub(crate) fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.images.subscribe()
    }

    /// Makes batches known, which follow each other; `image` includes them. What is known already
    /// stays as it is.
    pub(crate) fn publish(&self, mut batches: Vec<CommittedBatch>, image: &Arc<Image>) {
        let mut recent = self.recent.lock();
        batches.retain(|batch| batch.offset >= recent.end);
        let Some(first) = batches.first().map(|batch| batch.offset) else {
            return;
        };
        if first > recent.end {
            *recent = Recent::default();
        }
        recent.extend(batches);
        self.set(recent.end, image);
    }

    /// Makes an image known that does not follow the one before, unless that is as new.
    pub(crate) fn replace(&self, offset: u64, image: &Arc<Image>) {
        let mut recent = self.recent.lock();
        if offset >= recent.end {
            *recent = Recent {
                end: offset + 1,
                ..Recent::default()
            };
            self.set(recent.end, image);
        }
    }

    /// What lies between `from` and the newest batch.
    pub(crate) fn missing(&self, from: u64) -> Missing {
        let recent = self.recent.lock();
        match recent.since(from) {
            Some(batches) => Missing::Batches(batches),
            None => Missing::Snapshot(self.position()),
        }
    }

    /// Called under the lock of what is recent, so that positions only rise.
    fn set(&self, end: u64, image: &Arc<Image>) {
        self.position.send_replace(Position {
            offset: end.checked_sub(1),
            image: Arc::clone(image),
        });
        self.images.send_if_modified(|known| {
            let changed = !Arc::ptr_eq(known, image);
            known.clone_from(image);
            changed
        });
    }
}

impl Recent {
    fn extend(&mut self, batches: Vec<CommittedBatch>) {
        for batch in batches {
            self.end = batch.offset + 1;
            self.bytes += batch.bytes();
            self.batches.push_back(batch);
            while self.batches.len() > BATCHES_MAX || self.bytes > BATCH_BYTES_MAX {
                let Some(oldest) = self.batches.pop_front() else {
                    break;
                };
                self.bytes -= oldest.bytes();
            }
        }
    }

    fn since(&self, from: u64) -> Option<Vec<CommittedBatch>> {
        let start = self.batches.front().map_or(self.end, |batch| batch.offset);
        if from < start {
            return None;
        }
        let skip = self.batches.partition_point(|batch| batch.offset < from);
        Some(self.batches.range(skip..).cloned().collect())
    }
}

impl CommittedBatch {
    fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offset: u64, bytes: usize) -> CommittedBatch {
        CommittedBatch {
            offset,
            records: vec![Bytes::from(vec![0; bytes])],
        }
    }

    fn offsets(feed: &Feed, from: u64) -> Option<Vec<u64>> {
        match feed.missing(from) {
            Missing::Snapshot(_) => None,
            Missing::Batches(batches) => Some(batches.iter().map(|batch| batch.offset).collect()),
        }
    }

    #[test]
    fn followers_get_what_they_miss() {
        let feed = Feed::new();
        assert_eq!(offsets(&feed, 0), Some(vec![]));
        feed.publish(vec![batch(0, 1), batch(1, 1), batch(2, 1)], &Arc::default());
        assert_eq!(offsets(&feed, 0), Some(vec![0, 1, 2]));
        assert_eq!(offsets(&feed, 2), Some(vec![2]));
        assert_eq!(offsets(&feed, 3), Some(vec![]));
        assert_eq!(
            offsets(&feed, 9),
            Some(vec![]),
            "this broker is the one behind"
        );
        assert_eq!(feed.position().offset, Some(2));
        feed.replace(5, &Arc::default());
        feed.replace(1, &Arc::default());
        feed.publish(vec![batch(4, 1), batch(5, 1)], &Arc::default());
        assert_eq!(feed.position().offset, Some(5), "never backwards");
        feed.publish(vec![batch(5, 1), batch(6, 1)], &Arc::default());
        assert_eq!(offsets(&feed, 6), Some(vec![6]), "what is new in it counts");
        feed.replace(9, &Arc::default());
        assert_eq!(offsets(&feed, 3), None);
        assert_eq!(offsets(&feed, 10), Some(vec![]));
        feed.publish(vec![batch(10, 1)], &Arc::default());
        assert_eq!(offsets(&feed, 10), Some(vec![10]));
    }

    #[test]
    fn what_is_kept_is_bounded_by_count_and_bytes() {
        let feed = Feed::new();
        let count = BATCHES_MAX as u64 + 10;
        feed.publish(
            (0..count).map(|offset| batch(offset, 1)).collect(),
            &Arc::default(),
        );
        assert_eq!(offsets(&feed, 9), None);
        assert_eq!(
            offsets(&feed, 10).map(|offsets| offsets.len()),
            Some(BATCHES_MAX)
        );
        feed.publish(vec![batch(count, BATCH_BYTES_MAX)], &Arc::default());
        assert_eq!(offsets(&feed, count - 1), None);
        assert_eq!(offsets(&feed, count), Some(vec![count]));
    }

    #[test]
    fn image_watchers_wake_for_changes_only() {
        let feed = Feed::new();
        let mut images = feed.images();
        let image = feed.position().image;
        feed.publish(vec![batch(0, 1)], &image);
        assert!(!images.has_changed().unwrap());
        let changed = Arc::new(Image {
            cluster_id: "c".to_owned(),
            ..Image::default()
        });
        feed.publish(vec![batch(1, 1)], &changed);
        assert!(images.has_changed().unwrap());
        assert_eq!(images.borrow_and_update().cluster_id, "c");
    }
}
