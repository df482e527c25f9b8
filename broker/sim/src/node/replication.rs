//! The streams between a process and its leaders and followers. Mirrors `broker/src/replica`.

use broker_core::mutation::{Mutation, mutated};
use broker_core::{BrokerId, TopicPartition};

use super::fetcher::Outgoing;
use super::process::Process;
use super::pull::FollowerStep;
use super::session::{Session, Step};
use crate::env::Env;
use crate::event::{BrokerTimer, Message, Peer, Pull, PulledPartition};
use crate::trace::Micros;

/// `replica.fetch.wait.max.ms`.
const PULL_WAIT: Micros = 300_000;

impl Process {
    pub(super) fn serve_pull(&mut self, env: &mut Env, from: Peer, pull: Pull) {
        let Peer::Broker(follower) = from else {
            return;
        };
        let stream = pull.stream;
        // A follower has one stream here; an older one is found dead when it opens another.
        if env.random.chance(500) {
            self.sessions
                .retain(|id, session| session.follower != follower || *id >= stream);
        }
        let now = env.time(self.index);
        let session = self
            .sessions
            .entry(stream)
            .or_insert_with(|| Session::new(follower, stream));
        let step = session.pull(now, pull, &mut self.hosted);
        env.timer(self.index, PULL_WAIT, BrokerTimer::Pull { stream });
        self.answer_pulls(env, stream, step);
    }

    pub(super) fn answer_pulls(&mut self, env: &mut Env, stream: u64, step: Step) {
        let (from, Some(session)) = (self.peer(), self.sessions.get_mut(&stream)) else {
            return;
        };
        let to = Peer::Broker(session.follower);
        let sent = step.answers.into_iter().all(|partitions| {
            let answer = Message::Pulled { stream, partitions };
            env.send_in_order(from, to, answer, &mut session.last)
        });
        if !sent {
            self.sessions.remove(&stream);
        }
        if !step.isr_due.is_empty() {
            self.propose_isr(env, &step.isr_due);
        }
    }

    pub(super) fn take_over(
        &mut self,
        env: &mut Env,
        from: Peer,
        stream: u64,
        partitions: Vec<PulledPartition>,
    ) {
        let (Peer::Broker(leader), now) = (from, env.timestamp(self.index)) else {
            return;
        };
        let Some(fetcher) = self
            .fetchers
            .get_mut(&leader)
            .filter(|f| f.is_current(stream) || mutated(Mutation::TakeStaleAnswers))
        else {
            return;
        };
        fetcher.heard(env.now);
        for pulled in partitions {
            let id = pulled.partition;
            let Some(hosted) = self.hosted.get_mut(&id).filter(|_| fetcher.follows(id)) else {
                continue;
            };
            let start = hosted.log.start_offset();
            let step = hosted.handle_pulled(now, &pulled);
            if hosted.log.start_offset() < start {
                let me = BrokerId(self.index as i32);
                env.check.log_starts_over(me, id, hosted.log.start_offset());
            }
            match step {
                FollowerStep::Continue => fetcher.continues(id),
                FollowerStep::Idle => {}
                FollowerStep::Retry => fetcher.retries(env.now, id),
                FollowerStep::Failed => fetcher.leave(id),
                FollowerStep::Truncated { from, to } => {
                    let name = format!("{}-{}", hosted.topic, id.partition);
                    env.note(Peer::Broker(self.index), || {
                        format!("cuts {name} from {from} to {to}")
                    });
                    fetcher.continues(id);
                }
            }
        }
    }

    /// Tells followers' streams of an append.
    pub(super) fn appended(&mut self, id: TopicPartition) {
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.names(id))
        {
            session.news.insert(id);
        }
    }

    pub(super) fn wake_sessions(&mut self, env: &mut Env) {
        let now = env.time(self.index);
        let woken = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.news.is_empty());
        let woken: Vec<u64> = woken.map(|(stream, _)| *stream).collect();
        for stream in woken {
            if let Some(session) = self.sessions.get_mut(&stream) {
                let step = session.wake(now, &mut self.hosted, false);
                self.answer_pulls(env, stream, step);
            }
        }
    }

    pub(super) fn pump_fetchers(&mut self, env: &mut Env) {
        let Some(registered) = self
            .known
            .brokers
            .get(&self.me())
            .map(|broker| broker.epoch)
        else {
            return;
        };
        let (from, timestamp) = (self.peer(), env.timestamp(self.index));
        for (leader, fetcher) in &mut self.fetchers {
            let to = Peer::Broker(*leader);
            let starts = fetcher.named(|id| {
                let hosted = self.hosted.get(&id);
                hosted.is_some_and(|hosted| hosted.log_start_is_due())
            });
            if !starts.is_empty() && !self.storage.write_checkpoints(&mut self.hosted) {
                for id in starts {
                    fetcher.retries(env.now, id);
                }
            }
            while let Some(outgoing) =
                fetcher.step((env.now, timestamp), registered, &mut self.hosted, || {
                    env.next_id()
                })
            {
                let message = match outgoing {
                    Outgoing::Pull(pull) => Message::Pull(pull),
                    Outgoing::Close { stream } => Message::PullClosed { stream },
                };
                let is_pull = matches!(message, Message::Pull(_));
                let sent = env.send_in_order(from, to, message, &mut fetcher.last);
                if !sent && is_pull {
                    fetcher.broke(env.now);
                }
            }
        }
    }
}
