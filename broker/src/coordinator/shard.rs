//! The groups of one partition of `__consumer_offsets`, from becoming its leader until resigning.
//!
//! Requests are serialised by a short lock over the pure [`Groups`]; its effects are carried out
//! before the lock is given back: answers go to who waits, records to the writer's queue, so the
//! order of the log is the order of the decisions.

use std::collections::HashMap;
use std::sync::Arc;

use broker_core::group::{AppendError, AppendId, Effect, Groups, Now, ReplyToken, Response};
use broker_core::{Offset, PartitionIndex, Time};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::error::Unavailable;
use super::rebalances::Rebalances;
use super::writer::Queue;
use crate::clock;

pub(super) struct Shard {
    pub(super) partition: PartitionIndex,
    state: Mutex<State>,
    /// The next deadline may be another one.
    pub(super) rescheduled: Notify,
    /// The writer has something to do.
    pub(super) queued: Notify,
    pub(super) resigned: CancellationToken,
}

struct State {
    phase: Phase,
    replies: HashMap<ReplyToken, oneshot::Sender<Response>>,
    next_token: u64,
    queue: Queue,
    rebalances: Arc<Rebalances>,
}

enum Phase {
    Loading,
    Serving(Box<Groups>),
    Resigned,
}

impl Shard {
    pub(super) fn new(partition: PartitionIndex, rebalances: Arc<Rebalances>) -> Arc<Self> {
        let state = State {
            phase: Phase::Loading,
            replies: HashMap::new(),
            next_token: 0,
            queue: Queue::default(),
            rebalances,
        };
        Arc::new(Self {
            partition,
            state: Mutex::new(state),
            rescheduled: Notify::new(),
            queued: Notify::new(),
            resigned: CancellationToken::new(),
        })
    }

    /// Begins to serve, unless the shard has resigned while it was loading.
    pub(super) fn serve(&self, mut groups: Groups) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Loading) {
            groups.handle_loaded(now());
            state.phase = Phase::Serving(Box::new(groups));
            self.rescheduled.notify_one();
        }
    }

    /// Sends everybody who waits to the new coordinator.
    pub(super) fn resign(&self) {
        self.resigned.cancel();
        let mut state = self.state.lock();
        if let Phase::Serving(groups) = std::mem::replace(&mut state.phase, Phase::Resigned) {
            let mut effects = Vec::new();
            groups.resign(&mut effects);
            state.perform(effects);
        }
        state.replies.clear();
    }

    /// Lets `f` ask or change the groups.
    pub(super) fn with_groups<R>(
        &self,
        f: impl FnOnce(&mut Groups, Now, &mut Vec<Effect>) -> R,
    ) -> Result<R, Unavailable> {
        self.run(&mut self.state.lock(), f)
    }

    /// Lets `f` take a request that is answered later, and waits for the answer.
    pub(super) async fn submit(
        &self,
        f: impl FnOnce(&mut Groups, Now, ReplyToken, &mut Vec<Effect>),
    ) -> Result<Response, Unavailable> {
        let receiver = {
            let mut state = self.state.lock();
            let token = ReplyToken(state.next_token);
            state.next_token += 1;
            let (sender, receiver) = oneshot::channel();
            state.replies.insert(token, sender);
            let taken = self.run(&mut state, |groups, now, out| f(groups, now, token, out));
            if let Err(unavailable) = taken {
                state.replies.remove(&token);
                return Err(unavailable);
            }
            receiver
        };
        receiver.await.map_err(|_| Unavailable::NotCoordinator)
    }

    fn run<R>(
        &self,
        state: &mut State,
        f: impl FnOnce(&mut Groups, Now, &mut Vec<Effect>) -> R,
    ) -> Result<R, Unavailable> {
        let groups = match &mut state.phase {
            Phase::Loading => return Err(Unavailable::Loading),
            Phase::Resigned => return Err(Unavailable::NotCoordinator),
            Phase::Serving(groups) => groups,
        };
        let deadline = groups.next_deadline();
        let mut effects = Vec::new();
        let result = f(groups, now(), &mut effects);
        if groups.next_deadline() != deadline {
            self.rescheduled.notify_one();
        }
        state.perform(effects);
        if !state.queue.is_empty() {
            self.queued.notify_one();
        }
        Ok(result)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        match &self.state.lock().phase {
            Phase::Serving(groups) => groups.next_deadline(),
            Phase::Loading | Phase::Resigned => None,
        }
    }

    /// Hands the writer what it may put into the next batch.
    pub(super) fn with_queue<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> R {
        f(&mut self.state.lock().queue)
    }

    pub(super) fn appended(&self, ids: &[AppendId], result: Result<Offset, AppendError>) {
        // Once resigned there is nobody left to tell.
        let _ = self.with_groups(|groups, now, out| {
            for id in ids {
                groups.handle_appended(now, *id, result, out);
            }
        });
    }
}

impl State {
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => {
                    if let Some(sender) = self.replies.remove(&token) {
                        // A client that went away no longer listens.
                        let _ = sender.send(response);
                    }
                }
                Effect::Append { id, records } => self.queue.push(id, records),
                Effect::Rebalance {
                    group,
                    generation,
                    reason,
                } => {
                    self.rebalances.note(&reason);
                    tracing::info!(%group, generation = generation.0, %reason, "group rebalances");
                }
            }
        }
    }
}

fn now() -> Now {
    Now {
        time: clock::now(),
        timestamp: clock::timestamp(),
    }
}
