//! The follower's end of replication: one task for each leader broker pulls all the partitions that
//! this broker follows there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::{BrokerEpoch, BrokerId, TopicPartition};
use klamm_proto::v1::replica_client::ReplicaClient;
use klamm_proto::v1::{PullError, PullPartition, PullRequest, PullResponse};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::{PULL_MESSAGE_BYTES_MAX, ReplicationQuotas, from_key, to_key};
use crate::partition::{FollowerState, FollowerStep, Partition, RoleEvent, write_log_starts};
use crate::rpc::{self, Credentials};

/// Changes of the followed partitions that may wait for a busy fetcher.
const COMMANDS_MAX: usize = 1024;
/// Pulls under way on one stream.
const PULLS_MAX: usize = 2;
/// Wait before a connection that failed is made again, and before a refused partition is pulled
/// again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Wait before a partition is pulled again whose disk is full or whose leader sent damaged records.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Limits of pulls, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct FetcherSettings {
    pub wait_max: Duration,
    pub bytes_max: u32,
    pub partition_bytes_max: u32,
}

/// What every fetcher needs.
#[derive(Clone)]
struct Context {
    me: BrokerId,
    credentials: Credentials,
    settings: FetcherSettings,
    image: watch::Receiver<Arc<Image>>,
    quotas: Arc<ReplicationQuotas>,
}

/// All fetchers of this broker.
pub struct Fetchers {
    context: Context,
    leaders: BTreeMap<BrokerId, mpsc::Sender<Command>>,
    followed: BTreeMap<TopicPartition, BrokerId>,
}

enum Command {
    Follow(Arc<Partition>),
    Leave(TopicPartition),
}

impl Fetchers {
    #[must_use]
    pub const fn new(
        me: BrokerId,
        credentials: Credentials,
        settings: FetcherSettings,
        image: watch::Receiver<Arc<Image>>,
        quotas: Arc<ReplicationQuotas>,
    ) -> Self {
        let context = Context {
            me,
            credentials,
            settings,
            image,
            quotas,
        };
        Self {
            context,
            leaders: BTreeMap::new(),
            followed: BTreeMap::new(),
        }
    }

    /// Takes over the throttles of this broker, for both ends.
    pub fn configure(&self, image: &Image) {
        self.context.quotas.configure(image, self.context.me);
    }

    /// Follows and leaves partitions as their roles changed.
    pub async fn apply(&mut self, events: &[RoleEvent]) {
        for event in events {
            match event {
                RoleEvent::Follows {
                    partition,
                    leader: Some(leader),
                } => {
                    self.leave(partition.id()).await;
                    self.followed.insert(partition.id(), *leader);
                    self.send(*leader, Command::Follow(Arc::clone(partition)))
                        .await;
                }
                RoleEvent::Follows {
                    partition,
                    leader: None,
                } => self.leave(partition.id()).await,
                RoleEvent::Leads { partition, .. } => self.leave(partition.id()).await,
                RoleEvent::Gone { id, .. } => self.leave(*id).await,
            }
        }
    }

    async fn leave(&mut self, id: TopicPartition) {
        if let Some(leader) = self.followed.remove(&id) {
            self.send(leader, Command::Leave(id)).await;
        }
    }

    async fn send(&mut self, leader: BrokerId, command: Command) {
        let sender = self.leaders.entry(leader).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
            tokio::spawn(Fetcher::new(self.context.clone(), leader, receiver).run());
            sender
        });
        // A fetcher ends only with the process.
        let _ = sender.send(command).await;
    }
}

struct Fetcher {
    context: Context,
    leader: BrokerId,
    commands: mpsc::Receiver<Command>,
    /// Number of the present stream.
    stream: u64,
    partitions: BTreeMap<TopicPartition, Arc<Partition>>,
    /// To be named in the next pull.
    changed: BTreeSet<TopicPartition>,
    removed: BTreeSet<TopicPartition>,
    /// Refused by the leader or held back by the throttle; named again at this time.
    retry: BTreeMap<TopicPartition, Instant>,
    /// What came last was damaged: the leader is told in the next pull.
    refused: BTreeSet<TopicPartition>,
}

#[derive(Debug, Error)]
enum PullFailure {
    #[error("broker {0} is not registered")]
    UnknownLeader(BrokerId),
    #[error("this broker is not registered yet")]
    NotRegistered,
    #[error(transparent)]
    Address(#[from] rpc::AddressError),
    #[error("{0}")]
    Call(#[from] tonic::Status),
    #[error("the leader closed the stream")]
    Closed,
}

impl Fetcher {
    const fn new(context: Context, leader: BrokerId, commands: mpsc::Receiver<Command>) -> Self {
        Self {
            context,
            leader,
            commands,
            stream: 0,
            partitions: BTreeMap::new(),
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            retry: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    async fn run(mut self) {
        let mut last_failure = String::new();
        loop {
            if self.partitions.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.handle(command),
                    None => return,
                }
                continue;
            }
            self.changed = self.partitions.keys().copied().collect();
            self.removed.clear();
            self.retry.clear();
            let failure = match self.pull_until_failure().await {
                Ok(()) => continue,
                Err(failure) => failure.to_string(),
            };
            if failure != last_failure {
                tracing::warn!(leader = %self.leader, %failure, "replication interrupted; retrying");
                last_failure = failure;
            }
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let until = Instant::now() + RETRY_AFTER;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                Some(command) = self.commands.recv() => self.handle(command),
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Follow(partition) => {
                let id = partition.id();
                self.partitions.insert(id, partition);
                self.removed.remove(&id);
                self.changed.insert(id);
            }
            Command::Leave(id) => {
                self.partitions.remove(&id);
                self.changed.remove(&id);
                self.retry.remove(&id);
                self.refused.remove(&id);
                self.removed.insert(id);
            }
        }
    }

    /// `Ok` when nothing is left to follow, or when this broker has registered anew: the leader
    /// knows a partition's follower by the registration of the last pull that named it, which for
    /// an idle one is the first of the stream, and with an old one it could not enter the ISR.
    async fn pull_until_failure(&mut self) -> Result<(), PullFailure> {
        let registration = self.broker_epoch()?;
        self.stream += 1;
        let mut client = ReplicaClient::new(self.connection()?)
            .max_decoding_message_size(PULL_MESSAGE_BYTES_MAX);
        let (requests, receiver) = mpsc::channel(PULLS_MAX);
        self.write_changed().await;
        requests
            .send(self.request()?)
            .await
            .map_err(|_| PullFailure::Closed)?;
        let mut outstanding = 1;
        let mut answers = client
            .pull(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        tracing::info!(leader = %self.leader, partitions = self.partitions.len(), "replicating");
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => {
                    outstanding -= 1;
                    self.take_over(answer?.ok_or(PullFailure::Closed)?).await;
                }
                // A partition that is followed anew does not wait for the pull under way.
                Some(command) = self.commands.recv(), if outstanding < PULLS_MAX => {
                    self.handle(command);
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.handle(command);
            }
            if self.partitions.is_empty() || self.broker_epoch()? != registration {
                return Ok(());
            }
            self.resume_refused();
            if outstanding == 0 || !self.changed.is_empty() || !self.removed.is_empty() {
                self.write_changed().await;
                requests
                    .send(self.request()?)
                    .await
                    .map_err(|_| PullFailure::Closed)?;
                outstanding += 1;
            }
        }
    }

    fn connection(&self) -> Result<rpc::Connection, PullFailure> {
        let address = {
            let image = self.context.image.borrow();
            let broker = image
                .brokers
                .get(&self.leader)
                .ok_or(PullFailure::UnknownLeader(self.leader))?;
            format!("{}:{}", broker.rpc_host, broker.rpc_port)
        };
        Ok(rpc::connect(&address, &self.context.credentials)?)
    }

    fn broker_epoch(&self) -> Result<BrokerEpoch, PullFailure> {
        let image = self.context.image.borrow();
        let me = image
            .brokers
            .get(&self.context.me)
            .ok_or(PullFailure::NotRegistered)?;
        Ok(me.epoch)
    }

    /// The next pull: names what changed since the last one.
    fn request(&mut self) -> Result<PullRequest, PullFailure> {
        let broker_epoch = self.broker_epoch()?.0;
        let settings = self.context.settings;
        self.hold_back_throttled();
        let partitions = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|id| {
                let state = self.partitions.get(&id)?.follower_state()?;
                let pull = pull(id, state, settings.partition_bytes_max);
                Some(PullPartition {
                    refused: self.refused.remove(&id),
                    ..pull
                })
            })
            .collect();
        let removed = std::mem::take(&mut self.removed)
            .into_iter()
            .map(to_key)
            .collect();
        // A refused partition waits for no longer than its pause.
        let wait = if self.retry.is_empty() {
            settings.wait_max
        } else {
            RETRY_AFTER
        };
        Ok(PullRequest {
            replica_id: self.context.me.0,
            broker_epoch,
            wait_ms_max: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            bytes_max: settings.bytes_max,
            partitions,
            removed,
            stream: self.stream,
        })
    }

    /// Throttled partitions are named again when the quota allows it.
    fn hold_back_throttled(&mut self) {
        let wait = self.context.quotas.follower.wait();
        if wait.is_zero() {
            return;
        }
        let (me, partitions) = (self.context.me, &self.partitions);
        let held_back = self.changed.extract_if(.., |id| {
            partitions.get(id).is_some_and(|p| p.is_throttled(me))
        });
        let until = Instant::now() + wait;
        self.retry.extend(held_back.map(|id| (id, until)));
    }

    async fn take_over(&mut self, answer: PullResponse) {
        for pulled in answer.partitions {
            let Some(id) = pulled.key.as_ref().and_then(from_key) else {
                continue;
            };
            let Some(partition) = self.partitions.get(&id) else {
                continue;
            };
            let refused = pulled.error() != PullError::None;
            if !pulled.records.is_empty() && partition.is_throttled(self.context.me) {
                self.context.quotas.follower.record(pulled.records.len());
            }
            match partition.handle_pulled(&pulled) {
                FollowerStep::Continue => {
                    self.changed.insert(id);
                }
                FollowerStep::Idle => {}
                FollowerStep::Retry => {
                    if refused {
                        tracing::debug!(%partition, error = ?pulled.error(), "pull refused");
                    }
                    self.retry.insert(id, Instant::now() + RETRY_AFTER);
                }
                FollowerStep::BackOff => {
                    self.retry.insert(id, Instant::now() + BACK_OFF);
                }
                FollowerStep::Refused => {
                    self.refused.insert(id);
                    self.retry.insert(id, Instant::now() + BACK_OFF);
                }
                FollowerStep::Failed => {
                    self.partitions.remove(&id);
                    self.removed.insert(id);
                }
            }
        }
    }

    /// Makes durable what the pull is about to acknowledge. Where every message must be before it
    /// counts, that is what was taken over last, and what an earlier process or role left; everywhere
    /// it is where the log starts, with a pause before what could not be written is tried again.
    async fn write_changed(&mut self) {
        let named = self.changed.iter();
        let named: Vec<_> = named.filter_map(|id| self.partitions.get(id)).collect();
        let due = |is_due: fn(&Partition) -> bool| -> Vec<_> {
            let due = named.iter().filter(|partition| is_due(partition));
            due.map(|partition| Arc::clone(partition)).collect()
        };
        let (flushes, starts) = (
            due(Partition::flush_is_due),
            due(Partition::log_start_is_due),
        );
        flush_all(flushes).await;
        write_starts(starts.clone()).await;
        let unwritten = starts
            .iter()
            .filter(|partition| partition.log_start_is_due());
        let again_at = Instant::now() + BACK_OFF;
        self.retry
            .extend(unwritten.map(|partition| (partition.id(), again_at)));
    }

    fn resume_refused(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .retry
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.retry.remove(&id);
            self.changed.insert(id);
        }
    }
}

fn pull(id: TopicPartition, state: FollowerState, bytes_max: u32) -> PullPartition {
    PullPartition {
        key: Some(to_key(id)),
        leader_epoch: state.leader_epoch.0,
        fetch_offset: state.fetch_offset.0,
        last_fetched_epoch: state.last_epoch.0,
        log_start_offset: state.log_start.0,
        bytes_max,
        refused: false,
    }
}

async fn write_starts(partitions: Vec<Arc<Partition>>) {
    if partitions.is_empty() {
        return;
    }
    let written = tokio::task::spawn_blocking(move || write_log_starts(partitions));
    if let Err(error) = written.await {
        tracing::error!(%error, "writing log start offsets ended abnormally");
    }
}

async fn flush_all(partitions: Vec<Arc<Partition>>) {
    if partitions.is_empty() {
        return;
    }
    let flushed = tokio::task::spawn_blocking(move || {
        for partition in partitions {
            if let Err(error) = partition.flush_pulled() {
                tracing::error!(%partition, %error, "fsync failed; the log takes no more writes");
            }
        }
    });
    if let Err(error) = flushed.await {
        tracing::error!(%error, "flushing ended abnormally");
    }
}
