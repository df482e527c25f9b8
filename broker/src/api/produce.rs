//! Produce (KIP-98, KIP-467, KIP-951): record batches from clients into partitions.
//!
//! Two phases. [`ProduceCall::append`] checks and appends every batch at once, so that the order of
//! a connection's requests is the order of their records; [`Produced::answer`] waits until the
//! records are replicated as `acks` demands. In between, the connection appends further requests.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use broker_core::partition::Acks;
use broker_core::{PartitionIndex, TopicPartition};
use broker_wire::message::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use broker_wire::message::{ProduceRequest, ProduceResponse};
use broker_wire::record::{BatchHeader, Compression, verify_crc};
use broker_wire::{ApiKey, ErrorCode, Str, Uuid};
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::context::{Context, RequestInfo, topic_id};
use super::current_leader::CurrentLeaders;
use super::error::KafkaError;
use super::lookup::find_hosted;
use super::{Reply, ReplyTo};
use crate::partition::{Partition, ProducedBatch};

/// Position of a batch's magic byte, in this format and the older ones.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// First version that allows zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;
/// First version with topic ids (KIP-516).
const TOPIC_ID_VERSION_MIN: i16 = 13;

/// A decoded request whose records are still in its frame.
pub struct ProduceCall {
    correlation_id: i32,
    info: RequestInfo,
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

/// A batch that passed every check that needs no partition.
struct Batch {
    header: BatchHeader,
    /// Where in the frame it lies.
    range: Range<usize>,
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
}

/// A batch that was appended, or had been before.
struct Accepted {
    base_offset: i64,
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
        let transactional = request.transactional_id.is_some();
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
        } = self;
        let mut records = FrameRecords::new(frame);
        let deadline = Instant::now() + timeout;
        let by_id = info.version >= TOPIC_ID_VERSION_MIN;
        let topics = topics.into_iter().map(|topic| {
            let found = find_topic(ctx, &topic.name, by_id.then_some(topic.id));
            let partitions = topic.partitions.into_iter().map(|(index, batch)| {
                let accepted = parse_acks(acks).and_then(|acks| {
                    let batch = batch?;
                    let bytes = records.take(batch.range);
                    let partition = find_partition(ctx, found.as_ref()?, index)?;
                    append(
                        &partition,
                        ProducedBatch {
                            header: batch.header,
                            bytes,
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
        Produced {
            correlation_id,
            info,
            acks,
            deadline,
            topics,
        }
    }
}

fn parse_acks(acks: i16) -> Result<Acks, Refusal> {
    match acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            "acks must be 0, 1 or -1 (all)",
        )),
    }
}

/// Checks what a client may send: exactly one whole, undamaged batch of data records.
fn check(
    data: &PartitionProduceData,
    version: i16,
    transactional: bool,
    frame: &Bytes,
) -> Result<Batch, Refusal> {
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::InvalidRecord, message));
    let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else {
        return refuse("a partition needs exactly one record batch");
    };
    if records.get(MAGIC_AT).is_some_and(|magic| *magic < MAGIC) {
        let message =
            "message formats before v2 are not supported; use a client of Kafka 0.11 or later";
        return Err(Refusal::new(
            ErrorCode::UnsupportedForMessageFormat,
            message,
        ));
    }
    let header = BatchHeader::parse(records)?;
    if header.total_len() != records.len() {
        return refuse("a partition needs exactly one record batch");
    }
    verify_crc(records)?;
    if transactional || header.is_transactional() {
        return refuse("transactions are not supported by this version of the broker");
    }
    if header.is_control() {
        return refuse("clients may not write control records");
    }
    if header.base_offset != 0 {
        return refuse("base offset must be 0");
    }
    if header.record_count < 1 || header.record_count - 1 != header.last_offset_delta {
        return refuse("record count and last offset delta contradict each other");
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return refuse("an idempotent producer must send epoch and sequence");
    }
    if header.compression() == Compression::Zstd && version < ZSTD_VERSION_MIN {
        let message = "zstd needs Produce version 7 or later";
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    // The records are a slice of the frame.
    let start = records.as_ptr() as usize - frame.as_ptr() as usize;
    Ok(Batch {
        header,
        range: start..start + records.len(),
    })
}

fn find_topic(
    ctx: &Context,
    name: &Str,
    id: Option<Uuid>,
) -> Result<broker_core::TopicId, ErrorCode> {
    let image = ctx.image();
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
    topic: Result<&broker_core::TopicId, &ErrorCode>,
    index: PartitionIndex,
) -> Result<Arc<Partition>, Refusal> {
    let id = TopicPartition {
        topic: *topic.map_err(|code| *code)?,
        partition: index,
    };
    Ok(find_hosted(ctx, &ctx.image(), id)?)
}

fn append(
    partition: &Arc<Partition>,
    batch: ProducedBatch,
    acks: Acks,
) -> Result<Accepted, Refusal> {
    let appended = partition.append(batch, acks)?;
    Ok(Accepted {
        base_offset: appended.base_offset.0,
        log_append_time_ms: appended.log_append_time.map_or(-1, |time| time.0),
        log_start_offset: appended.log_start.0,
        acknowledged: appended.acknowledged,
    })
}

/// Cuts record batches out of a frame, without copying if nothing else holds the frame.
enum FrameRecords {
    /// The rest of the frame, and where in the frame it starts.
    Owned {
        rest: BytesMut,
        start: usize,
    },
    Shared(Bytes),
}

impl FrameRecords {
    fn new(frame: Bytes) -> Self {
        match frame.try_into_mut() {
            Ok(rest) => Self::Owned { rest, start: 0 },
            Err(frame) => Self::Shared(frame),
        }
    }

    /// The bytes at `range`. Ranges are taken in ascending order.
    fn take(&mut self, range: Range<usize>) -> BytesMut {
        match self {
            Self::Owned { rest, start } => {
                // What lies before the range is freed with the last batch of the frame.
                drop(rest.split_to(range.start - *start));
                *start = range.end;
                rest.split_to(range.len())
            }
            Self::Shared(frame) => BytesMut::from(&frame[range]),
        }
    }
}

impl Produced {
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
            ..ProduceResponse::default()
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
            base_offset: accepted.base_offset,
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

#[cfg(test)]
mod tests {
    use broker_wire::record::{BatchBuilder, NewRecord};

    use super::*;

    const CRC_START: usize = 21;

    fn batch(build: impl FnOnce(BatchBuilder) -> BatchBuilder) -> Vec<u8> {
        let mut builder = build(BatchBuilder::new(0));
        for value in [b"a", b"b"] {
            builder.append(&NewRecord {
                value: Some(value),
                ..NewRecord::default()
            });
        }
        builder.build().unwrap().to_vec()
    }

    /// The code with which records are refused, their checksum being right.
    fn refused(mut records: Vec<u8>, version: i16) -> ErrorCode {
        if records.len() > CRC_START {
            let crc = crc32c(&records[CRC_START..]);
            records[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        }
        checked(records, version).map_or_else(|refusal| refusal.code, |_| ErrorCode::None)
    }

    fn checked(records: Vec<u8>, version: i16) -> Result<Batch, Refusal> {
        let frame = Bytes::from(records);
        let data = PartitionProduceData {
            index: 0,
            records: Some(frame.clone()),
        };
        check(&data, version, false, &frame)
    }

    /// CRC-32C, bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        })
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut batch = batch(|builder| builder);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    }

    #[test]
    fn only_one_whole_batch_of_data_records_is_accepted() {
        let good = batch(|builder| builder);
        assert_eq!(refused(good.clone(), 9), ErrorCode::None);
        assert_eq!(refused(batch(|b| b.producer(1, 0, 5)), 9), ErrorCode::None);

        let twice = [good.clone(), good.clone()].concat();
        let torn = good[..good.len() - 1].to_vec();
        for (what, records, code) in [
            ("empty", vec![], ErrorCode::InvalidRecord),
            ("two batches", twice, ErrorCode::InvalidRecord),
            ("torn", torn, ErrorCode::InvalidRecord),
            (
                "magic 1",
                with(16, &[1]),
                ErrorCode::UnsupportedForMessageFormat,
            ),
            (
                "magic 3",
                with(16, &[3]),
                ErrorCode::UnsupportedForMessageFormat,
            ),
            ("base offset", with(7, &[1]), ErrorCode::InvalidRecord),
            (
                "transactional",
                batch(BatchBuilder::transactional),
                ErrorCode::InvalidRecord,
            ),
            ("control", with(22, &[0x20]), ErrorCode::InvalidRecord),
            ("record count", with(60, &[3]), ErrorCode::InvalidRecord),
            ("gap", with(60, &[1]), ErrorCode::InvalidRecord),
            (
                "no sequence",
                batch(|b| b.producer(1, 0, -1)),
                ErrorCode::InvalidRecord,
            ),
        ] {
            assert_eq!(refused(records, 9), code, "{what}");
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let mut damaged = batch(|builder| builder);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(
            checked(damaged, 9).err().unwrap().code,
            ErrorCode::CorruptMessage
        );
    }

    #[test]
    fn zstd_needs_version_7() {
        let batch = batch(|builder| builder.compression(Compression::Zstd));
        assert_eq!(
            refused(batch.clone(), 6),
            ErrorCode::UnsupportedCompressionType
        );
        assert_eq!(refused(batch, 7), ErrorCode::None);
    }

    #[test]
    fn batches_of_one_frame_are_cut_out_without_copying() {
        let frame = Bytes::from(BytesMut::from(&b"..aaa.bb"[..]).to_vec());
        let start = frame.as_ptr() as usize;
        let mut records = FrameRecords::new(frame);
        let (first, second) = (records.take(2..5), records.take(6..8));
        assert_eq!((&first[..], &second[..]), (&b"aaa"[..], &b"bb"[..]));
        assert_eq!(first.as_ptr() as usize, start + 2);
        assert_eq!(second.as_ptr() as usize, start + 6);
    }

    #[test]
    fn batches_of_a_shared_frame_are_copied() {
        let frame = Bytes::from(b"..aaa".to_vec());
        let other = frame.clone();
        let mut first = FrameRecords::new(frame).take(2..5);
        first[0] = b'x';
        assert_eq!(&other[..], b"..aaa");
    }
}
