//! A running broker process: its partitions, its streams, and what it knows of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::metadata::{Image, ReplicaChange, changes};
use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::RoleChange;
use broker_core::{BrokerEpoch, BrokerId, Offset, Time, Timestamp, TopicPartition};

use super::fetcher::{Fetcher, Outgoing};
use super::hosted::{Hosted, Parked, topic_settings};
use super::membership::Membership;
use super::pull::FollowerStep;
use super::session::{Session, Step};
use super::storage::{LastRun, Storage};
use crate::env::Env;
use crate::event::{BrokerTimer, Message, Peer, ProduceError, Pull, PulledPartition};
use crate::trace::Micros;

const METADATA_INTERVAL: Micros = 8_000;
const ISR_INTERVAL: Micros = 200_000;
const FETCHERS_INTERVAL: Micros = 50_000;
const FLUSHES_INTERVAL: Micros = 250_000;
const CHECKPOINT_INTERVAL: Micros = 700_000;
/// `replica.fetch.wait.max.ms`.
const PULL_WAIT: Micros = 300_000;

/// See the module's documentation.
pub(crate) struct Process {
    pub(super) index: usize,
    storage: Storage,
    pub(crate) hosted: BTreeMap<TopicPartition, Hosted>,
    pub(crate) image: Arc<Image>,
    /// Entries of the metadata log that were applied.
    pub(super) applied: usize,
    /// A log could not be opened.
    offline: bool,
    /// Metadata was applied that has this run's registration.
    joined: bool,
    /// Metadata comes late until then.
    metadata_slow_until: Micros,
    pub(super) membership: Membership,
    fetchers: BTreeMap<usize, Fetcher>,
    followed: BTreeMap<TopicPartition, usize>,
    sessions: BTreeMap<u64, Session>,
}

impl Process {
    pub(super) fn new(index: usize, storage: Storage, last_run: LastRun) -> Self {
        Self {
            index,
            storage,
            hosted: BTreeMap::new(),
            image: Arc::new(Image::default()),
            applied: 0,
            offline: false,
            joined: false,
            metadata_slow_until: 0,
            membership: Membership::new(last_run),
            fetchers: BTreeMap::new(),
            followed: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    pub(super) const fn me(&self) -> BrokerId {
        BrokerId(self.index as i32)
    }

    pub(super) const fn peer(&self) -> Peer {
        Peer::Broker(self.index)
    }

    pub(super) fn clock(&self, env: &Env) -> (Time, Timestamp) {
        (env.time(self.index), env.timestamp(self.index))
    }

    /// Epoch under which this process is registered.
    pub(crate) const fn registered_epoch(&self) -> Option<BrokerEpoch> {
        self.membership.epoch
    }

    pub(crate) fn slow_metadata(&mut self, until: Micros) {
        self.metadata_slow_until = until;
    }

    pub(super) fn wants_shutdown(&mut self, now: Micros) {
        self.membership.wants_shutdown.get_or_insert(now);
    }

    pub(super) const fn may_stop(&self) -> bool {
        self.membership.may_stop
    }

    /// Whether only a restart brings all logs back.
    pub(crate) fn has_failed_log(&self) -> bool {
        self.offline || self.hosted.values().any(|hosted| hosted.log.is_failed())
    }

    /// End of a log, whether it is in use yet or not.
    pub(crate) fn log_end(&self, id: TopicPartition) -> Option<Offset> {
        let hosted = self.hosted.get(&id).map(|hosted| hosted.log.end_offset());
        hosted.or_else(|| {
            self.storage
                .found()
                .find(|(found, _)| *found == id)
                .map(|(_, end)| end)
        })
    }

    /// Ends of the logs.
    pub(super) fn log_ends(&self) -> BTreeMap<TopicPartition, Offset> {
        let hosted = self
            .hosted
            .iter()
            .map(|(id, hosted)| (*id, hosted.log.end_offset()));
        self.storage.found().chain(hosted).collect()
    }

    /// Makes everything durable, and marks that.
    pub(super) fn close(&mut self) {
        let mut clean = self.storage.sync_unclaimed();
        for hosted in self.hosted.values_mut() {
            match hosted.log.checkpoint_handle().sync() {
                Ok(synced) => hosted.log.synced(synced),
                Err(_) => clean = false,
            }
        }
        clean &= self.storage.write_checkpoints(self.hosted.values());
        if clean {
            self.storage.mark_clean_shutdown();
        }
    }

    pub(super) fn handle_message(&mut self, env: &mut Env, from: Peer, message: Message) {
        match message {
            Message::Produce {
                request,
                partition,
                batch,
                acks,
            } => {
                self.produce(env, (from, request), partition, &batch, acks);
            }
            Message::Fetch {
                request,
                partition,
                epoch,
                offset,
            } => {
                let result = self.fetch(partition, epoch, offset);
                env.send(self.peer(), from, Message::Fetched { request, result });
            }
            Message::EpochEnd {
                request,
                partition,
                current,
                wanted,
            } => {
                let result = self.epoch_end(partition, current, wanted);
                env.send(self.peer(), from, Message::EpochEnded { request, result });
            }
            Message::Pull(pull) => self.serve_pull(env, from, pull),
            Message::PullClosed { stream } => {
                self.sessions.remove(&stream);
            }
            Message::Pulled { stream, partitions } => self.take_over(env, from, stream, partitions),
            Message::Submitted { request, result } => self.handle_submitted(env, request, result),
            Message::HeartbeatAnswer { stream, answer } => {
                self.handle_heartbeat_answer(env, stream, answer);
            }
            // The controller's and the clients' messages do not come here.
            Message::Produced { .. }
            | Message::Fetched { .. }
            | Message::EpochEnded { .. }
            | Message::Submit { .. }
            | Message::Heartbeat { .. } => {}
        }
    }

    pub(super) fn handle_timer(&mut self, env: &mut Env, timer: BrokerTimer) {
        match timer {
            BrokerTimer::Metadata => {
                self.follow_metadata(env);
                let slow = env.now < self.metadata_slow_until;
                let interval = if slow { 60 } else { 1 } * METADATA_INTERVAL;
                let delay = interval / 2 + env.random.range(0, interval);
                env.timer(self.index, delay, timer);
            }
            BrokerTimer::Isr => {
                let all: BTreeSet<TopicPartition> = self.hosted.keys().copied().collect();
                self.propose_isr(env, &all);
                env.timer(self.index, ISR_INTERVAL, timer);
            }
            BrokerTimer::Fetchers => env.timer(self.index, FETCHERS_INTERVAL, timer),
            BrokerTimer::Flushes => {
                let all: Vec<TopicPartition> = self.hosted.keys().copied().collect();
                for id in all {
                    self.start_flush(env, id);
                }
                env.timer(self.index, FLUSHES_INTERVAL, timer);
            }
            BrokerTimer::Checkpoint => {
                self.checkpoint();
                env.timer(self.index, CHECKPOINT_INTERVAL, timer);
            }
            BrokerTimer::Flush(id) => self.end_flush(env, id),
            BrokerTimer::Pull { stream } => {
                let now = env.time(self.index);
                if let Some(session) = self.sessions.get_mut(&stream) {
                    let step = session.wake(now, &mut self.hosted, true);
                    self.answer_pulls(env, stream, step);
                }
            }
            BrokerTimer::Heartbeat => self.heartbeat(env),
        }
    }

    fn checkpoint(&mut self) {
        for hosted in self.hosted.values_mut() {
            if hosted.log.recovery_point() < hosted.log.active_segment_base()
                && let Ok(synced) = hosted.log.checkpoint_handle().sync()
            {
                hosted.log.synced(synced);
            }
        }
        // A checkpoint that can't be written costs a longer recovery.
        self.storage.write_checkpoints(self.hosted.values());
    }

    /// Applies what is committed and reaches this broker, several entries at a time.
    fn follow_metadata(&mut self, env: &mut Env) {
        let Some(controller) = env.controller else {
            return;
        };
        let behind = self.applied + 1 < env.images.len() || !self.joined;
        if !behind
            || !env
                .network
                .reaches(env.now, Peer::Broker(controller), self.peer())
        {
            return;
        }
        let new = Arc::clone(env.image());
        self.applied = env.images.len() - 1;
        // Earlier metadata has the roles of the run before.
        let registered = self.membership.epoch;
        self.joined |= registered.is_some_and(|epoch| new.is_registered(self.me(), epoch));
        if !self.joined && !mutated(Mutation::LeadBeforeRegistration) {
            return;
        }
        let old = std::mem::replace(&mut self.image, Arc::clone(&new));
        if old.topics.is_empty() {
            self.storage
                .delete_strays(&new, self.me(), || env.next_id());
        }
        for change in changes(&old, &new, self.me()) {
            match change {
                ReplicaChange::Added { partition, .. } => {
                    self.open(env, partition);
                    self.assign(env, partition);
                }
                ReplicaChange::Changed { partition, .. } => self.assign(env, partition),
                ReplicaChange::Removed { partition } => {
                    self.leave(partition);
                    self.remove(env, partition);
                }
                ReplicaChange::TopicConfig { topic } => {
                    self.release_moved(env);
                    for hosted in self
                        .hosted
                        .values_mut()
                        .filter(|hosted| hosted.id.topic == topic)
                    {
                        if let Some((settings, config)) = topic_settings(&new, hosted.id) {
                            hosted.set_settings(settings);
                            hosted.log.set_config(config);
                        }
                    }
                }
            }
        }
    }

    /// Deletes the log of a replica that is no longer here.
    fn remove(&mut self, env: &mut Env, id: TopicPartition) {
        let Some(mut hosted) = self.hosted.remove(&id) else {
            return;
        };
        hosted.abandon();
        for parked in hosted.abandoned {
            let (request, result) = (parked.request, Err(ProduceError::NotLeader));
            let answer = Message::Produced { request, result };
            env.send(self.peer(), parked.client, answer);
        }
        env.note(self.peer(), || {
            format!("deletes {}-{}", hosted.topic, id.partition)
        });
        // First, so that a new log of the same name is never held against an old checkpoint.
        self.storage.write_checkpoints(self.hosted.values());
        self.storage.delete(&hosted.topic, id, env.next_id());
    }

    fn open(&mut self, env: &mut Env, id: TopicPartition) {
        match self.storage.open_partition(id, &self.image, self.me()) {
            Ok(hosted) => {
                self.hosted.insert(id, hosted);
            }
            Err(failed) => {
                self.offline = true;
                env.note(self.peer(), || {
                    format!("can't open the log of {id}: {failed}")
                });
            }
        }
    }

    fn assign(&mut self, env: &mut Env, id: TopicPartition) {
        let now = env.time(self.index);
        let (Some(hosted), Some(state)) = (self.hosted.get_mut(&id), self.image.partition(id))
        else {
            return;
        };
        if let Some((settings, _)) = topic_settings(&self.image, id) {
            hosted.set_settings(settings);
        }
        let (change, end) = (hosted.assign(now, state), hosted.log.end_offset());
        let name = format!("{}-{}", hosted.topic, id.partition);
        match change {
            RoleChange::Unchanged => return,
            RoleChange::ReplicasAdded => {}
            RoleChange::BecameLeader { .. } => {
                let (epoch, isr) = (state.leader_epoch, &state.isr);
                env.note(Peer::Broker(self.index), || {
                    format!("leads {name} in epoch {epoch} from {end}, ISR {isr:?}")
                });
                env.check
                    .became_leader(env.now, BrokerId(self.index as i32), hosted);
                self.leave(id);
            }
            RoleChange::BecameFollower => {
                let (epoch, leader) = (state.leader_epoch, state.leader);
                env.note(Peer::Broker(self.index), || match leader {
                    Some(leader) => {
                        format!("follows {leader} in {name}, epoch {epoch}, from {end}")
                    }
                    None => format!("{name} has no leader in epoch {epoch}"),
                });
                self.leave(id);
                if let Some(leader) = leader {
                    self.followed.insert(id, leader.0 as usize);
                    self.fetchers
                        .entry(leader.0 as usize)
                        .or_default()
                        .follow(id);
                }
            }
        }
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.names(id))
        {
            session.news.insert(id);
        }
    }

    fn leave(&mut self, id: TopicPartition) {
        if let Some(leader) = self.followed.remove(&id)
            && let Some(fetcher) = self.fetchers.get_mut(&leader)
        {
            fetcher.leave(id);
        }
    }

    fn serve_pull(&mut self, env: &mut Env, from: Peer, pull: Pull) {
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

    fn answer_pulls(&mut self, env: &mut Env, stream: u64, step: Step) {
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

    fn take_over(
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
            match hosted.handle_pulled(now, &pulled) {
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

    /// What every event may have brought about: answers, wake-ups, pulls, checks.
    pub(super) fn settle(&mut self, env: &mut Env) {
        self.release_moved(env);
        self.wake_sessions(env);
        self.pump_fetchers(env);
        self.release_moved(env);
    }

    fn release_moved(&mut self, env: &mut Env) {
        let me = self.me();
        let mut released: Vec<(Parked, Result<Offset, ProduceError>)> = Vec::new();
        for (id, hosted) in &mut self.hosted {
            for parked in std::mem::take(&mut hosted.abandoned) {
                released.push((parked, Err(ProduceError::NotLeader)));
            }
            for parked in hosted.release_counted() {
                released.push((parked, Ok(parked.base_offset)));
            }
            if !std::mem::take(&mut hosted.moved) {
                continue;
            }
            env.check.high_watermark_moved(env.now, me, hosted);
            let high_watermark = hosted.replica.high_watermark();
            for parked in hosted.replicated.release(high_watermark) {
                released.push((parked, Ok(parked.base_offset)));
            }
            for session in self
                .sessions
                .values_mut()
                .filter(|session| session.names(*id))
            {
                session.lazy.insert(*id);
            }
        }
        for (parked, result) in released {
            let request = parked.request;
            env.send(
                self.peer(),
                parked.client,
                Message::Produced { request, result },
            );
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

    fn wake_sessions(&mut self, env: &mut Env) {
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

    fn pump_fetchers(&mut self, env: &mut Env) {
        let Some(registered) = self
            .image
            .brokers
            .get(&self.me())
            .map(|broker| broker.epoch)
        else {
            return;
        };
        let (from, timestamp) = (self.peer(), env.timestamp(self.index));
        for (leader, fetcher) in &mut self.fetchers {
            let to = Peer::Broker(*leader);
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

    /// The kernel closes the process's connections.
    pub(super) fn connections_break(&self, env: &mut Env) {
        if let Some(stream) = self.membership.stream {
            let delay = env.random.range(1_000, 30_000);
            let broker = self.index;
            env.after(
                delay,
                crate::event::Event::HeartbeatClosed { broker, stream },
            );
        }
    }
}
