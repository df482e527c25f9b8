//! Produce (KIP-98, KIP-467, KIP-951): record batches from clients into partitions.
//!
//! Batches that begin a transaction are verified first ([`ProduceCall::verify`]). Then there are two
//! phases. [`ProduceCall::append`] checks and appends every batch at once, so that the order of
//! a connection's requests is the order of their records; [`Produced::answer`] waits until the
//! records are replicated as `acks` demands. In between, the connection appends further requests.

mod batch;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use broker_core::client_quota::QuotaKind;
use broker_core::metadata::Image;
use broker_core::partition::Acks;
use broker_core::transaction::TransactionalId;
use broker_core::{PartitionIndex, TopicId, TopicPartition};
use broker_wire::message::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use broker_wire::message::{ProduceRequest, ProduceResponse};
use broker_wire::{ApiKey, ErrorCode, Str, Uuid};
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::context::{Context, RequestInfo, topic_id};
use super::current_leader::CurrentLeaders;
use super::error::KafkaError;
use super::lookup::find_hosted;
use super::{Reply, ReplyTo};
use crate::client_quotas::{ClientQuotas, throttle_ms};
use crate::config::BrokerConfig;
use crate::partition::{Partition, ProducedBatch};
use batch::{Batch, FrameRecords, check};

/// First version with topic ids (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// A decoded request whose records are still in its frame.
pub struct ProduceCall {
    correlation_id: i32,
    info: RequestInfo,
    transactional_id: Option<TransactionalId>,
    acks: i16,
    timeout: Duration,
    topics: Vec<Topic<Result<Batch, Refusal>>>,
    frame: Bytes,
}

/// The results of a request, by topic.
struct Topic<T> {
    name: Str,
    id: Uuid,
    partitions: Vec<(PartitionIndex, T)>,
}

/// Why a batch is not appended.
struct Refusal {
    code: ErrorCode,
    message: Option<String>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

impl<E: KafkaError + std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::new(error.error_code(), error.to_string())
    }
}

/// A request whose batches are appended.
pub struct Produced {
    correlation_id: i32,
    info: RequestInfo,
    acks: i16,
    deadline: Instant,
    topics: Vec<Topic<Result<Accepted, Refusal>>>,
    throttle: Duration,
}

/// A batch that was appended, or had been before.
struct Accepted {
    /// `None` when that is no longer known.
    base_offset: Option<i64>,
    log_append_time_ms: i64,
    log_start_offset: i64,
    acknowledged: Option<oneshot::Receiver<()>>,
}

/// What a producer gets.
pub enum ProduceAnswer {
    Reply(Reply),
    /// `acks=0` and no error: nothing is sent.
    Nothing,
    /// `acks=0` and an error, which the client can only be told by closing its connection.
    Close(ErrorCode),
}

impl ProduceCall {
    /// Takes the request apart, so that nothing but `frame` holds on to the frame.
    pub(super) fn new(
        correlation_id: i32,
        info: RequestInfo,
        request: ProduceRequest,
        frame: Bytes,
    ) -> Self {
        let transactional_id = request.transactional_id.as_ref();
        let transactional_id = transactional_id.map(|id| TransactionalId::from(id.as_str()));
        let transactional = transactional_id.is_some();
        let topics = request.topic_data.into_iter().map(|topic| {
            let TopicProduceData {
                name,
                topic_id,
                partition_data,
            } = topic;
            let partitions = partition_data.into_iter().map(|data| {
                let index = PartitionIndex(data.index);
                (index, check(&data, info.version, transactional, &frame))
            });
            Topic {
                name: name.to_owned_str(),
                id: topic_id,
                partitions: partitions.collect(),
            }
        });
        let topics = topics.collect();
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        Self {
            correlation_id,
            info,
            transactional_id,
            acks: request.acks,
            timeout,
            topics,
            frame,
        }
    }

    /// Appends the batches, in the order of the request.
    #[must_use]
    pub fn append(self, ctx: &Context) -> Produced {
        let Self {
            correlation_id,
            info,
            acks,
            timeout,
            topics,
            frame,
            ..
        } = self;
        let image = ctx.image();
        let quotas = &image.client_quotas;
        let throttle = ctx.client_quotas.record(
            quotas,
            QuotaKind::Produce,
            info.client_id(),
            frame.len() as u64,
        );
        let busy = ClientQuotas::begin(quotas, info.client_id());
        let mut records = FrameRecords::new(frame);
        let deadline = Instant::now() + timeout;
        let by_id = info.version >= TOPIC_ID_VERSION_MIN;
        let topics = topics.into_iter().map(|topic| {
            let found = find_topic(&image, &topic.name, by_id.then_some(topic.id));
            let partitions = topic.partitions.into_iter().map(|(index, batch)| {
                let accepted = parse_acks(acks, &ctx.config).and_then(|acks| {
                    let batch = batch?;
                    let bytes = records.take(batch.range);
                    let partition = find_partition(ctx, &image, found?, index)?;
                    append(
                        &partition,
                        ProducedBatch {
                            header: batch.header,
                            bytes,
                            leader_epoch: None,
                            guard: batch.guard,
                        },
                        acks,
                    )
                });
                (index, accepted)
            });
            Topic {
                name: topic.name,
                id: topic.id,
                partitions: partitions.collect(),
            }
        });
        let topics = topics.collect();
        let busy = ctx.client_quotas.end(busy);
        Produced {
            correlation_id,
            info,
            acks,
            deadline,
            topics,
            throttle: throttle.max(busy),
        }
    }
}

fn parse_acks(acks: i16, config: &BrokerConfig) -> Result<Acks, Refusal> {
    match acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        2.. if config.flag("klamm.acks.counted.enable") => {
            Ok(Acks::Counted(usize::from(acks.unsigned_abs())))
        }
        2.. => Err(Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            "acks must be 0, 1 or -1 (all) unless klamm.acks.counted.enable is set",
        )),
        _ => Err(Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            "acks must be 0, 1 or -1 (all)",
        )),
    }
}

fn find_topic(image: &Image, name: &Str, id: Option<Uuid>) -> Result<TopicId, ErrorCode> {
    let topic = match id {
        Some(id) => image
            .topics
            .get(&topic_id(id))
            .ok_or(ErrorCode::UnknownTopicId)?,
        None => image
            .topic_by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?,
    };
    // Only brokers write there; Kafka answers so, too.
    if topic.internal {
        Err(ErrorCode::InvalidTopicException)
    } else {
        Ok(topic.id)
    }
}

fn find_partition(
    ctx: &Context,
    image: &Image,
    topic: TopicId,
    partition: PartitionIndex,
) -> Result<Arc<Partition>, ErrorCode> {
    find_hosted(ctx, image, TopicPartition { topic, partition })
}

fn append(
    partition: &Arc<Partition>,
    batch: ProducedBatch,
    acks: Acks,
) -> Result<Accepted, Refusal> {
    let (producer_id, producer_epoch) = (batch.header.producer_id, batch.header.producer_epoch);
    let appended = partition.append(batch, acks).inspect_err(|error| {
        tracing::debug!(%partition, producer_id, producer_epoch, %error, "batch refused");
    })?;
    Ok(Accepted {
        base_offset: appended.base_offset.map(|offset| offset.0),
        log_append_time_ms: appended.log_append_time.map_or(-1, |time| time.0),
        log_start_offset: appended.log_start.0,
        acknowledged: appended.acknowledged,
    })
}

impl Produced {
    /// How long the connection is not listened to after this request.
    #[must_use]
    pub const fn throttle(&self) -> Duration {
        self.throttle
    }

    /// Waits for the acknowledgements.
    pub async fn answer(mut self, ctx: &Context) -> ProduceAnswer {
        for topic in &mut self.topics {
            for (_, accepted) in &mut topic.partitions {
                if let Err(code) = acknowledge(accepted, self.deadline).await {
                    *accepted = Err(code.into());
                }
            }
        }
        if self.acks == 0 {
            let failed = self.refusals().next();
            return failed.map_or(ProduceAnswer::Nothing, ProduceAnswer::Close);
        }
        let reply = ReplyTo {
            correlation_id: self.correlation_id,
            version: self.info.version,
        };
        ProduceAnswer::Reply(reply.with(ApiKey::Produce, &self.into_response(ctx)))
    }

    fn refusals(&self) -> impl Iterator<Item = ErrorCode> {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter_map(|(_, accepted)| Some(accepted.as_ref().err()?.code))
    }

    fn into_response(self, ctx: &Context) -> ProduceResponse {
        let image = ctx.image();
        let mut leaders = CurrentLeaders::new(&image, &self.info.listener);
        let responses = self.topics.into_iter().map(|topic| {
            let id = if self.info.version >= TOPIC_ID_VERSION_MIN {
                Some(topic_id(topic.id))
            } else {
                image.topic_ids.get(&*topic.name).copied()
            };
            let partition_responses = topic.partitions.into_iter().map(|(index, accepted)| {
                let id = id.map(|topic| TopicPartition {
                    topic,
                    partition: index,
                });
                partition_response(index, accepted, id, &mut leaders)
            });
            let partition_responses = partition_responses.collect();
            TopicProduceResponse {
                name: topic.name,
                topic_id: topic.id,
                partition_responses,
            }
        });
        let responses = responses.collect();
        let node_endpoints = leaders.endpoints().map(|leader| NodeEndpoint {
            node_id: leader.id.0,
            host: leader.endpoint.host.clone().into(),
            port: leader.endpoint.port.cast_signed(),
            rack: leader.rack.map(|rack| rack.to_owned().into()),
        });
        ProduceResponse {
            responses,
            node_endpoints: node_endpoints.collect(),
            throttle_time_ms: throttle_ms(self.throttle),
        }
    }
}

/// Waits until the batch may be acknowledged.
async fn acknowledge(
    accepted: &mut Result<Accepted, Refusal>,
    deadline: Instant,
) -> Result<(), ErrorCode> {
    let Ok(Accepted {
        acknowledged: Some(receiver),
        ..
    }) = accepted
    else {
        return Ok(());
    };
    match timeout_at(deadline, receiver).await {
        Ok(Ok(())) => Ok(()),
        // Leadership was lost; whether the records survive, the new leader knows.
        Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

fn partition_response(
    index: PartitionIndex,
    accepted: Result<Accepted, Refusal>,
    id: Option<TopicPartition>,
    leaders: &mut CurrentLeaders<'_>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse {
        index: index.0,
        ..Default::default()
    };
    match accepted {
        Ok(accepted) => PartitionProduceResponse {
            // Clients take the duplicate for a success whose offset they don't get to know.
            error_code: match accepted.base_offset {
                Some(_) => ErrorCode::None,
                None => ErrorCode::DuplicateSequenceNumber,
            },
            base_offset: accepted.base_offset.unwrap_or(-1),
            log_append_time_ms: accepted.log_append_time_ms,
            log_start_offset: accepted.log_start_offset,
            ..response
        },
        Err(refusal) => {
            let leader = id.and_then(|id| leaders.name(refusal.code, id));
            let current_leader = leader.map(|(leader, epoch)| LeaderIdAndEpoch {
                leader_id: leader.0,
                leader_epoch: epoch.0,
            });
            PartitionProduceResponse {
                error_code: refusal.code,
                base_offset: -1,
                error_message: refusal.message.map(Str::from),
                current_leader: current_leader.unwrap_or_default(),
                ..response
            }
        }
    }
}
