//! A running broker process: its partitions, its streams, and what it knows of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_core::metadata::Image;
use broker_core::mutation::{Mutation, mutated};
use broker_core::{BrokerEpoch, BrokerId, Offset, Time, Timestamp, TopicPartition};

use super::deletion::Deletion;
use super::fetcher::Fetcher;
use super::hosted::{Hosted, Parked};
use super::membership::Membership;
use super::session::Session;
use super::storage::{LastRun, Storage};
use crate::env::Env;
use crate::event::{BrokerTimer, Message, Peer, ProduceError};
use crate::trace::Micros;

const METADATA_INTERVAL: Micros = 8_000;
const ISR_INTERVAL: Micros = 200_000;
const FETCHERS_INTERVAL: Micros = 50_000;
const FLUSHES_INTERVAL: Micros = 250_000;
const CHECKPOINT_INTERVAL: Micros = 700_000;

/// See the module's documentation.
pub(crate) struct Process {
    pub(super) index: usize,
    pub(super) storage: Storage,
    pub(crate) hosted: BTreeMap<TopicPartition, Hosted>,
    /// What was applied of the metadata.
    pub(crate) image: Arc<Image>,
    /// Its offset in the metadata log.
    pub(super) applied: usize,
    /// The newest metadata that reached this broker.
    pub(super) known: Arc<Image>,
    pub(super) known_offset: usize,
    /// What is being applied, while the disk is slow.
    pub(super) applying: Option<(usize, Arc<Image>)>,
    /// A log could not be opened.
    pub(super) offline: bool,
    /// Metadata was applied that has this run's registration.
    pub(super) joined: bool,
    /// Metadata comes late until then.
    pub(super) metadata_slow_until: Micros,
    pub(super) membership: Membership,
    pub(super) fetchers: BTreeMap<usize, Fetcher>,
    pub(super) followed: BTreeMap<TopicPartition, usize>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) deletions: Vec<Deletion>,
}

impl Process {
    pub(super) fn new(index: usize, storage: Storage, last_run: LastRun) -> Self {
        Self {
            index,
            storage,
            hosted: BTreeMap::new(),
            image: Arc::new(Image::default()),
            applied: 0,
            known: Arc::new(Image::default()),
            known_offset: 0,
            applying: None,
            offline: false,
            joined: false,
            metadata_slow_until: 0,
            membership: Membership::new(last_run),
            fetchers: BTreeMap::new(),
            followed: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deletions: Vec::new(),
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

    /// Makes everything durable, and marks that. Returns whether that was possible.
    pub(super) fn close(&mut self) -> bool {
        let clean = self.sync_logs() || mutated(Mutation::CallEveryStopClean);
        clean
            && self.storage.write_checkpoints(&mut self.hosted)
            && self.storage.mark_clean_shutdown()
    }

    fn sync_logs(&mut self) -> bool {
        if mutated(Mutation::CallEveryStopClean) {
            return false;
        }
        let mut clean = self.storage.sync_unclaimed();
        for hosted in self.hosted.values_mut() {
            match hosted.log.checkpoint_handle().sync() {
                Ok(synced) => hosted.log.synced(synced),
                Err(_) => clean = false,
            }
        }
        clean
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
                let result = self.fetch(env, partition, epoch, offset);
                env.send(self.peer(), from, Message::Fetched { request, result });
            }
            Message::EpochEnd {
                request,
                partition,
                current,
                wanted,
            } => {
                let result = self.epoch_end(env, partition, current, wanted);
                env.send(self.peer(), from, Message::EpochEnded { request, result });
            }
            Message::DeleteRecords {
                request,
                partition,
                before,
            } => self.delete_records(env, (from, request), partition, before),
            Message::Pull(pull) => self.serve_pull(env, from, pull),
            Message::PullClosed { stream } => {
                self.sessions.remove(&stream);
            }
            Message::Pulled { stream, partitions } => self.take_over(env, from, stream, partitions),
            Message::Submitted { request, result } => self.handle_submitted(env, request, result),
            Message::HeartbeatAnswer {
                stream,
                sent_at,
                answer,
            } => {
                self.handle_heartbeat_answer(env, stream, sent_at, answer);
            }
            // The controller's and the clients' messages do not come here.
            Message::Produced { .. }
            | Message::Fetched { .. }
            | Message::EpochEnded { .. }
            | Message::RecordsDeleted { .. }
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
            BrokerTimer::Applied => self.end_apply(env),
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
            BrokerTimer::Lease => self.extend_lease(env),
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
        self.storage.write_checkpoints(&mut self.hosted);
    }

    /// What every event may have brought about: answers, wake-ups, pulls, checks.
    pub(super) fn settle(&mut self, env: &mut Env) {
        self.release_moved(env);
        self.wake_sessions(env);
        self.pump_fetchers(env);
        self.release_moved(env);
        self.release_deletions(env);
    }

    pub(super) fn release_moved(&mut self, env: &mut Env) {
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
