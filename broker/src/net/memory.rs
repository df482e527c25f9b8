//! The memory that requests of all connections share.
//!
//! A frame's reservation grows as its bytes arrive, so that a length alone reserves nothing. When
//! the pool is used up, readers wait, except for one at a time, which takes the *last lane*: its
//! frame may be completed outside the pool. So the budget is never a deadlock of frames that are
//! all half there.
//!
//! Invariant: reservations together never exceed the budget.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct RequestMemory {
    pool: Arc<Semaphore>,
    last_lane: Arc<Semaphore>,
}

impl RequestMemory {
    /// Shares `budget_bytes` among requests of at most `request_bytes_max`. A budget that is not
    /// larger than one request has that request in the last lane, and no pool.
    pub(super) fn new(budget_bytes: usize, request_bytes_max: usize) -> Arc<Self> {
        let pool = budget_bytes
            .saturating_sub(request_bytes_max)
            .min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            pool: Arc::new(Semaphore::new(pool)),
            last_lane: Arc::new(Semaphore::new(1)),
        })
    }

    /// A reservation of nothing yet.
    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            memory: Arc::clone(self),
            pooled: None,
            last_lane: None,
        }
    }
}

/// Memory of one request, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<RequestMemory>,
    pooled: Option<OwnedSemaphorePermit>,
    last_lane: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Reserves `bytes` more, waiting until they are there.
    pub(super) async fn grow(&mut self, bytes: u32) {
        if self.last_lane.is_some() || bytes == 0 {
            return;
        }
        let pool = Arc::clone(&self.memory.pool);
        let last_lane = Arc::clone(&self.memory.last_lane);
        tokio::select! {
            biased;
            permit = pool.acquire_many_owned(bytes) => {
                let permit = permit.expect("the pool is never closed");
                match &mut self.pooled {
                    Some(pooled) => pooled.merge(permit),
                    None => self.pooled = Some(permit),
                }
            }
            permit = last_lane.acquire_owned() => {
                self.last_lane = Some(permit.expect("the last lane is never closed"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn beyond_the_pool_one_request_proceeds_and_the_others_wait() {
        let memory = RequestMemory::new(300, 100);
        let [mut a, mut b, mut c] = [(); 3].map(|()| memory.reservation());
        a.grow(90).await;
        b.grow(90).await;
        c.grow(90).await;
        assert!(c.last_lane.is_some());
        assert!(a.grow(50).now_or_never().is_none());
        c.grow(10).await;
        drop(c);
        a.grow(10).await;
        b.grow(10).await;
        assert!(
            a.last_lane.is_none() ^ b.last_lane.is_none() || memory.pool.available_permits() == 0
        );
        drop((a, b));
        assert_eq!(memory.pool.available_permits(), 200);
        assert_eq!(memory.last_lane.available_permits(), 1);
    }

    #[tokio::test]
    async fn half_read_requests_never_block_each_other_for_good() {
        let memory = RequestMemory::new(150, 100);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let mut reservation = memory.reservation();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        reservation.grow(10).await;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(10), task)
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(memory.pool.available_permits(), 50);
    }
}
