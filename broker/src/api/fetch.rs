//! Fetch (KIP-74, KIP-227, KIP-320, KIP-516, KIP-951): record batches to consumers.
//!
//! Records are not read here: the response names regions of segment files, which the connection
//! sends. A fetch that finds fewer than `min_bytes` waits for progress on any of its partitions.

mod response;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use broker_core::client_quota::QuotaKind;
use broker_core::fetch_session::{
    FetchPlan, FetchPosition, LogEnds, Outcome, PartitionKey, SessionRequest, TopicKey,
    TopicKeyForm,
};
use broker_core::metadata::Image;
use broker_core::{LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use broker_log::{LogSlice, MinOneBatch};
use broker_wire::message::{FetchRequest, FetchResponse};
use broker_wire::{ErrorCode, Str, Uuid};
use tokio::time::{Instant, timeout_at};

use super::context::{Context, RequestInfo, topic_id};
use super::error::KafkaError;
use super::lookup::find_hosted;
use crate::client_quotas::{response_bytes_max, throttle_ms};
use crate::clock;
use crate::partition::{FetchWaker, Isolation, Partition, ReadError};
use response::ResponseBuilder;

/// Bytes of records in one response; `fetch.max.bytes` of Kafka.
const RESPONSE_BYTES_MAX: usize = 55 * 1024 * 1024;
/// First version with topic ids (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 13;
const READ_COMMITTED: i8 = 1;
/// How long an answer without any records waits for a new leader to learn the high watermark: before
/// that it would tell a reader that it has reached the end.
const END_UNKNOWN_WAIT: Duration = Duration::from_secs(2);

/// What a partition of the plan is read from.
type Source = Result<Arc<Partition>, ErrorCode>;

/// What was read of one partition.
#[derive(Debug)]
enum Read {
    Failed(ErrorCode),
    /// The fetcher's log diverges: where its last epoch ends here (KIP-595).
    Diverging {
        epoch: LeaderEpoch,
        end_offset: Offset,
        ends: LogEnds,
        last_stable_offset: Offset,
    },
    Records {
        slice: Option<LogSlice>,
        aborted: Vec<broker_log::AbortedTransaction>,
        ends: LogEnds,
        last_stable_offset: Offset,
        end_is_known: bool,
    },
}

impl Read {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(_) | Self::Diverging { .. } => Outcome::Failed,
            Self::Records {
                slice: Some(_),
                ends,
                ..
            } => Outcome::Records { ends: *ends },
            Self::Records {
                slice: None, ends, ..
            } => Outcome::Nothing { ends: *ends },
        }
    }
}

/// Bounds of one response.
#[derive(Clone, Copy)]
struct Limits {
    bytes_min: usize,
    bytes_max: usize,
    start: Instant,
    wait_max: Duration,
    isolation: Isolation,
}

impl Limits {
    fn deadline(&self, reads: &Reads) -> Instant {
        let wait = if reads.bytes == 0 && reads.end_is_unknown {
            self.wait_max.max(END_UNKNOWN_WAIT)
        } else {
            self.wait_max
        };
        self.start + wait
    }
}

/// Answers with regions of files: the token of external records is an index into them.
pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: FetchRequest,
) -> (FetchResponse, Vec<LogSlice>) {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Klamm's followers pull over gRPC: this is a broker of another cluster.
        return (failed(ErrorCode::InvalidRequest), Vec::new());
    }
    let isolation = isolation(request.isolation_level);
    let image = ctx.image();
    let quota = response_bytes_max(&image.client_quotas, info.client_id());
    let bytes_max = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(RESPONSE_BYTES_MAX)
        .min(quota.unwrap_or(usize::MAX));
    let limits = Limits {
        bytes_min: usize::try_from(request.min_bytes)
            .unwrap_or(0)
            .min(bytes_max),
        bytes_max,
        start: Instant::now(),
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        isolation,
    };
    let request = session_request(request, info.version);
    let plan = match ctx.fetch_sessions.lock().begin(clock::now(), request) {
        Ok(plan) => plan,
        Err(error) => return (failed(error.error_code()), Vec::new()),
    };
    let quotas = &image.client_quotas;
    let (reads, busy) = {
        let reading = pin!(read_until_enough(ctx, &image, &plan, limits));
        let timed = ctx.client_quotas.time(quotas, info.client_id(), reading);
        timed.await
    };
    let (mut response, slices) = respond(ctx, info, plan, reads, isolation);
    let bytes: usize = slices.iter().map(|slice| slice.len).sum();
    let kind = QuotaKind::Fetch;
    let throttle = (ctx.client_quotas).record(quotas, kind, info.client_id(), bytes as u64);
    response.throttle_time_ms = throttle_ms(throttle.max(busy));
    (response, slices)
}

fn failed(error_code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code,
        ..FetchResponse::default()
    }
}

fn session_request(request: FetchRequest, version: i16) -> SessionRequest {
    let form = match version {
        TOPIC_ID_VERSION_MIN.. => TopicKeyForm::Ids,
        _ => TopicKeyForm::Names,
    };
    let key = |name: &Str, id: Uuid| match form {
        TopicKeyForm::Ids => TopicKey::Id(topic_id(id)),
        TopicKeyForm::Names => TopicKey::Name(Arc::from(name.as_str())),
    };
    let mut partitions = Vec::new();
    for topic in request.topics {
        let topic_key = key(&topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.into_iter().map(|partition| {
            let key = PartitionKey {
                topic: topic_key.clone(),
                partition: PartitionIndex(partition.partition),
            };
            let position = FetchPosition {
                fetch_offset: Offset(partition.fetch_offset),
                current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                last_fetched_epoch: LeaderEpoch(partition.last_fetched_epoch),
                bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            };
            (key, position)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let topic_key = key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.into_iter().map(|partition| PartitionKey {
            topic: topic_key.clone(),
            partition: PartitionIndex(partition),
        }));
    }
    SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        form,
        partitions,
        forgotten,
    }
}

/// Reads all partitions, again and again until the response has enough, an error to report, or
/// waited long enough.
async fn read_until_enough(
    ctx: &Context,
    image: &Image,
    plan: &FetchPlan,
    limits: Limits,
) -> Vec<Read> {
    let sources: Vec<Source> = plan
        .partitions
        .iter()
        .map(|(key, _)| find_partition(ctx, image, key))
        .collect();
    let mut reads = read_all(plan, &sources, limits);
    while !reads.is_enough(limits.bytes_min) && Instant::now() < limits.deadline(&reads) {
        // A waker of its own for each round: partitions forget the ones that were dropped.
        let waker = Arc::new(FetchWaker::default());
        for partition in sources.iter().flatten() {
            partition.wake_at_progress(&waker);
        }
        // What came between the last read and the registration wakes nobody.
        reads = read_all(plan, &sources, limits);
        if reads.is_enough(limits.bytes_min)
            || timeout_at(limits.deadline(&reads), waker.woken())
                .await
                .is_err()
        {
            break;
        }
        reads = read_all(plan, &sources, limits);
    }
    reads.partitions
}

fn find_partition(ctx: &Context, image: &Image, key: &PartitionKey) -> Source {
    let id = partition_id(image, key).ok_or(match key.topic {
        TopicKey::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicKey::Id(_) => ErrorCode::UnknownTopicId,
    })?;
    find_hosted(ctx, image, id)
}

fn partition_id(image: &Image, key: &PartitionKey) -> Option<TopicPartition> {
    let topic = match &key.topic {
        TopicKey::Name(name) => *image.topic_ids.get(name)?,
        TopicKey::Id(id) => image.topics.get(id)?.id,
    };
    Some(TopicPartition {
        topic,
        partition: key.partition,
    })
}

/// One pass over all partitions of a plan.
struct Reads {
    partitions: Vec<Read>,
    bytes: usize,
    failed: bool,
    end_is_unknown: bool,
    /// There is more than a response may have: waiting brings none of it.
    more_follow: bool,
}

impl Reads {
    const fn is_enough(&self, bytes_min: usize) -> bool {
        self.failed || self.more_follow || self.bytes >= bytes_min || self.partitions.is_empty()
    }
}

fn read_all(plan: &FetchPlan, sources: &[Source], limits: Limits) -> Reads {
    let mut reads = Reads {
        partitions: Vec::with_capacity(sources.len()),
        bytes: 0,
        failed: false,
        end_is_unknown: false,
        more_follow: false,
    };
    for ((_, position), source) in plan.partitions.iter().zip(sources) {
        // The first records of a response are returned whatever their size (KIP-74).
        let min_one = if reads.bytes == 0 {
            MinOneBatch::Yes
        } else {
            MinOneBatch::No
        };
        let position = FetchPosition {
            bytes_max: position
                .bytes_max
                .min(limits.bytes_max.saturating_sub(reads.bytes)),
            ..*position
        };
        let read = match source {
            Ok(partition) => read(partition, position, limits.isolation, min_one)
                .unwrap_or_else(|error| Read::Failed(error.error_code())),
            Err(code) => Read::Failed(*code),
        };
        match &read {
            Read::Failed(_) | Read::Diverging { .. } => reads.failed = true,
            Read::Records {
                slice,
                end_is_known,
                ..
            } => {
                reads.end_is_unknown |= !end_is_known;
                reads.more_follow |= slice.as_ref().is_some_and(|slice| slice.more_follow);
                reads.bytes += slice.as_ref().map_or(0, |slice| slice.len);
            }
        }
        reads.partitions.push(read);
    }
    reads
}

fn read(
    partition: &Partition,
    position: FetchPosition,
    isolation: Isolation,
    min_one: MinOneBatch,
) -> Result<Read, ReadError> {
    let epoch = Some(position.current_leader_epoch);
    let last_fetched = position.last_fetched_epoch;
    if last_fetched != LeaderEpoch::NONE {
        let end = partition.epoch_end(epoch, last_fetched)?;
        let diverges = |(epoch, end): &(LeaderEpoch, Offset)| {
            *epoch < last_fetched || *end < position.fetch_offset
        };
        if let Some((end_epoch, end_offset)) = end.filter(diverges) {
            partition.check_confirmed()?;
            let at_end = partition.read(end_offset, epoch, isolation, 0, MinOneBatch::No)?;
            let ends = LogEnds {
                high_watermark: at_end.high_watermark,
                log_start: at_end.log_start,
            };
            return Ok(Read::Diverging {
                epoch: end_epoch,
                end_offset,
                ends,
                last_stable_offset: at_end.last_stable_offset,
            });
        }
    }
    let fetched = partition.read(
        position.fetch_offset,
        epoch,
        isolation,
        position.bytes_max,
        min_one,
    )?;
    Ok(Read::Records {
        ends: LogEnds {
            high_watermark: fetched.high_watermark,
            log_start: fetched.log_start,
        },
        slice: fetched.records,
        aborted: fetched.aborted,
        last_stable_offset: fetched.last_stable_offset,
        end_is_known: fetched.end_is_known,
    })
}

fn respond(
    ctx: &Context,
    info: &RequestInfo,
    plan: FetchPlan,
    reads: Vec<Read>,
    isolation: Isolation,
) -> (FetchResponse, Vec<LogSlice>) {
    let keys: Vec<PartitionKey> = plan.partitions.iter().map(|(key, _)| key.clone()).collect();
    let outcomes: Vec<Outcome> = reads.iter().map(Read::outcome).collect();
    let new_id = (uuid::Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32;
    let finished = ctx
        .fetch_sessions
        .lock()
        .finish(clock::now(), plan, &outcomes, new_id);
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => return (failed(error.error_code()), Vec::new()),
    };
    let image = ctx.image();
    let mut response = ResponseBuilder::new(&image, &info.listener, isolation);
    let mut last_topic = None;
    for ((key, read), mentioned) in keys.iter().zip(reads).zip(finished.mentioned) {
        if !mentioned {
            continue;
        }
        if last_topic != Some(&key.topic) {
            response.begin_topic(&key.topic);
            last_topic = Some(&key.topic);
        }
        response.push(key, read);
    }
    response.finish(finished.session_id)
}

pub(super) const fn isolation(level: i8) -> Isolation {
    match level {
        READ_COMMITTED => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_answer_waits_for_a_leader_that_does_not_know_the_end() {
        let limits = Limits {
            bytes_min: 1,
            bytes_max: 1000,
            start: Instant::now(),
            wait_max: Duration::from_millis(500),
            isolation: Isolation::ReadUncommitted,
        };
        let wait = |bytes, end_is_unknown| {
            let reads = Reads {
                partitions: Vec::new(),
                bytes,
                failed: false,
                end_is_unknown,
                more_follow: false,
            };
            limits.deadline(&reads) - limits.start
        };
        assert_eq!(wait(0, false), limits.wait_max);
        assert_eq!(wait(10, true), limits.wait_max);
        assert_eq!(wait(0, true), END_UNKNOWN_WAIT);
    }
}
