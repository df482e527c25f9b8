//! The leader's end of replication: answers a follower's pulls as soon as there is news.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use broker_core::partition::{EpochError, Puller};
use broker_core::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};
use bytes::Bytes;
use futures::Stream;
use klamm_proto::v1::replica_server::Replica;
use klamm_proto::v1::{
    DivergingEpoch, LedSizesRequest, LedSizesResponse, PartitionSize, PullError, PullPartition,
    PullRequest, PullResponse, PulledPartition,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{ReplicationQuotas, from_key, to_key};
use crate::partition::{
    FollowerState, Partition, PartitionManager, PullWaker, PulledContent, ReadError,
};

/// Partitions in one follower's session.
const SESSION_PARTITIONS_MAX: usize = 1_000_000;
/// Longest wait for news that a follower may ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Partitions whose sizes are told in one answer, as many as a cluster may have.
const SIZES_MAX: usize = 200_000;
/// Largest share of one partition, and of one answer.
const BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Serves [`Replica`] from the partitions that this broker leads.
pub struct ReplicaService {
    partitions: Arc<PartitionManager>,
    quotas: Arc<ReplicationQuotas>,
    /// Where logs are read: not on the threads of elections and heartbeats, which serve gRPC.
    data: Handle,
}

impl ReplicaService {
    #[must_use]
    pub const fn new(
        partitions: Arc<PartitionManager>,
        quotas: Arc<ReplicationQuotas>,
        data: Handle,
    ) -> Self {
        Self {
            partitions,
            quotas,
            data,
        }
    }
}

#[tonic::async_trait]
impl Replica for ReplicaService {
    type PullStream = Pin<Box<dyn Stream<Item = Result<PullResponse, Status>> + Send>>;

    async fn pull(
        &self,
        request: Request<Streaming<PullRequest>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let session = Session {
            partitions: Arc::clone(&self.partitions),
            quotas: Arc::clone(&self.quotas),
            waker: Arc::new(PullWaker::default()),
            positions: BTreeMap::new(),
            throttled: BTreeSet::new(),
        };
        self.data.spawn(session.serve(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn led_sizes(
        &self,
        _: Request<LedSizesRequest>,
    ) -> Result<Response<LedSizesResponse>, Status> {
        let partitions = Arc::clone(&self.partitions);
        let sizes = self.data.spawn_blocking(move || led_sizes(&partitions));
        let partitions = sizes
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(LedSizesResponse { partitions }))
    }
}

/// The largest first.
fn led_sizes(partitions: &PartitionManager) -> Vec<PartitionSize> {
    let all = partitions.all().into_iter();
    let led = all.filter(|partition| partition.is_leader());
    let mut sizes: Vec<PartitionSize> = led
        .map(|partition| PartitionSize {
            partition: Some(to_key(partition.id())),
            bytes: partition.size_bytes(),
        })
        .collect();
    sizes.sort_unstable_by_key(|size| std::cmp::Reverse(size.bytes));
    sizes.truncate(SIZES_MAX);
    sizes
}

struct Position {
    state: FollowerState,
    bytes_max: u32,
    /// Something was sent from here. What comes next starts elsewhere: the follower says where when
    /// it has taken that over.
    answered: bool,
    /// What tells the session of its appends, as this broker opened it last.
    watched: Weak<Partition>,
}

struct Session {
    partitions: Arc<PartitionManager>,
    quotas: Arc<ReplicationQuotas>,
    waker: Arc<PullWaker>,
    positions: BTreeMap<TopicPartition, Position>,
    /// Have records that wait for the quota.
    throttled: BTreeSet<TopicPartition>,
}

impl Session {
    async fn serve(
        mut self,
        mut requests: Streaming<PullRequest>,
        answers: mpsc::Sender<Result<PullResponse, Status>>,
    ) {
        let mut next = None;
        loop {
            let received = match next.take() {
                Some(request) => Ok(Some(request)),
                None => requests.message().await,
            };
            let outcome = match received {
                Ok(Some(request)) => self.pull(&request, &mut requests).await,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            match outcome {
                Ok((answer, following)) => {
                    next = following;
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                Err(status) => {
                    tracing::debug!(%status, "a follower's stream ended");
                    // The follower may be gone already.
                    let _ = answers.send(Err(status)).await;
                    return;
                }
            }
        }
    }

    /// Waits for news until the request's deadline or until the follower asks again, as it does
    /// when it follows another partition; that request is returned too.
    async fn pull(
        &mut self,
        request: &PullRequest,
        requests: &mut Streaming<PullRequest>,
    ) -> Result<(PullResponse, Option<PullRequest>), Status> {
        let puller = Puller {
            broker: BrokerId(request.replica_id),
            broker_epoch: BrokerEpoch(request.broker_epoch),
            stream: request.stream,
        };
        let mut due = self.update(request)?;
        let deadline =
            Instant::now() + Duration::from_millis(u64::from(request.wait_ms_max)).min(WAIT_MAX);
        let mut budget = request.bytes_max.min(BYTES_MAX) as usize;
        let mut answer = PullResponse::default();
        let mut following = None;
        loop {
            due.append(&mut self.waker.take_news());
            let throttled_for = self.quotas.leader.wait();
            if throttled_for.is_zero() {
                due.append(&mut self.throttled);
            }
            self.collect(puller, due, &mut budget, &mut answer);
            if !answer.partitions.is_empty() || following.is_some() {
                break;
            }
            tokio::select! {
                () = self.waker.woken() => {}
                () = sleep_until(deadline) => break,
                () = sleep(throttled_for), if !self.throttled.is_empty() => {}
                received = requests.message() => match received? {
                    Some(request) => following = Some(request),
                    None => break,
                },
            }
            due = BTreeSet::new();
        }
        self.add_high_watermarks(puller, &mut answer);
        Ok((answer, following))
    }

    /// Takes over what the request changes in the session; returns the partitions it names.
    fn update(&mut self, request: &PullRequest) -> Result<BTreeSet<TopicPartition>, Status> {
        for id in request.removed.iter().filter_map(from_key) {
            self.positions.remove(&id);
        }
        let mut named = BTreeSet::new();
        for partition in &request.partitions {
            let id = partition
                .key
                .as_ref()
                .and_then(from_key)
                .ok_or_else(|| Status::invalid_argument("a partition without a valid key"))?;
            if self.positions.len() >= SESSION_PARTITIONS_MAX && !self.positions.contains_key(&id) {
                return Err(Status::resource_exhausted(
                    "too many partitions in one session",
                ));
            }
            take_position(&mut self.positions, id, position(partition));
            if partition.refused {
                self.look_after_refusal(id, partition);
            }
            named.insert(id);
        }
        Ok(named)
    }

    /// The follower found damaged what it got from this position last: either the way or the log is.
    fn look_after_refusal(&self, id: TopicPartition, refused: &PullPartition) {
        let Some(partition) = self.partitions.get(id) else {
            return;
        };
        let bytes_max = refused.bytes_max.min(BYTES_MAX) as usize;
        if !partition.suspect(Offset(refused.fetch_offset), bytes_max) {
            tracing::warn!(
                %partition, offset = refused.fetch_offset,
                "a follower got damaged records, which are well here: look at the network and its memory"
            );
        }
    }

    /// Adds what is new in `due`, within the budget; what does not fit stays marked.
    fn collect(
        &mut self,
        puller: Puller,
        due: BTreeSet<TopicPartition>,
        budget: &mut usize,
        answer: &mut PullResponse,
    ) {
        for id in due {
            let Some(position) = self.positions.get(&id) else {
                continue;
            };
            if position.answered {
                continue;
            }
            if *budget == 0 {
                self.waker.mark(id);
                continue;
            }
            let bytes_max = (position.bytes_max.min(BYTES_MAX) as usize).min(*budget);
            let state = position.state;
            let pulled = self.read(puller, id, state, bytes_max);
            if let Some(pulled) = pulled {
                *budget = budget.saturating_sub(pulled.records.len());
                if pulled.error() != PullError::None {
                    // The follower names it again once it knows better.
                    self.positions.remove(&id);
                } else if let Some(position) = self.positions.get_mut(&id) {
                    position.answered = true;
                }
                answer.partitions.push(pulled);
            }
        }
    }

    /// `None` without news, and while the throttle holds it back.
    fn read(
        &mut self,
        puller: Puller,
        id: TopicPartition,
        state: FollowerState,
        bytes_max: usize,
    ) -> Option<PulledPartition> {
        let mut answer = PulledPartition {
            key: Some(to_key(id)),
            leader_epoch: state.leader_epoch.0,
            ..PulledPartition::default()
        };
        let Some(partition) = self.partitions.get(id) else {
            answer.set_error(PullError::UnknownPartition);
            return Some(answer);
        };
        self.watch(id, &partition);
        let pulled = match partition.serve_pull(puller, state, bytes_max) {
            Ok(pulled) => pulled,
            Err(error) => {
                answer.set_error(pull_error(&error));
                return Some(answer);
            }
        };
        if pulled.may_enter_isr {
            self.partitions.isr_change_due(id);
        }
        answer.leader_epoch = pulled.epoch.0;
        answer.high_watermark = pulled.high_watermark.0;
        answer.log_start_offset = pulled.log_start.0;
        match pulled.content {
            PulledContent::Nothing => return None,
            PulledContent::OutOfRange => answer.set_error(PullError::OffsetOutOfRange),
            PulledContent::Diverging(divergence) => {
                answer.diverging = Some(DivergingEpoch {
                    epoch: divergence.epoch.0,
                    end_offset: divergence.end_offset.0,
                });
            }
            PulledContent::Records(slice) => {
                if pulled.throttled && !self.quotas.leader.wait().is_zero() {
                    self.throttled.insert(id);
                    return None;
                }
                match partition.read_for_follower(&slice, pulled.damaged) {
                    Ok(records) => answer.records = records,
                    Err(error) => {
                        tracing::error!(%partition, %error, "records are not handed on to a follower");
                        answer.set_error(PullError::Storage);
                    }
                }
                if pulled.throttled {
                    self.quotas.leader.record(answer.records.len());
                }
            }
        }
        Some(answer)
    }

    /// Has the session told of what is appended from now on, and the follower of the high watermark.
    /// Comes before what it has is read, and of the same partition: it may be opened, or opened anew,
    /// at any time.
    fn watch(&mut self, id: TopicPartition, partition: &Arc<Partition>) {
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        if position.watched.as_ptr() != Arc::as_ptr(partition) {
            position.watched = Arc::downgrade(partition);
            partition.wake_at_append(&self.waker);
            self.waker.mark_lazily(id);
        }
    }

    /// Lets the follower know high watermarks that moved since the last answer.
    fn add_high_watermarks(&self, puller: Puller, answer: &mut PullResponse) {
        // A follower whose log diverges does not take the high watermark over.
        let answered: BTreeSet<_> = answer
            .partitions
            .iter()
            .filter(|p| p.diverging.is_none())
            .filter_map(|p| p.key.as_ref().and_then(from_key))
            .collect();
        for id in self.waker.take_lazy() {
            if answered.contains(&id) {
                continue;
            }
            let (Some(position), Some(partition)) =
                (self.positions.get(&id), self.partitions.get(id))
            else {
                continue;
            };
            let Ok(pulled) = partition.serve_pull(puller, position.state, 0) else {
                continue;
            };
            if matches!(pulled.content, PulledContent::Nothing) {
                answer.partitions.push(PulledPartition {
                    key: Some(to_key(id)),
                    leader_epoch: pulled.epoch.0,
                    high_watermark: pulled.high_watermark.0,
                    log_start_offset: pulled.log_start.0,
                    records: Bytes::new(),
                    ..PulledPartition::default()
                });
            } else {
                // Known once the follower has taken over what comes before.
                self.waker.mark_lazily(id);
            }
        }
    }
}

/// Takes over where the follower is. In a new epoch it has to be told the high watermark: what it was
/// told in an earlier one it may not have taken over, and nothing may ever be appended again that would
/// bring it along.
fn take_position(
    positions: &mut BTreeMap<TopicPartition, Position>,
    id: TopicPartition,
    mut position: Position,
) {
    match positions.entry(id) {
        Entry::Vacant(entry) => _ = entry.insert(position),
        Entry::Occupied(entry) => {
            let known = entry.into_mut();
            if known.state.leader_epoch == position.state.leader_epoch {
                position.watched = std::mem::take(&mut known.watched);
            }
            *known = position;
        }
    }
}

fn position(partition: &PullPartition) -> Position {
    Position {
        state: FollowerState {
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            fetch_offset: Offset(partition.fetch_offset),
            last_epoch: LeaderEpoch(partition.last_fetched_epoch),
            log_start: Offset(partition.log_start_offset),
        },
        bytes_max: partition.bytes_max,
        answered: false,
        watched: Weak::new(),
    }
}

const fn pull_error(error: &ReadError) -> PullError {
    match error {
        ReadError::Epoch(EpochError::Fenced { .. }) => PullError::FencedLeaderEpoch,
        ReadError::Epoch(EpochError::Unknown { .. }) => PullError::UnknownLeaderEpoch,
        ReadError::Epoch(EpochError::NotLeader(_)) => PullError::NotLeader,
        ReadError::Closed => PullError::UnknownPartition,
        ReadError::OutOfRange { .. }
        | ReadError::OffsetNotAvailable
        | ReadError::Log(_)
        | ReadError::Timestamp(_)
        | ReadError::Damaged(_) => PullError::Storage,
    }
}

#[cfg(test)]
mod tests;
