//! Answers that wait for the high watermark, in the order of their offsets.

use alloc::collections::VecDeque;

use crate::Offset;

/// `T`s waiting for an end offset to be passed.
#[derive(Debug)]
pub struct WaitQueue<T> {
    waiting: VecDeque<(Offset, T)>,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> WaitQueue<T> {
    /// Parks `item` until offsets below `end` are replicated. A repeated batch may wait for an
    /// earlier offset than those already parked.
    pub fn push(&mut self, end: Offset, item: T) {
        let at = self.waiting.partition_point(|(offset, _)| *offset <= end);
        self.waiting.insert(at, (end, item));
    }

    /// Takes out what waited for no more than `high_watermark`.
    pub fn release(&mut self, high_watermark: Offset) -> impl Iterator<Item = T> {
        let released = self
            .waiting
            .partition_point(|(offset, _)| *offset <= high_watermark);
        self.waiting.drain(..released).map(|(_, item)| item)
    }

    /// Takes out everything, as when leadership is lost.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|(_, item)| item)
    }

    /// Drops entries whose requester has gone.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.waiting.retain(|(_, item)| keep(item));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
