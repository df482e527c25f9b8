//! Who is told when a partition has news: waiting consumers, once, and followers' streams, always.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use broker_core::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Stale wakers are swept out when a partition has more than this many.
const SWEEP_ABOVE: usize = 64;

/// A consumer's fetch that waits for any of its partitions.
#[derive(Default)]
pub struct FetchWaker {
    notify: Notify,
}

impl FetchWaker {
    /// Waits for news since the waker was registered or last waited on.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// A follower's stream: collects the partitions with news.
#[derive(Default)]
pub struct PullWaker {
    news: Mutex<BTreeSet<TopicPartition>>,
    /// Partitions of which only the high watermark moved: they can wait for the next answer.
    lazy: Mutex<BTreeSet<TopicPartition>>,
    notify: Notify,
}

impl PullWaker {
    /// Marks a partition as having records to pull.
    pub fn mark(&self, partition: TopicPartition) {
        self.news.lock().insert(partition);
        self.notify.notify_one();
    }

    /// Marks a partition of which only the high watermark may be news.
    pub fn mark_lazily(&self, partition: TopicPartition) {
        self.lazy.lock().insert(partition);
    }

    /// Waits until a partition is marked.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Takes the partitions with records.
    #[must_use]
    pub fn take_news(&self) -> BTreeSet<TopicPartition> {
        std::mem::take(&mut self.news.lock())
    }

    /// Takes the partitions of which only the high watermark moved.
    #[must_use]
    pub fn take_lazy(&self) -> BTreeSet<TopicPartition> {
        std::mem::take(&mut self.lazy.lock())
    }
}

pub(super) struct Wakers {
    partition: TopicPartition,
    fetches: Vec<Weak<FetchWaker>>,
    pulls: Vec<Weak<PullWaker>>,
}

impl Wakers {
    pub(super) const fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            fetches: Vec::new(),
            pulls: Vec::new(),
        }
    }

    pub(super) fn add_fetch(&mut self, waker: &Arc<FetchWaker>) {
        if self.fetches.len() > SWEEP_ABOVE {
            self.fetches.retain(|waker| waker.strong_count() > 0);
        }
        self.fetches.push(Arc::downgrade(waker));
    }

    pub(super) fn add_pull(&mut self, waker: &Arc<PullWaker>) {
        let waker = Arc::downgrade(waker);
        self.pulls
            .retain(|known| known.strong_count() > 0 && !known.ptr_eq(&waker));
        self.pulls.push(waker);
    }

    pub(super) fn appended(&self) {
        for waker in self.pulls.iter().filter_map(Weak::upgrade) {
            waker.mark(self.partition);
        }
    }

    pub(super) fn high_watermark_moved(&mut self) {
        self.wake_fetches();
        for waker in self.pulls.iter().filter_map(Weak::upgrade) {
            waker.mark_lazily(self.partition);
        }
    }

    /// Waiting consumers and followers learn of the new role by asking again.
    pub(super) fn role_changed(&mut self) {
        self.wake_fetches();
        self.appended();
    }

    fn wake_fetches(&mut self) {
        for waker in self.fetches.drain(..).filter_map(|waker| waker.upgrade()) {
            waker.notify.notify_one();
        }
    }
}
