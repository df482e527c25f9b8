//! [`Liveness`] of the active controller, shared between its task and the heartbeat streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use broker_core::controller::Command;
use broker_core::{BrokerId, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::feed::Position;
use crate::clock;
use broker_core::liveness::{Heartbeat, Liveness, LivenessConfig, StaleEpoch, StreamId, Unheard};

/// Why a heartbeat is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeartbeatError {
    NotController,
    StaleEpoch,
}

/// How far a broker is that follows the committed metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowerProgress {
    /// Offset after the last record that it has applied.
    pub(crate) end: u64,
    pub(crate) heard_at: Time,
    /// When it had all that was committed here.
    pub(crate) caught_up_at: Option<Time>,
    /// Size of its logs.
    pub(crate) hosted_bytes: u64,
}

/// See the module's documentation.
pub(crate) struct Sessions {
    config: LivenessConfig,
    /// `None` while this broker is not the active controller.
    liveness: Mutex<Option<Liveness>>,
    /// What brokers said of their metadata last.
    followers: Mutex<BTreeMap<BrokerId, FollowerProgress>>,
    last_stream: AtomicU64,
    /// A stream has closed.
    lost: Notify,
}

impl Sessions {
    pub(crate) fn new(config: LivenessConfig) -> Self {
        Self {
            config,
            liveness: Mutex::new(None),
            followers: Mutex::default(),
            last_stream: AtomicU64::new(0),
            lost: Notify::new(),
        }
    }

    /// This broker is the active controller from now on.
    pub(crate) fn begin(&self, position: &Position, voters: BTreeSet<BrokerId>) {
        let config = LivenessConfig {
            voters,
            ..self.config.clone()
        };
        let liveness = Liveness::new(config, clock::now(), &position.image, position.offset);
        *self.liveness.lock() = Some(liveness);
    }

    /// This broker is no longer the active controller.
    pub(crate) fn end(&self) {
        *self.liveness.lock() = None;
        self.followers.lock().clear();
    }

    pub(crate) fn open_stream(&self) -> StreamId {
        StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn heartbeat(
        &self,
        stream: StreamId,
        heartbeat: Heartbeat,
        hosted_bytes: u64,
        committed: Option<u64>,
    ) -> Result<(), HeartbeatError> {
        let now = clock::now();
        let mut liveness = self.liveness.lock();
        let liveness = liveness.as_mut().ok_or(HeartbeatError::NotController)?;
        liveness
            .heartbeat(now, stream, heartbeat)
            .map_err(|StaleEpoch| HeartbeatError::StaleEpoch)?;
        let mut followers = self.followers.lock();
        let before = followers.get(&heartbeat.broker);
        let caught_up = heartbeat.offset >= committed;
        let progress = FollowerProgress {
            end: heartbeat.offset.map_or(0, |offset| offset + 1),
            heard_at: now,
            caught_up_at: if caught_up {
                Some(now)
            } else {
                before.and_then(|before| before.caught_up_at)
            },
            hosted_bytes,
        };
        followers.insert(heartbeat.broker, progress);
        Ok(())
    }

    /// How far a broker is, if it has said so to this controller.
    pub(crate) fn follower(&self, broker: BrokerId) -> Option<FollowerProgress> {
        self.followers.lock().get(&broker).copied()
    }

    pub(crate) fn close_stream(&self, broker: BrokerId, stream: StreamId) {
        if let Some(liveness) = self.liveness.lock().as_mut() {
            liveness.stream_closed(clock::now(), broker, stream);
        }
        self.lost.notify_one();
    }

    /// Waits until a stream closes.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Brokers without a stream that are not fenced yet.
    pub(crate) fn unheard(&self) -> Vec<Unheard> {
        let liveness = self.liveness.lock();
        liveness
            .as_ref()
            .map_or_else(Vec::new, |liveness| liveness.unheard())
    }

    /// The broker's process has ended.
    pub(crate) fn ended(&self, broker: Unheard) {
        if let Some(liveness) = self.liveness.lock().as_mut() {
            liveness.ended(clock::now(), broker);
        }
    }

    /// Takes new and ended registrations in.
    pub(crate) fn follow(&self, position: &Position) {
        if let Some(liveness) = self.liveness.lock().as_mut() {
            liveness.follow(clock::now(), &position.image, position.offset);
        }
        let brokers = &position.image.brokers;
        self.followers
            .lock()
            .retain(|id, _| brokers.contains_key(id));
    }

    /// Brokers that may have died unnoticed; `None` while this broker is not the active controller.
    pub(crate) fn silent(&self) -> Option<Vec<BrokerId>> {
        let liveness = self.liveness.lock();
        Some(liveness.as_ref()?.silent(clock::now()))
    }

    /// Commands that follow from the time that has passed.
    pub(crate) fn tick(&self, position: &Position) -> Vec<Command> {
        let liveness = self.liveness.lock();
        liveness.as_ref().map_or_else(Vec::new, |liveness| {
            liveness.tick(clock::now(), &position.image)
        })
    }
}
