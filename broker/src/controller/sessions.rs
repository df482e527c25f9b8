//! [`Liveness`] of the active controller, shared between its task and the heartbeat streams.

use std::sync::atomic::{AtomicU64, Ordering};

use broker_core::BrokerId;
use broker_core::controller::Command;
use parking_lot::Mutex;

use super::feed::Position;
use super::liveness::{Heartbeat, Liveness, LivenessConfig, StaleEpoch, StreamId};
use crate::clock;

/// Why a heartbeat is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeartbeatError {
    NotController,
    StaleEpoch,
}

/// See the module's documentation.
pub(crate) struct Sessions {
    config: LivenessConfig,
    /// `None` while this broker is not the active controller.
    liveness: Mutex<Option<Liveness>>,
    last_stream: AtomicU64,
}

impl Sessions {
    pub(crate) fn new(config: LivenessConfig) -> Self {
        Self {
            config,
            liveness: Mutex::new(None),
            last_stream: AtomicU64::new(0),
        }
    }

    /// This broker is the active controller from now on.
    pub(crate) fn begin(&self, position: &Position) {
        let liveness = Liveness::new(
            self.config.clone(),
            clock::now(),
            &position.image,
            position.offset,
        );
        *self.liveness.lock() = Some(liveness);
    }

    /// This broker is no longer the active controller.
    pub(crate) fn end(&self) {
        *self.liveness.lock() = None;
    }

    pub(crate) fn open_stream(&self) -> StreamId {
        StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn heartbeat(
        &self,
        stream: StreamId,
        heartbeat: Heartbeat,
    ) -> Result<(), HeartbeatError> {
        let mut liveness = self.liveness.lock();
        let liveness = liveness.as_mut().ok_or(HeartbeatError::NotController)?;
        liveness
            .heartbeat(clock::now(), stream, heartbeat)
            .map_err(|StaleEpoch| HeartbeatError::StaleEpoch)
    }

    pub(crate) fn close_stream(&self, broker: BrokerId, stream: StreamId) {
        if let Some(liveness) = self.liveness.lock().as_mut() {
            liveness.stream_closed(clock::now(), broker, stream);
        }
    }

    /// Takes new and ended registrations in.
    pub(crate) fn follow(&self, position: &Position) {
        if let Some(liveness) = self.liveness.lock().as_mut() {
            liveness.follow(clock::now(), &position.image, position.offset);
        }
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
