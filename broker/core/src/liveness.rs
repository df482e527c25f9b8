//! Which brokers are alive: the active controller's view of their heartbeat streams.
//!
//! Pure: time and events come in, [`Liveness::tick`] says which commands follow.
//!
//! Invariants:
//! * A broker is fenced `session_timeout` after its last heartbeat at the latest, and
//!   `reconnect_grace` after its stream broke unless it opened a new one.
//! * A new controller gives every broker time to find it and open a stream.
//! * A broker whose stream is gone and whose process has ended is fenced at once.
//! * A broker is unfenced only when it heartbeats and knows the metadata up to its registration, and
//!   up to where it was fenced: it knows by then what it no longer leads.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::controller::{BrokerRef, Command};
use crate::metadata::{BrokerImage, Image};
use crate::{BrokerEpoch, BrokerId, Duration, Time};

/// When silence counts as death.
#[derive(Clone, Debug)]
pub struct LivenessConfig {
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `klamm.broker.reconnect.grace.ms`.
    pub reconnect_grace: Duration,
    /// Brokers that learn of a new controller from the quorum itself.
    pub voters: BTreeSet<BrokerId>,
}

impl LivenessConfig {
    /// Time to open a stream to a new controller. Those who only notice that the old one is gone
    /// get it twice.
    fn first_stream(&self, broker: BrokerId) -> Duration {
        if self.voters.contains(&broker) {
            self.reconnect_grace
        } else {
            self.reconnect_grace * 2
        }
    }
}

/// Tells the streams of one controller apart; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// One heartbeat.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
    /// Metadata offset that the broker has applied.
    pub offset: Option<u64>,
    /// The broker asks for its leaders to be moved away.
    pub wants_shutdown: bool,
}

/// A broker without a heartbeat stream that is not fenced yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
}

/// The heartbeat names a registration that is not the broker's newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleEpoch;

/// See the module's documentation.
#[derive(Debug)]
pub struct Liveness {
    config: LivenessConfig,
    sessions: BTreeMap<BrokerId, Session>,
}

#[derive(Debug)]
struct Session {
    epoch: BrokerEpoch,
    /// The newest one.
    stream: Option<StreamId>,
    stream_is_open: bool,
    deadline: Time,
    applied: Option<u64>,
    fenced: bool,
    /// Offset at which the registration, and the last fencing, are known to be in the metadata.
    needed: Option<u64>,
    wants_shutdown: bool,
}

impl Liveness {
    /// The view of a controller that has just become active on `image`, whose last offset is
    /// `offset`.
    pub fn new(config: LivenessConfig, now: Time, image: &Image, offset: Option<u64>) -> Self {
        let mut liveness = Self {
            config,
            sessions: BTreeMap::new(),
        };
        liveness.follow(now, image, offset);
        liveness
    }

    /// Starts sessions for new registrations and ends those of brokers that are gone.
    pub fn follow(&mut self, now: Time, image: &Image, offset: Option<u64>) {
        self.sessions
            .retain(|id, session| image.is_registered(*id, session.epoch));
        for broker in image.brokers.values() {
            let session = self.sessions.entry(broker.id).or_insert_with(|| Session {
                epoch: broker.epoch,
                stream: None,
                stream_is_open: false,
                deadline: now.plus(self.config.first_stream(broker.id)),
                applied: None,
                fenced: broker.fenced,
                needed: offset,
                wants_shutdown: false,
            });
            if broker.fenced && !session.fenced {
                session.needed = offset;
            }
            session.fenced = broker.fenced;
        }
    }

    /// Takes a heartbeat that came in on `stream`.
    ///
    /// # Errors
    /// [`StaleEpoch`]: the broker has to register again.
    pub fn heartbeat(
        &mut self,
        now: Time,
        stream: StreamId,
        heartbeat: Heartbeat,
    ) -> Result<(), StaleEpoch> {
        let session = self.sessions.get_mut(&heartbeat.broker).ok_or(StaleEpoch)?;
        if session.epoch != heartbeat.epoch || session.stream > Some(stream) {
            return Err(StaleEpoch);
        }
        session.stream = Some(stream);
        session.stream_is_open = true;
        session.deadline = now.plus(self.config.session_timeout);
        session.applied = heartbeat.offset;
        session.wants_shutdown |= heartbeat.wants_shutdown;
        Ok(())
    }

    /// The broker's `stream` broke or was closed.
    pub fn stream_closed(&mut self, now: Time, broker: BrokerId, stream: StreamId) {
        let Some(session) = self.sessions.get_mut(&broker) else {
            return;
        };
        if session.stream == Some(stream) {
            session.stream_is_open = false;
            let grace = if session.wants_shutdown {
                Duration::ZERO
            } else {
                self.config.reconnect_grace
            };
            session.deadline = session.deadline.min(now.plus(grace));
        }
    }

    /// Brokers that did not heartbeat for half of their session, or that have no stream.
    pub fn silent(&self, now: Time) -> Vec<BrokerId> {
        let patience = self.config.session_timeout / 2;
        let sessions = self.sessions.iter();
        sessions
            .filter(|(_, session)| {
                session.stream.is_none() || session.deadline < now.plus(patience)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Brokers of which only a dial can tell more.
    #[must_use]
    pub fn unheard(&self) -> Vec<Unheard> {
        let sessions = self.sessions.iter();
        sessions
            .filter(|(_, session)| !session.stream_is_open && !session.fenced)
            .map(|(id, session)| Unheard {
                id: *id,
                epoch: session.epoch,
            })
            .collect()
    }

    /// The broker's process has ended, unless it has been heard meanwhile.
    pub fn ended(&mut self, now: Time, broker: Unheard) {
        if let Some(session) = self.sessions.get_mut(&broker.id)
            && session.epoch == broker.epoch
            && !session.stream_is_open
        {
            session.deadline = session.deadline.min(now);
        }
    }

    /// What has to be decided now: fencing, unfencing and controlled shutdowns.
    pub fn tick(&self, now: Time, image: &Image) -> Vec<Command> {
        let sessions = self.sessions.iter();
        sessions
            .filter_map(|(id, session)| {
                let broker = image
                    .brokers
                    .get(id)
                    .filter(|known| known.epoch == session.epoch)?;
                session.command(now, image, broker)
            })
            .collect()
    }
}

impl Session {
    fn command(&self, now: Time, image: &Image, broker: &BrokerImage) -> Option<Command> {
        let reference = BrokerRef {
            broker_id: broker.id.0,
            broker_epoch: broker.epoch.0,
        };
        let alive = now < self.deadline;
        if !alive {
            return (!broker.fenced).then_some(Command::FenceBroker(reference));
        }
        if broker.fenced {
            let ready =
                self.stream.is_some() && self.applied >= self.needed && !self.wants_shutdown;
            return ready.then_some(Command::UnfenceBroker(reference));
        }
        let drains =
            self.wants_shutdown && !(broker.draining && image.leaders_to_hand_over(broker.id) == 0);
        drains.then_some(Command::DrainBroker(reference))
    }
}

#[cfg(test)]
mod tests;
