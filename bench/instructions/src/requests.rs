//! Frames as clients send them, without their length.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use broker_wire::message::fetch::{FetchPartition, FetchTopic};
use broker_wire::message::produce::{PartitionProduceData, TopicProduceData};
use broker_wire::message::{FetchRequest, ProduceRequest, RequestMessage};
use broker_wire::record::{BatchBuilder, NewRecord};
use broker_wire::{ErrorCode, Str, decode_response, encode_request};
use bytes::Bytes;
use klamm_broker::api::Reply;

/// What the requests are about.
pub(crate) const TOPIC: &str = "t";

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const LENGTH_BYTES: usize = 4;
const ACKS_LEADER: i16 = 1;
const TIMEOUT_MS: i32 = 30_000;

/// A batch of as many records as fit, at least one.
pub(crate) fn batch(record_bytes: usize, batch_bytes: usize) -> Result<Bytes> {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let value = vec![b'a'; record_bytes];
    let mut builder = BatchBuilder::new(0);
    loop {
        builder.append(&NewRecord {
            timestamp,
            value: Some(&value),
            ..NewRecord::default()
        });
        if builder.len() + record_bytes > batch_bytes {
            return Ok(builder.build()?);
        }
    }
}

/// Appends the batch to each of the partitions, and waits for no follower.
pub(crate) fn produce(partitions: Range<i32>, batch: &Bytes) -> Bytes {
    let partition_data = partitions.map(|index| PartitionProduceData {
        index,
        records: Some(batch.clone()),
    });
    let request = ProduceRequest {
        transactional_id: None,
        acks: ACKS_LEADER,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: Str::from_static(TOPIC),
            partition_data: partition_data.collect(),
            ..TopicProduceData::default()
        }],
    };
    frame(PRODUCE_VERSION, &request)
}

/// Asks for so many bytes from the start of partition 0.
pub(crate) fn fetch(bytes: usize) -> Bytes {
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: bytes as i32,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Str::from_static(TOPIC),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: 0,
                partition_max_bytes: bytes as i32,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    frame(FETCH_VERSION, &request)
}

/// Whether all batches were appended.
pub(crate) fn check_produced(reply: &Reply) -> Result<()> {
    let frame = reply.frame.bytes.slice(LENGTH_BYTES..);
    let (_, response) = decode_response::<ProduceRequest>(frame, PRODUCE_VERSION)?;
    for partition in response
        .responses
        .iter()
        .flat_map(|t| &t.partition_responses)
    {
        let code = partition.error_code;
        ensure!(code == ErrorCode::None, "a batch is refused: {code:?}");
    }
    Ok(())
}

/// Whether so many bytes of records come.
pub(crate) fn check_fetched(reply: &Reply, bytes: usize) -> Result<()> {
    let fetched: usize = reply.slices.iter().map(|slice| slice.len).sum();
    ensure!(fetched == bytes, "{fetched} instead of {bytes} bytes");
    Ok(())
}

fn frame<R: RequestMessage>(version: i16, request: &R) -> Bytes {
    let client = Str::from_static("instructions");
    encode_request(version, 0, Some(&client), request).slice(LENGTH_BYTES..)
}
