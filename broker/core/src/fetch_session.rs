//! Incremental fetch sessions (KIP-227): a consumer names its partitions once, later requests and
//! responses carry only what changed.
//!
//! [`FetchSessions::begin`] turns a request into the [`FetchPlan`] of everything to read; when that
//! was read, [`FetchSessions::finish`] says which of it the response has to mention.
//!
//! Invariants: what a session's client was told and what it was not told again since is still true;
//! sessions and the partitions in them stay below their limits; a session answers the requests of
//! one client in the order of their epochs, and refuses any other.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::{Duration, LeaderEpoch, Offset, PartitionIndex, Time, TopicId};

/// Partitions in all sessions together; without room for more, fetches are answered without a
/// session.
pub const SESSION_PARTITIONS_MAX: usize = 200_000;
/// Session id in requests and responses outside a session.
pub const NO_SESSION: i32 = 0;
/// Session epoch of a request that neither belongs to a session nor starts one.
const EPOCH_FINAL: i32 = -1;
/// Session epoch of a request that starts a session.
const EPOCH_INITIAL: i32 = 0;
/// A session is safe from eviction for so long after its creation and after each use.
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// A topic as the request names it; a session keeps to one of the two forms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// Until Fetch version 12.
    Name(Arc<str>),
    /// From Fetch version 13 on (KIP-516).
    Id(TopicId),
}

/// Which [`TopicKey`]s a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKeyForm {
    Names,
    Ids,
}

/// A partition as the request names it. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey {
    pub topic: TopicKey,
    pub partition: PartitionIndex,
}

/// Where a partition is to be read, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    pub fetch_offset: Offset,
    /// [`LeaderEpoch::NONE`] if the client knows none.
    pub current_leader_epoch: LeaderEpoch,
    /// Epoch of the record before `fetch_offset`, [`LeaderEpoch::NONE`] if unknown.
    pub last_fetched_epoch: LeaderEpoch,
    pub bytes_max: usize,
}

/// A request as far as sessions are concerned.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    pub session_id: i32,
    pub session_epoch: i32,
    pub form: TopicKeyForm,
    /// Outside a session, all partitions to read; in one, new ones and changed positions.
    pub partitions: Vec<(PartitionKey, FetchPosition)>,
    /// Partitions to remove from the session.
    pub forgotten: Vec<PartitionKey>,
}

/// Everything to read for one request, in this order.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    pub partitions: Vec<(PartitionKey, FetchPosition)>,
    session: PlannedSession,
}

#[derive(Clone, Copy, Debug)]
enum PlannedSession {
    None,
    New { form: TopicKeyForm },
    Incremental { id: i32, next_epoch: i32 },
}

/// What reading one partition of a plan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Always mentioned: an error, or the fetcher's log diverges.
    Failed,
    /// Always mentioned.
    Records { ends: LogEnds },
    /// Mentioned when the client does not know `ends`.
    Nothing { ends: LogEnds },
}

/// What a client learns about a log besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// What the response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// [`NO_SESSION`] if the client has none from now on.
    pub session_id: i32,
    /// For each partition of the plan, whether the response mentions it.
    pub mentioned: Vec<bool>,
}

/// Why a request cannot be served in its session. The client starts a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("there is no fetch session {0}")]
    NotFound(i32),
    #[error("fetch session epoch {found} is not the expected {expected}")]
    InvalidEpoch { expected: i32, found: i32 },
    #[error("the fetch session names topics in the other form, by name or by id")]
    TopicKeyForm,
}

#[derive(Debug)]
struct Session {
    form: TopicKeyForm,
    created_at: Time,
    used_at: Time,
    next_epoch: i32,
    partitions: BTreeMap<PartitionKey, CachedPartition>,
    /// Partitions by turn: those that had records go last, so that none is starved.
    turns: BTreeMap<u64, PartitionKey>,
    next_turn: u64,
}

#[derive(Debug)]
struct CachedPartition {
    position: FetchPosition,
    turn: u64,
    /// What the client knows; `None` makes sure that it is told.
    told: Option<LogEnds>,
}

/// The sessions of one broker.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    sessions_max: usize,
    partitions: usize,
}

impl FetchSessions {
    /// No sessions yet, and room for `sessions_max`.
    #[must_use]
    pub const fn new(sessions_max: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            sessions_max,
            partitions: 0,
        }
    }

    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes up a request.
    ///
    /// # Errors
    /// [`SessionError`] when the session it belongs to cannot serve it.
    pub fn begin(&mut self, now: Time, request: SessionRequest) -> Result<FetchPlan, SessionError> {
        let SessionRequest {
            session_id,
            session_epoch,
            form,
            partitions,
            forgotten,
        } = request;
        let session = match session_epoch {
            EPOCH_FINAL => PlannedSession::None,
            EPOCH_INITIAL => PlannedSession::New { form },
            _ => {
                self.update(now, session_id, session_epoch, form)?;
                return self.change(session_id, partitions, &forgotten);
            }
        };
        self.remove(session_id);
        Ok(FetchPlan {
            partitions,
            session,
        })
    }

    fn update(
        &mut self,
        now: Time,
        id: i32,
        epoch: i32,
        form: TopicKeyForm,
    ) -> Result<(), SessionError> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(SessionError::NotFound(id))?;
        if session.next_epoch != epoch {
            let expected = session.next_epoch;
            return Err(SessionError::InvalidEpoch {
                expected,
                found: epoch,
            });
        }
        if session.form != form {
            return Err(SessionError::TopicKeyForm);
        }
        session.next_epoch = epoch.checked_add(1).unwrap_or(EPOCH_INITIAL + 1);
        session.used_at = now;
        Ok(())
    }

    fn change(
        &mut self,
        id: i32,
        changed: Vec<(PartitionKey, FetchPosition)>,
        forgotten: &[PartitionKey],
    ) -> Result<FetchPlan, SessionError> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(SessionError::NotFound(id))?;
        let before = session.partitions.len();
        for (key, position) in changed {
            session.set(key, position);
        }
        for key in forgotten {
            session.forget(key);
        }
        self.partitions = self.partitions - before + session.partitions.len();
        if session.partitions.is_empty() {
            self.remove(id);
            return Ok(FetchPlan {
                partitions: Vec::new(),
                session: PlannedSession::None,
            });
        }
        let plan = FetchPlan {
            partitions: session.in_turn(),
            session: PlannedSession::Incremental {
                id,
                next_epoch: session.next_epoch,
            },
        };
        if self.partitions > SESSION_PARTITIONS_MAX {
            self.remove(id);
            return Err(SessionError::NotFound(id));
        }
        Ok(plan)
    }

    /// Ends a request whose `plan` was read with `outcomes`, one for each of its partitions.
    /// `new_id` is a random number for the session that this may create.
    ///
    /// # Errors
    /// [`SessionError`] when the session was evicted or used by another request meanwhile.
    pub fn finish(
        &mut self,
        now: Time,
        plan: FetchPlan,
        outcomes: &[Outcome],
        new_id: i32,
    ) -> Result<Finished, SessionError> {
        debug_assert_eq!(plan.partitions.len(), outcomes.len());
        let all = || alloc::vec![true; outcomes.len()];
        match plan.session {
            PlannedSession::None => Ok(Finished {
                session_id: NO_SESSION,
                mentioned: all(),
            }),
            PlannedSession::New { form } => {
                let mentioned = all();
                let session_id = self.create(now, form, plan.partitions, outcomes, new_id);
                Ok(Finished {
                    session_id,
                    mentioned,
                })
            }
            PlannedSession::Incremental { id, next_epoch } => {
                let session = self
                    .sessions
                    .get_mut(&id)
                    .ok_or(SessionError::NotFound(id))?;
                if session.next_epoch != next_epoch {
                    let expected = session.next_epoch;
                    return Err(SessionError::InvalidEpoch {
                        expected,
                        found: next_epoch,
                    });
                }
                let keys = plan.partitions.iter().map(|(key, _)| key);
                let mentioned = keys
                    .zip(outcomes)
                    .map(|(key, outcome)| session.tell(key, *outcome))
                    .collect();
                Ok(Finished {
                    session_id: id,
                    mentioned,
                })
            }
        }
    }

    fn create(
        &mut self,
        now: Time,
        form: TopicKeyForm,
        partitions: Vec<(PartitionKey, FetchPosition)>,
        outcomes: &[Outcome],
        new_id: i32,
    ) -> i32 {
        let count = partitions.len();
        if count == 0 || !self.make_room(now, count) {
            return NO_SESSION;
        }
        let mut session = Session {
            form,
            created_at: now,
            used_at: now,
            next_epoch: EPOCH_INITIAL + 1,
            partitions: BTreeMap::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
        };
        for ((key, position), outcome) in partitions.into_iter().zip(outcomes) {
            session.set(key.clone(), position);
            session.tell(&key, *outcome);
        }
        let mut id = new_id.checked_abs().unwrap_or(1).max(1);
        while self.sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    /// Whether a session of `count` partitions fits, if need be in the place of one that is not
    /// used any more, or of one that is old and smaller.
    fn make_room(&mut self, now: Time, count: usize) -> bool {
        let fits = |sessions: &Self| {
            sessions.sessions.len() < sessions.sessions_max
                && sessions.partitions + count <= SESSION_PARTITIONS_MAX
        };
        if fits(self) {
            return true;
        }
        let unused = self
            .sessions
            .iter()
            .min_by_key(|(_, session)| session.used_at);
        let unused = unused.filter(|(_, session)| now.since(session.used_at) > EVICTION_AGE);
        let smallest = || {
            let old = |session: &Session| now.since(session.created_at) > EVICTION_AGE;
            let old = self.sessions.iter().filter(|(_, session)| old(session));
            let smallest = old.min_by_key(|(_, session)| session.partitions.len());
            smallest.filter(|(_, session)| session.partitions.len() < count)
        };
        let evicted = unused.or_else(smallest).map(|(id, _)| *id);
        if let Some(id) = evicted {
            self.remove(id);
        }
        fits(self)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }
}

impl Session {
    fn set(&mut self, key: PartitionKey, position: FetchPosition) {
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.position = position;
            return;
        }
        let turn = self.take_turn();
        self.turns.insert(turn, key.clone());
        self.partitions.insert(
            key,
            CachedPartition {
                position,
                turn,
                told: None,
            },
        );
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(cached) = self.partitions.remove(key) {
            self.turns.remove(&cached.turn);
        }
    }

    fn take_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    fn in_turn(&self) -> Vec<(PartitionKey, FetchPosition)> {
        let keys = self.turns.values();
        keys.map(|key| (key.clone(), self.partitions[key].position))
            .collect()
    }

    /// Whether the response mentions the partition; notes that it was told.
    fn tell(&mut self, key: &PartitionKey, outcome: Outcome) -> bool {
        let last_turn = self.take_turn();
        let Some(cached) = self.partitions.get_mut(key) else {
            return true;
        };
        let (told, mentioned) = match outcome {
            Outcome::Failed => (None, true),
            Outcome::Records { ends } => (Some(ends), true),
            Outcome::Nothing { ends } => (Some(ends), cached.told != Some(ends)),
        };
        cached.told = told;
        if matches!(outcome, Outcome::Records { .. }) {
            self.turns.remove(&cached.turn);
            cached.turn = last_turn;
            self.turns.insert(last_turn, key.clone());
        }
        mentioned
    }
}

#[cfg(test)]
mod tests;
